"""What a composed model costs, by place: the part of ``attnbuild show`` that counts and measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attnbuild.errors import AttnbuildError, ConfigError, Problem

if TYPE_CHECKING:
    from torch import Tensor

    from attnbuild.inputs import Ends, Input
    from attnbuild.measure.places import Cost
    from attnbuild.model import EncoderDecoder

__all__ = ["HELP", "Size", "assemble", "cost_record", "count_cost", "print_cost", "read_size"]

HELP = """\
  length=64          tokens of each text, for FLOPs and memory; images are of image.size
  sentences=8        how many texts or images"""

#: A model with more parameters is only built for real when a length was asked for.
_LARGE = 200_000_000

#: Names beside those of places.
_REST, _WHOLE = "the rest", "whole model"


@dataclass(frozen=True)
class Size:
    """The batch that cost is counted on.

    Attributes:
        length: tokens of each sentence, source and target.
        sentences: how many, or how many images.
        typed: whether the user asked for one of them.
        image: (height, width) in pixels where the model reads images.
    """

    length: int = 64
    sentences: int = 8
    typed: bool = False
    image: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.image is None:
            return f"{self.sentences} sentences of {self.length} tokens"
        return f"{self.sentences} images of {self.image[0]}x{self.image[1]} pixels"

    def of(self, source: Input) -> Size:
        """The same for a model that reads this."""
        height, width = getattr(source, "height", None), getattr(source, "width", None)
        return self if height is None or width is None else replace(self, image=(height, width))


def read_size(words: Sequence[str]) -> tuple[Size, list[str]]:
    """Take ``length=`` and ``sentences=`` out of the words.

    Raises:
        ConfigError: one of them is no positive number.
    """
    size: dict[str, Any] = {}
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


def assemble(config: dict[str, Any], device: str) -> tuple[EncoderDecoder, Ends]:
    """The model of a config, on a device, and what it reads and gives as far as is known without data."""
    import torch

    from attnbuild.model import build_model
    from attnbuild.training.checkpoint import build_task

    ends = build_task(config).sketch()
    with torch.device(device):
        return build_model(config, ends), ends


def count_cost(config: dict[str, Any], size: Size, parameters: int) -> dict[str, Cost] | str:
    """FLOPs and memory of a training step's forward and backward pass, or why they were not counted.

    Args:
        config: the resolved config.
        size: of the batch.
        parameters: of the model.

    Returns:
        By place (``encoder.attention``), of ``the rest`` and of the ``whole model``, in this order.
    """
    if parameters > _LARGE and not size.typed:
        return f"cost was not counted, as the model is large; to count it on {size}: length={size.length}"
    try:
        return _count(config, size)
    except AttnbuildError as error:
        return f"cost cannot be counted on {size}: {error}"


def print_cost(counted: dict[str, Cost] | str, size: Size) -> None:
    """What ``count_cost`` found, as a table."""
    from attnbuild.cli.tables import console, table

    if isinstance(counted, str):
        print(f"\n{counted}")
        return
    print(f"\ncost of a forward and a backward pass over {size}, counted and measured on this CPU in fp32:\n")
    columns = ("place", "forward GFLOP", "backward GFLOP", "kept for backward MB", "peak MB")
    console().print(table(columns, [_row(name.replace(".", "/"), cost) for name, cost in counted.items()]))
    print(
        "\nFLOPs are those of matrix products, convolutions and fused attention. A place's peak is its largest layer's."
    )


def cost_record(counted: dict[str, Cost] | str, size: Size) -> dict[str, Any]:
    """The same for programs: operations and bytes, or ``problem``."""
    record: dict[str, Any] = {"sentences": size.sentences, "length": size.length}
    if isinstance(counted, str):
        return {**record, "problem": counted}
    units = {"forward": "flops", "backward": "flops", "kept": "bytes", "peak": "bytes"}
    rows = {
        name: {f"{what}_{unit}": getattr(cost, what) for what, unit in units.items()} for name, cost in counted.items()
    }
    del rows[_REST]["peak_bytes"]  # of what is spread over the model there is none
    return {**record, "whole": rows.pop(_WHOLE), "rest": rows.pop(_REST), "places": rows}


def _row(name: str, cost: Cost) -> tuple[str, ...]:
    return (
        name,
        f"{cost.forward / 1e9:.3g}",
        f"{cost.backward / 1e9:.3g}",
        f"{cost.kept / 2**20:.1f}",
        f"{cost.peak / 2**20:.1f}" if cost.peak else "",
    )


def _count(config: dict[str, Any], size: Size) -> dict[str, Cost]:
    import torch
    import torch.nn.functional as F

    from attnbuild.measure.places import Cost, cost_by_place

    torch.manual_seed(0)
    model, ends = assemble(config, "cpu")
    source = _source(ends.source, size)
    target = [_tokens(ends.outputs, size)] if ends.writes == "text" else []

    def loss() -> torch.Tensor:
        logits = model(source, *target).flatten(0, -2)
        return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))

    whole, places = cost_by_place(model, loss)
    rest = Cost(whole.forward, whole.backward, whole.kept)
    for cost in places.values():
        rest = Cost(rest.forward - cost.forward, rest.backward - cost.backward, rest.kept - cost.kept)
    return {**places, _REST: rest, _WHOLE: whole}


def _source(source: Input, size: Size) -> Tensor:
    """Random input of a kind."""
    import torch

    from attnbuild.inputs import TextInput

    if isinstance(source, TextInput):
        return _tokens(source.vocabulary, size)
    shape = (size.sentences, source.channels, source.height, source.width)
    return torch.randint(256, shape, dtype=torch.uint8)


def _tokens(vocabulary: int, size: Size) -> Tensor:
    """Random tokens. The first ids are marks such as padding; a real token is any other."""
    import torch

    return torch.randint(min(4, vocabulary - 1), vocabulary, (size.sentences, size.length))
