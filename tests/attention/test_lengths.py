"""Attentions with a longest input: what a longer one is told, and where a caller finds the limits."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import torch
from annotated_types import Ge
from torch import Tensor, nn

import attnbuild
from attnbuild import ConfigError, DataError, build_attention
from attnbuild.attention import AttentionBlock, Place, load_preset
from attnbuild.attention.build import build_block
from attnbuild.attention.lengths import Limit, longest_allowed
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.base import Position
from attnbuild.attention.state import decoded
from attnbuild.memory import Memory
from attnbuild.places import PlaceChoice, resolve_places
from attnbuild.registry import register

DIM = 8


def limited() -> list[Any]:
    """Each preset with a longest input, in self- and cross-attention, as far as it can be there."""
    found = []
    for name in attnbuild.list_names("attention"):
        for memory_dim in (None, DIM):
            try:
                layer = build_attention(name, dim=DIM, memory_dim=memory_dim)
            except ConfigError:
                continue
            if layer.max_len is not None:
                found.append(pytest.param(name, memory_dim, id=f"{name}-{'cross' if memory_dim else 'self'}"))
    return found


@pytest.mark.parametrize(("name", "memory_dim"), limited())
def test_up_to_the_limit_and_no_further(name: str, memory_dim: int | None) -> None:
    layer = build_attention(name, dim=DIM, memory_dim=memory_dim, max_len=5)
    for length in (4, 5):
        states = torch.randn(2, length, DIM)
        assert layer(states, states if memory_dim else None).isfinite().all()
    states = torch.randn(2, 6, DIM)
    told = "an input of 6 positions is longer than attention.max_len=5, and others may be longer still"
    with pytest.raises(DataError, match=told) as error:
        layer(states, states if memory_dim else None)
    assert "problem in the config" not in str(error.value)


def test_which_presets_have_a_limit() -> None:
    assert {case.values[0] for case in limited()} == {
        name for name in attnbuild.list_names("attention") if "max_len" in declared(name)
    }


def declared(name: str) -> set[str]:
    return {option["name"] for option in attnbuild.attention.describe(name)["options"]}


def test_a_decoding_may_not_begin_over_a_longer_memory() -> None:
    layer = build_attention("luong_location", dim=DIM, memory_dim=DIM, max_len=5)
    states = torch.randn(2, 6, DIM)
    with pytest.raises(DataError, match="6 positions"):
        layer.start(Memory(states, None, states[:, 0]))


def stepwise() -> list[str]:
    names = []
    for name in attnbuild.list_names("attention"):
        try:
            layer = build_attention(name, dim=DIM, causal=True)
        except ConfigError:
            continue
        if layer.spec.capabilities.incremental:
            names.append(name)
    return names


@pytest.mark.parametrize("name", stepwise())
def test_every_state_knows_how_many_positions_it_has_seen(name: str) -> None:
    """Also those that forget: the limit is on what was decoded, not on what is kept."""
    layer = build_attention(name, dim=DIM, causal=True)
    token = torch.randn(2, 1, DIM)
    state = layer.start(Memory(token, None, token[:, 0]))
    for step in range(4):
        assert decoded(state) == step
        _, state = layer.step(token, state, 2)


class Counted(Position):
    """A learned bias of each key's position, as a user may write it."""

    def __init__(self, place: HeadPlace, *, max_len: Annotated[int, Ge(1)] = 3) -> None:
        super().__init__(place)
        self.max_len: int = max_len
        self.table = nn.Parameter(torch.zeros(max_len))

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return self.table[key_positions]


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("core", ["soft", "hard"])
def test_a_position_of_the_users_own_is_held_to_its_limit(core: str) -> None:
    register("position", "counted")(Counted)
    layer = build_attention({"type": core, "position": "counted"}, dim=DIM, causal=True).eval()
    assert layer.max_len == 3
    states = torch.randn(1, 4, DIM)
    with pytest.raises(DataError, match="an input of 4 positions"):
        layer(states)
    state = layer.start(Memory(states, None, states[:, 0]))
    for step in range(3):
        _, state = layer.step(states[:, step : step + 1], state, 1)
    with pytest.raises(DataError, match="an input of 4 positions"):
        layer.step(states[:, 3:], state, 1)


# Where the limit was set


def choices(**sections: Any) -> dict[str, PlaceChoice]:
    """The places of a Transformer with Linformer for all, but for what is given."""
    config = {
        "attention": load_preset("linformer"),
        "encoder": {"type": "transformer", "layers": 2},
        "decoder": {"type": "transformer", "layers": 1},
    }
    for path, section in sections.items():
        part, _, place = path.partition("__")
        config[part][place] = section
    places = resolve_places(config)
    assert not places.problems, places.problems
    return places.choices


def block(choice: PlaceChoice, place: str, layer: int = 0) -> AttentionBlock:
    return build_block(choice.for_layer(layer), Place(place, DIM, DIM, layer, **vars(choice.kind)))


@pytest.mark.parametrize(
    ("sections", "place", "path"),
    [
        ({}, "encoder.attention", "attention.max_len=1024"),
        ({}, "decoder.cross_attention", "attention.max_len=1024"),
        ({"encoder__attention": {"max_len": 7}}, "encoder.attention", "encoder.attention.max_len=7"),
        (
            {"decoder__cross_attention": load_preset("luong_location")},
            "decoder.cross_attention",
            "decoder.cross_attention.max_len=256",
        ),
        (
            {"encoder__attention_by_layer": {0: "cosformer"}},
            "encoder.attention",
            "encoder.attention_by_layer.0.max_len=512",
        ),
    ],
    ids=["root", "root, across", "place's option", "place's preset", "layer"],
)
def test_the_path_that_sets_it_is_named(sections: dict[str, Any], place: str, path: str) -> None:
    layer = block(choices(**sections)[place], place)
    assert layer.max_len is not None
    states = torch.randn(1, layer.max_len + 1, DIM)
    with pytest.raises(DataError, match=f"^{place}: .*longer than {path}, .*: set {path.partition('=')[0]} to"):
        layer(states, states if layer.place.cross else None)


def test_limits_of_a_model() -> None:
    """Each once, however many layers share it; attentions of any length have none."""
    own = {"decoder__cross_attention": {**load_preset("luong_location"), "max_len": 9}}
    found = choices(**own, encoder__attention_by_layer={1: "cosformer"})
    model = nn.ModuleList(
        [
            nn.ModuleList([block(found["encoder.attention"], "encoder.attention", layer) for layer in (0, 1, 0)]),
            block(found["decoder.self_attention"], "decoder.self_attention"),
            block(found["decoder.cross_attention"], "decoder.cross_attention"),
        ]
    )
    assert longest_allowed(model) == [
        Limit("attention.max_len", 1024, "encoder.attention"),
        Limit("encoder.attention_by_layer.1.max_len", 512, "encoder.attention"),
        Limit("decoder.cross_attention.max_len", 9, "decoder.cross_attention"),
    ]
    assert longest_allowed(build_attention("multihead", dim=DIM)) == []
