"""``attnbuild show OVERRIDES``: the config, the places, the modules and the parameters they compose to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from attnbuild.cli.arguments import parse_flags
from attnbuild.cli.backends import print_backends
from attnbuild.cli.check import require_right
from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.cost import HELP as COST_HELP
from attnbuild.cli.cost import assemble, print_cost, read_size
from attnbuild.cli.names import check_names
from attnbuild.cli.origin import located

if TYPE_CHECKING:
    from torch import nn

__all__ = ["HELP", "run"]

HELP = f"""\
attnbuild show [OVERRIDE ...] [length=64] [sentences=8]: what overrides compose to, without training or
reading data, and what it costs.

{COST_HELP}

Overrides are those of `attnbuild train`: attention=window encoder=rnn attention.window=4."""


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: the overrides cannot work.
    """
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    flags = parse_flags(words)
    size, typed = read_size(flags.overrides)
    with open_loader(flags.config_dir, typed) as loader:
        overrides = check_names(loader, typed)
        composed = compose(loader, overrides)
        with located(loader, overrides):
            config = resolve(composed, composed.hydra.runtime.choices)
            require_right(config)
    print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    _print_places(config)
    print_cost(config, size, _print_modules(config))
    return 0


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


def _print_modules(config: Mapping[str, Any]) -> int:
    """Backends and the module tree, of a model on no device: nothing is allocated. Returns the count of parameters."""
    from attnbuild.cli.tables import console, table

    model, vocabulary = assemble(config, "meta")
    print_backends(model)
    console().print(table(("module", "what it is", "parameters"), _tree(model, "model", 0)))
    print(f"\n{_parameters(model):,} parameters, shared ones counted once, with a vocabulary of {vocabulary:,}")
    return _parameters(model)


def _tree(module: nn.Module, name: str, depth: int) -> Iterator[tuple[str, str, str]]:
    yield "  " * depth + name, f"{type(module).__name__}({module.extra_repr()})", f"{_parameters(module):,}"
    for inner_name, inner in module.named_children():
        yield from _tree(inner, inner_name, depth + 1)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
