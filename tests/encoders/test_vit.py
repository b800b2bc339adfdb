"""The vision Transformer: patches, positions, class token; any attention; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from attnbuild import ConfigError, list_names
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec
from attnbuild.embedding import sinusoids, sinusoids2d
from attnbuild.encoders.base import Encoder
from attnbuild.residual import DropPath
from tests.encoders.places import Maker, encoder, image, pixels

SMALL: dict[str, Any] = {"dim": 8, "layers": 2, "feedforward": 16}
SERVING = [
    name
    for name in list_names("attention")
    if AttentionSpec.from_config(load_preset(name)).capabilities.refusal(PlaceKind(cells=True)) is None
]


def build(preset: str | Maker = "multihead", height: int = 16, width: int = 24, **options: Any) -> Encoder:
    return encoder(image(height, width), preset, type="vit", **{**SMALL, **options})


def test_a_patch_is_one_matrix_times_its_pixels() -> None:
    model = build(positions="none")
    source = pixels(2, 3, 16, 24)
    normalised = (source.float() / 255 - 0.5) / 0.25
    cells = model.patches(model.normalise(source)).flatten(2).transpose(1, 2)
    for row in range(4):
        for column in range(6):
            patch = normalised[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten(1)
            expected = patch @ model.patches.weight.flatten(1).T + model.patches.bias
            torch.testing.assert_close(cells[:, 6 * row + column], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("positions", ["sinusoidal2d", "learned", "none"])
def test_memory(positions: str, class_token: bool) -> None:
    model = build(positions=positions, class_token=class_token)
    memory = model(pixels(2, 3, 16, 24))
    assert memory.grid == (4, 6)
    assert memory.key_padding_mask is None
    assert memory.states.shape == (2, 24, 8)
    assert model.own_summary == class_token
    assert torch.allclose(memory.summary, memory.states.mean(dim=1), atol=1e-6) != class_token


@pytest.mark.parametrize("positions", ["sinusoidal2d", "learned"])
def test_positions_tell_patches_apart(positions: str) -> None:
    """Without them an image of equal patches gives equal states."""
    source = torch.full((1, 3, 16, 24), 77, dtype=torch.uint8)
    states = build(positions=positions)(source).states[0]
    assert torch.pdist(states).min() > 1e-4
    same = build(positions="none")(source).states[0]
    assert torch.pdist(same).max() < 1e-4


@pytest.mark.parametrize(("grid", "dim"), [((3, 4), 8), ((2, 5), 7), ((1, 1), 2), ((2, 2), 1)])
def test_sinusoids_of_rows_and_columns(grid: tuple[int, int], dim: int) -> None:
    cells = sinusoids2d(grid, dim)
    for row in range(grid[0]):
        for column in range(grid[1]):
            halves = [sinusoids(torch.tensor([row]), dim // 2)[0], sinusoids(torch.tensor([column]), dim - dim // 2)[0]]
            torch.testing.assert_close(cells[row * grid[1] + column], torch.cat(halves))


@pytest.mark.parametrize("preset", SERVING)
def test_any_attention_serves(preset: str) -> None:
    """Every attention of the catalogue that serves self-attention: a memory, and a gradient for every parameter."""
    model = build(preset, height=8, width=12, dim=16).train()
    memory = model(pixels(2, 3, 8, 12))
    # Not the squares: the last layer norm makes them the same whatever came before.
    loss = (memory.states**3).sum() + (memory.summary**3).sum()
    loss = loss + sum((choice.loss(-memory.summary.detach().sum(dim=1)) for choice in memory.choices), torch.zeros(()))
    loss.sum().backward()
    assert memory.states.isfinite().all()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_neighborhood_sees_the_grid_and_the_class_token() -> None:
    """One layer, windows of 3: a pixel far away reaches a cell by nothing but the class token."""
    far = Maker("neighborhood", neighborhood=3)
    for class_token in (False, True):
        model = build(far, layers=1, class_token=class_token, height=24, width=24)
        source = pixels(1, 3, 24, 24)
        moved = source.clone()
        moved[:, :, 20:, 20:] = 0
        change = (model(moved).states - model(source).states).abs().amax(dim=2).view(6, 6)
        assert (change[4:, 4:] > 0).all()
        assert (change[:4] == 0).all()
        assert (change[:, :4] == 0).all()
        assert not class_token or not torch.equal(model(moved).summary, model(source).summary)


def test_layers_may_differ_in_drop_path_only() -> None:
    model = build(layers=3, drop_path=0.2)
    assert [layer.attention_residual.drop_path.probability for layer in model.layers] == pytest.approx([0, 0.1, 0.2])


def test_drop_path_keeps_the_mean_and_whole_examples() -> None:
    torch.manual_seed(0)
    drop, ones = DropPath(0.25), torch.ones(4000, 2, 3)
    dropped = drop.train()(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped.flatten(1).amin(dim=1) == dropped.flatten(1).amax(dim=1)).all()
    assert dropped.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(ones), ones)


def test_an_image_that_patches_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.patch .*16x24.*encoder\.patch=4, or image\.size=15"):
        build(patch=5)


@pytest.mark.parametrize("preset", ["linformer", "cosformer"])
def test_an_attention_that_serves_fewer_positions_is_refused_at_once(preset: str) -> None:
    build(Maker(preset, max_len=25))
    with pytest.raises(ConfigError, match=r"attention\.max_len .*24: this encoder has 25 positions"):
        build(Maker(preset, max_len=24))


def test_same_function_as_torch_layers() -> None:
    """Against torch.nn.TransformerEncoderLayer, given the same weights."""
    model = build(Maker(heads=2), layers=1, activation="relu", positions="none")
    ours, theirs = model.layers[0], torch.nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True).eval()
    block = ours.attention
    with torch.no_grad():
        parts = [block.query_projection, block.key_projection, block.value_projection]
        theirs.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.self_attn.out_proj.load_state_dict(block.out_projection.state_dict())
    theirs.linear1.load_state_dict(ours.feedforward.expand.state_dict())
    theirs.linear2.load_state_dict(ours.feedforward.contract.state_dict())
    theirs.norm1.load_state_dict(ours.attention_residual.norm.state_dict())
    theirs.norm2.load_state_dict(ours.feedforward_residual.norm.state_dict())
    source = pixels(2, 3, 16, 24)
    cells = model.patches(model.normalise(source)).flatten(2).transpose(1, 2)
    expected = model.norm(theirs(torch.cat([model.class_token.expand(2, 1, -1), cells], dim=1)))
    memory = model(source)
    torch.testing.assert_close(memory.summary, expected[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(memory.states, expected[:, 1:], rtol=1e-4, atol=1e-5)


def test_learns_where_a_square_is() -> None:
    """A bright square in one of four corners, from 60 steps."""
    model = build(height=16, width=16, dropout=0.0).train()
    head = torch.nn.Linear(8, 4)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.01)
    label = torch.arange(16) % 4
    source = torch.randint(0, 60, (16, 3, 16, 16), dtype=torch.uint8)
    for number, corner in enumerate(label.tolist()):
        row, column = divmod(corner, 2)
        source[number, :, 8 * row + 2 : 8 * row + 6, 8 * column + 2 : 8 * column + 6] = 250
    for _ in range(60):
        loss = F.cross_entropy(head(model(source).summary), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
