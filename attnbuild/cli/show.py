"""``attnbuild show OVERRIDES``: the config, the places, the modules and the parameters they compose to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from attnbuild.cli.arguments import parse_flags
from attnbuild.cli.backends import chosen_backends, print_backends
from attnbuild.cli.check import require_right
from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.cost import HELP as COST_HELP
from attnbuild.cli.cost import Size, assemble, cost_record, count_cost, print_cost, read_size
from attnbuild.cli.exports import export_refusals, print_exports
from attnbuild.cli.names import check_names
from attnbuild.cli.origin import located

if TYPE_CHECKING:
    from torch import nn

    from attnbuild.inputs import Ends

__all__ = ["HELP", "run"]

#: Asks for one JSON object instead.
_JSON = "--json"

HELP = f"""\
attnbuild show [OVERRIDE ...] [length=64] [sentences=8] [{_JSON}]: what overrides compose to, without training or
reading data, and what it costs.

{COST_HELP}
  {_JSON}             one object for programs: config, places, backends, parameters, cost

Overrides are those of `attnbuild train`: attention=window encoder=rnn attention.window=4."""


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: the overrides cannot work.
    """
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    flags = parse_flags([word for word in words if word != _JSON])
    size, typed = read_size(flags.overrides)
    with open_loader(flags.config_dir, typed) as loader:
        overrides = check_names(loader, typed)
        composed = compose(loader, overrides)
        with located(loader, overrides):
            config = resolve(composed, composed.hydra.runtime.choices)
            require_right(config)
    (_print_record if _JSON in words else _print_all)(config, size)
    return 0


def _print_all(config: dict[str, Any], size: Size) -> None:
    print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    _print_places(config)
    model, ends = assemble(config, "meta")
    print_backends(chosen_backends(model, config["trainer"]))
    print_exports(export_refusals(model))
    _print_modules(model, ends)
    size = size.of(ends.source)
    print_cost(count_cost(config, size, _parameters(model)), size)


def _print_record(config: dict[str, Any], size: Size) -> None:
    """The same as one JSON object."""
    from attnbuild.places import resolve_places

    model, ends = assemble(config, "meta")
    record = {
        "config": config,
        "places": {place: choice.summary() for place, choice in resolve_places(config).choices.items()},
        "backends": [choice.record() for choice in chosen_backends(model, config["trainer"])],
        "export": export_refusals(model),
        "parameters": _parameters(model),
        "outputs": ends.outputs,
        "cost": cost_record(count_cost(config, size, _parameters(model)), size),
    }
    json.dump(record, sys.stdout, indent=2, ensure_ascii=False)
    print()


def _print_places(config: Mapping[str, Any]) -> None:
    """Which preset serves which place of the model, and why one kept the fallback."""
    from attnbuild.cli.tables import console, table
    from attnbuild.places import resolve_places

    choices = resolve_places(config).choices
    rows = []
    for place, choice in choices.items():
        rows.append((place.replace(".", "/"), choice.preset, choice.reason or ""))
        rows += [(f"  layer {layer}", spec.preset or spec.core.name, "") for layer, spec in choice.by_layer.items()]
    console().print(table(("place", "attention", "why"), rows))
    print()


def _print_modules(model: nn.Module, ends: Ends) -> None:
    """The module tree, of a model on no device: nothing is allocated."""
    from attnbuild.cli.tables import console, table

    console().print(table(("module", "what it is", "parameters"), _tree(model, "model", 0)))
    what = f"a vocabulary of {ends.outputs:,}" if ends.writes == "text" else f"{ends.outputs} {ends.writes} assumed"
    print(f"\n{_parameters(model):,} parameters, shared ones counted once, with {what}")


def _tree(module: nn.Module, name: str, depth: int) -> Iterator[tuple[str, str, str]]:
    yield "  " * depth + name, f"{type(module).__name__}({module.extra_repr()})", f"{_parameters(module):,}"
    for inner_name, inner in module.named_children():
        yield from _tree(inner, inner_name, depth + 1)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
