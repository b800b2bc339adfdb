"""The convolutional encoder: shapes, the residual block, feature attention within it; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from attnbuild import ConfigError, list_names
from attnbuild.encoders.base import Encoder
from tests.encoders.places import encoder, image, pixels

SMALL: dict[str, Any] = {"dim": 12, "width": 4, "blocks": [1, 1]}


def build(size: tuple[int, int] = (16, 16), channels: int = 3, **options: Any) -> Encoder:
    return encoder(image(*size, channels), type="cnn", **{**SMALL, **options})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "stem", "blocks", "grid"),
    [
        ((28, 28), 1, [1, 1, 1], (7, 7)),
        ((32, 40), 1, [2, 1], (16, 20)),
        ((64, 64), 2, [1, 1, 1], (8, 8)),
        ((224, 224), 4, [1, 1, 1, 1], (7, 7)),
        ((33, 17), 2, [1, 1], (9, 5)),
    ],
)
def test_memory(size: tuple[int, int], stem: int, blocks: list[int], grid: tuple[int, int], channels: int) -> None:
    model = build(size, channels, stem=stem, blocks=blocks)
    memory = model(pixels(2, channels, *size))
    assert memory.grid == grid
    assert memory.states.shape == (2, grid[0] * grid[1], 12)
    assert memory.key_padding_mask is None
    assert not model.own_summary
    torch.testing.assert_close(memory.summary, memory.states.mean(dim=1))


def test_a_block_is_the_paper_s() -> None:
    """relu(BN(conv(relu(BN(conv x)))) + BN(conv 1x1 x)), written out, in evaluation."""
    model = build()
    block = model.blocks[1]
    features = torch.randn(2, 4, 6, 6)

    def convolve(part: Any, given: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        convolution, norm = part
        found = F.conv2d(given, convolution.weight, stride=stride, padding=padding)
        return (found - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()

    inner = convolve(block.first, features, 2, 1).relu()
    expected = (convolve(block.second, inner, 1, 1) + convolve(block.shortcut, features, 2, 0)).relu()
    torch.testing.assert_close(block(features), expected, rtol=1e-4, atol=1e-5)


def test_with_width_16_and_three_blocks_a_stage_it_is_resnet_20() -> None:
    """Of its 269,722 parameters (table 6: 0.27 million), with shortcuts that have none, 650 are the classifier's."""
    model = build((32, 32), dim=64, width=16, blocks=[3, 3, 3])
    shortcuts = sum(value.numel() for name, value in model.named_parameters() if "shortcut" in name)
    assert shortcuts == 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert sum(value.numel() for value in model.parameters()) - shortcuts == 269_722 - 650
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sum(module.kernel_size == (3, 3) for module in convolutions) == 19


@pytest.mark.parametrize("name", list_names("feature_attention"))
def test_every_block_has_the_feature_attention(name: str) -> None:
    model = build(feature_attention=name, blocks=[2, 1]).train()
    kinds = [type(block.attention) for block in model.blocks]
    assert len(kinds) == 3
    assert len(set(kinds)) == 1
    memory = model(pixels(4, 3, 16, 16))
    (memory.states**2).sum().backward()
    assert [
        key for key, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()
    ] == []


def test_feature_attention_stands_within_the_branch() -> None:
    """Before what goes around is added: with a gate that is shut, only that is left."""
    model = build(feature_attention="se", blocks=[1])
    block, features = model.blocks[0], torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        block.attention.excite.weight.zero_()
        block.attention.excite.bias.fill_(-1e9)
    torch.testing.assert_close(block(features), features.relu())


def test_options_of_the_feature_attention() -> None:
    model = build(feature_attention={"type": "cbam", "reduction": 2, "kernel": 3})
    assert model.blocks[0].attention.cells.kernel_size == (3, 3)
    assert model.blocks[0].attention.squeeze.out_features == 2


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("cbm", r"encoder\.feature_attention  unknown feature_attention 'cbm'; did you mean 'cbam'"),
        ({"type": "cbm"}, r"encoder\.feature_attention\.type  unknown feature_attention 'cbm'"),
        ({"reduction": 2}, r"encoder\.feature_attention\.type  is missing"),
        ({"type": "se", "reductoin": 2}, r"encoder\.feature_attention\.reductoin  .*did you mean 'reduction'"),
        ({"type": "se", "reduction": 0}, r"encoder\.feature_attention\.reduction  0: .*greater than or equal to 1"),
        ({"type": "cbam", "kernel": 4}, r"encoder\.feature_attention\.kernel  4 is even.*3 or 5"),
        ({"type": "eca", "kernel": 4}, r"encoder\.feature_attention\.kernel  4 is even"),
        (3, r"encoder\.feature_attention  3: "),
    ],
)
def test_mistakes_in_the_feature_attention_are_told_at_its_path(chosen: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(feature_attention=chosen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": []}, r"encoder\.blocks  .*at least 1"),
        ({"blocks": [1, 0]}, r"encoder\.blocks  .*greater than or equal to 1"),
        ({"stem": 3}, r"encoder\.stem  3: .*1, 2 or 4"),
        ({"blocks": [1] * 6}, r"encoder\.blocks  6 stages .*image\.size.*less than one"),
    ],
)
def test_mistakes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_layout_in_memory_changes_nothing() -> None:
    model, source = build(), pixels(2, 3, 16, 16)
    last = source.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(last).states, model(source).states)


def test_in_evaluation_a_batch_equals_its_rows() -> None:
    model, source = build(feature_attention="coordinate"), pixels(3, 3, 16, 16)
    whole = model(source).states
    for row in range(3):
        torch.testing.assert_close(model(source[row : row + 1]).states[0], whole[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 16])
def test_backward_of_any_width(width: int) -> None:
    """A stride of a 1x1 convolution has crashed the process at 8 channels."""
    model = build((64, 64), width=width).train()
    model(pixels(2, 3, 64, 64)).states.square().sum().backward()
    assert all(value.grad.isfinite().all() for value in model.parameters())


def test_learns_stripes() -> None:
    """Stripes that run across or down, from 30 steps."""
    torch.manual_seed(0)
    model = build().train()
    head = torch.nn.Linear(12, 2)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.01)
    label = torch.arange(16) % 2
    stripes = (torch.arange(16) // 2 % 2 * 200).to(torch.uint8)
    source = torch.stack([(stripes if down else stripes.unsqueeze(1)).expand(3, 16, 16) for down in label.tolist()])
    source = (source + torch.randint(0, 50, source.shape)).to(torch.uint8)
    for _ in range(30):
        loss = F.cross_entropy(head(model(source).summary), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
