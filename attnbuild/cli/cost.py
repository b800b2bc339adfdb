"""What a composed model costs, by place: the part of ``attnbuild show`` that counts and measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbuild.errors import AttnbuildError, ConfigError, Problem

if TYPE_CHECKING:
    from attnbuild.model import EncoderDecoder

__all__ = ["HELP", "Size", "assemble", "print_cost", "read_size"]

HELP = """\
  length=64          tokens of each sentence, for FLOPs and memory
  sentences=8        how many sentences"""

#: A model with more parameters is only built for real when a length was asked for.
_LARGE = 200_000_000


@dataclass(frozen=True)
class Size:
    """The batch that cost is counted on.

    Attributes:
        length: tokens of each sentence, source and target.
        sentences: how many.
        typed: whether the user asked for one of them.
    """

    length: int = 64
    sentences: int = 8
    typed: bool = False


def read_size(words: Sequence[str]) -> tuple[Size, list[str]]:
    """Take ``length=`` and ``sentences=`` out of the words.

    Raises:
        ConfigError: one of them is no positive number.
    """
    size: dict[str, int] = {}
    rest, problems = [], []
    for word in words:
        name, _, value = word.partition("=")
        if name not in ("length", "sentences"):
            rest.append(word)
        elif value.isdecimal() and int(value) > 0:
            size[name] = int(value)
        else:
            problems.append(Problem(name, f"{value!r}: expected a whole number above 0", "command line"))
    if problems:
        raise ConfigError(problems)
    return Size(**size, typed=bool(size)), rest


def assemble(config: Mapping[str, Any], device: str) -> tuple[EncoderDecoder, int]:
    """The model of a config, on a device, and the size of its vocabulary; no data is read."""
    import torch

    from attnbuild.data.place import TokenizerPlace, default_cache_dir
    from attnbuild.model import build_model
    from attnbuild.registry import build

    tokenizer = build("tokenizer", TokenizerPlace(default_cache_dir()), config["tokenizer"], "tokenizer")
    size = tokenizer.size_hint()
    joint = config["tokenizer"].get("joint", True)
    with torch.device(device):
        return build_model(config, source_vocab=size, target_vocab=size, shared_vocabulary=joint), size


def print_cost(config: Mapping[str, Any], size: Size, parameters: int) -> None:
    """FLOPs and memory of a training step's forward and backward pass, of the model and its places.

    Args:
        config: the resolved config.
        size: of the batch.
        parameters: of the model.
    """
    from attnbuild.cli.tables import console, table

    batch = f"{size.sentences} sentences of {size.length} tokens"
    if parameters > _LARGE and not size.typed:
        print(f"\ncost was not counted, as the model is large; to count it on {batch}: length={size.length}")
        return
    try:
        rows = _rows(config, size)
    except AttnbuildError as error:
        print(f"\ncost cannot be counted on {batch}: {error}")
        return
    print(f"\ncost of a forward and a backward pass over {batch}, counted and measured on this CPU in fp32:\n")
    columns = ("place", "forward GFLOP", "backward GFLOP", "kept for backward MB", "peak MB")
    console().print(table(columns, rows))
    print(
        "\nFLOPs are those of matrix products, convolutions and fused attention. A place's peak is its largest layer's."
    )


def _rows(config: Mapping[str, Any], size: Size) -> list[Sequence[str]]:
    import torch
    import torch.nn.functional as F

    from attnbuild.measure.places import Cost, cost_by_place

    torch.manual_seed(0)
    model, vocabulary = assemble(config, "cpu")
    # The first ids are marks such as padding; a real token is any other.
    source, target = torch.randint(min(4, vocabulary - 1), vocabulary, (2, size.sentences, size.length))

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(source, target).flatten(0, 1), target.flatten())

    whole, places = cost_by_place(model, loss)
    rest = Cost(whole.forward, whole.backward, whole.kept)
    for cost in places.values():
        rest = Cost(rest.forward - cost.forward, rest.backward - cost.backward, rest.kept - cost.kept)
    named = {name.replace(".", "/"): cost for name, cost in places.items()}
    return [
        (
            name,
            f"{cost.forward / 1e9:.3g}",
            f"{cost.backward / 1e9:.3g}",
            f"{cost.kept / 2**20:.1f}",
            f"{cost.peak / 2**20:.1f}" if cost.peak else "",
        )
        for name, cost in (named | {"the rest": rest, "whole model": whole}).items()
    ]
