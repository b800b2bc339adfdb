"""What of a model a checkpoint must hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnbuild.errors import CheckpointError
from attnbuild.training.checkpoint_fit import _fetching, _require_stored


class _Counting(nn.Module):
    """As BERT has it: positions that are made with the model and in no file."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.register_buffer("positions", torch.arange(50), persistent=False)
        self.register_buffer("mean", torch.zeros(3))


def test_buffers_that_no_file_holds_are_not_missed() -> None:
    _require_stored(_Counting(4), _Counting(4).state_dict())


def test_a_larger_model_than_the_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match="has 12 numbers, and the file 7"):
        _require_stored(_Counting(9), _Counting(4).state_dict())


def test_sizes_of_kernels_fetch_nothing() -> None:
    """EfficientNet's kernel_sizes, MobileViT's conv_kernel_size; what is switched off, or not there."""
    config = {"kernel_sizes": [3, [5, 5]], "conv_kernel_size": 3, "use_kernels": False, "_attn_implementation": None}
    assert _fetching({"type": "pretrained", "config": config}) == []


@pytest.mark.parametrize(
    "config",
    [
        {"_attn_implementation": "someone/kernels"},
        {"use_kernels": True},
        {"inner": [{"kernel_sizes": [3, "someone/kernels"]}]},
        {"backbone": {"kernel": 3}},
    ],
    ids=str,
)
def test_what_may_be_fetched_is_refused(config: dict[str, object]) -> None:
    (problem,) = _fetching({"type": "pretrained", "config": config})
    assert "names something to fetch" in problem.message
