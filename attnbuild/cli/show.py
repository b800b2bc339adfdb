"""``attnbuild show OVERRIDES``: the config, the places, the modules and the parameters they compose to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from attnbuild.cli.arguments import parse_flags
from attnbuild.cli.check import require_right
from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.names import check_names
from attnbuild.cli.origin import located

if TYPE_CHECKING:
    from torch import nn

__all__ = ["HELP", "run"]

HELP = """\
attnbuild show [OVERRIDE ...]: what overrides compose to, without training or reading data.

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
    with open_loader(flags.config_dir, flags.overrides) as loader:
        overrides = check_names(loader, flags.overrides)
        composed = compose(loader, overrides)
        with located(loader, overrides):
            config = resolve(composed, composed.hydra.runtime.choices)
            require_right(config)
    print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    _print_places(config)
    _print_modules(config)
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


def _print_modules(config: Mapping[str, Any]) -> None:
    """The module tree with parameters, of a model on no device: nothing is allocated."""
    import torch

    from attnbuild.cli.tables import console, table
    from attnbuild.data.place import TokenizerPlace, default_cache_dir
    from attnbuild.model import build_model
    from attnbuild.registry import build

    tokenizer = build("tokenizer", TokenizerPlace(default_cache_dir()), config["tokenizer"], "tokenizer")
    size = tokenizer.size_hint()
    with torch.device("meta"):
        model = build_model(
            config,
            source_vocab=size,
            target_vocab=size,
            shared_vocabulary=config["tokenizer"].get("joint", True),
        )
    console().print(table(("module", "what it is", "parameters"), _tree(model, "model", 0)))
    print(f"\n{_parameters(model):,} parameters, shared ones counted once, with a vocabulary of {size:,}")


def _tree(module: nn.Module, name: str, depth: int) -> Iterator[tuple[str, str, str]]:
    yield "  " * depth + name, f"{type(module).__name__}({module.extra_repr()})", f"{_parameters(module):,}"
    for inner_name, inner in module.named_children():
        yield from _tree(inner, inner_name, depth + 1)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
