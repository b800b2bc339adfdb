"""Linformer against dense attention, the paper's formula and the linformer package."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnbuild import DataError, build_attention
from attnbuild.attention.block import AttentionBlock

DIM, N = 16, 7
SHARES = ["none", "heads", "key_value"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def split(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("heads", [{"heads": 4}, {"heads": 4, "kv_heads": 2}])
@pytest.mark.parametrize("share", SHARES)
def test_equals_dense_at_full_rank_with_identity_projections(share: str, heads: dict[str, int]) -> None:
    query, memory = draw(2, 5, DIM), draw(2, N, DIM, seed=1)
    layer = build_attention(
        "linformer", dim=DIM, memory_dim=DIM, share=share, projected_len=N, max_len=N, **heads
    ).double()
    dense = build_attention("multihead", dim=DIM, memory_dim=DIM, **heads).double()
    for name in ("query", "key", "value"):
        getattr(dense, f"{name}_projection").weight.data = getattr(layer.core, f"{name}_projection").weight
    dense.out_projection = layer.out_projection
    for slots in (layer.core.key_slots, layer.core.value_slots):
        if slots is not None:
            slots.data = torch.eye(N, dtype=torch.float64).expand_as(slots).clone()
    torch.testing.assert_close(layer(query, memory), dense(query, memory))
    _, weights = layer(query, memory, need_weights=True)
    torch.testing.assert_close(weights, dense(query, memory, need_weights=True)[1])


@pytest.mark.parametrize("share", SHARES)
def test_equals_the_paper(share: str) -> None:
    """Equation 7, head by head: softmax(Q (E K)' / sqrt(d)) F V, with padding that was never there."""
    heads, kv_heads, width, rank = 4, 2, DIM // 4, 3
    layer = build_attention(
        "linformer", dim=DIM, heads=heads, kv_heads=kv_heads, share=share, projected_len=rank, max_len=20
    ).double()
    core, states, lengths = layer.core, draw(2, N, DIM), (N, 4)
    padding = torch.arange(N) >= torch.tensor(lengths).unsqueeze(1)
    expected = torch.zeros(2, N, DIM, dtype=torch.float64)
    for row, length in enumerate(lengths):
        for head in range(heads):
            group = head // (heads // kv_heads)
            keys, queries = slice(group * width, (group + 1) * width), slice(head * width, (head + 1) * width)
            query = states[row] @ core.query_projection.weight[queries].T
            key = states[row, :length] @ core.key_projection.weight[keys].T
            value = states[row, :length] @ core.value_projection.weight[keys].T
            e, f = core.key_slots, core.key_slots if core.value_slots is None else core.value_slots
            e, f = (slots[group] if share == "none" else slots for slots in (e, f))
            weights = torch.softmax(query @ (e[:, :length] @ key).T / width**0.5, dim=-1)
            expected[row, :, queries] = weights @ (f[:, :length] @ value)
    expected = layer.out_projection(expected)
    torch.testing.assert_close(layer(states, key_padding_mask=padding), expected)


@pytest.mark.parametrize("length", [N, N - 3])
def test_equals_the_linformer_package(length: int) -> None:
    package = pytest.importorskip("linformer")
    twin = package.LinformerSelfAttention(DIM, N, k=3, heads=4).double()
    layer = build_attention("linformer", dim=DIM, heads=4, projected_len=3, max_len=N).double()
    core = layer.core
    for mine, theirs in [
        (core.query_projection.weight, twin.to_q.weight),
        (core.key_projection.weight, twin.to_k.weight),
        (core.value_projection.weight, twin.to_v.weight),
        (core.key_slots, twin.proj_k.T),
        (core.value_slots, twin.proj_v.T),
    ]:
        mine.data = theirs.data.clone()
    layer.out_projection = twin.to_out
    states = draw(2, length, DIM)
    torch.testing.assert_close(layer(states), twin(states))


@pytest.mark.parametrize("share", SHARES)
def test_sharing_saves_matrices(share: str) -> None:
    layer = build_attention("linformer", dim=DIM, heads=4, projected_len=3, max_len=N, share=share)
    slots = sum(parameter.numel() for name, parameter in layer.core.named_parameters() if "slots" in name)
    assert slots == 3 * N * {"none": 8, "heads": 2, "key_value": 1}[share]


def test_slots_start_with_the_variance_of_the_paper() -> None:
    layer = build_attention("linformer", dim=DIM, projected_len=64, max_len=2000)
    assert layer.core.key_slots.var().item() == pytest.approx(1 / 64, rel=0.05)


def decode_start(layer: AttentionBlock, memory: Tensor) -> None:
    from attnbuild.memory import Memory

    layer.start(Memory(memory, None, memory.mean(dim=1)))


def test_inputs_beyond_max_len_are_refused() -> None:
    layer = build_attention("linformer", dim=DIM, memory_dim=DIM, projected_len=3, max_len=N).double()
    for call in (lambda: layer(draw(1, 2, DIM), draw(1, N + 1, DIM)), lambda: decode_start(layer, draw(1, N + 1, DIM))):
        with pytest.raises(DataError, match=f"{N + 1} positions is longer than attention.max_len={N}"):
            call()


def test_values_of_all_positions_are_never_formed() -> None:
    """What makes it lean: shared projections take the length down first."""
    layer = build_attention("linformer", dim=DIM, projected_len=3, max_len=50)
    rows: list[int] = []
    for name in ("key_projection", "value_projection"):
        part: nn.Module = getattr(layer.core, name)
        part.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[1]))
    layer(torch.randn(2, 50, DIM))
    assert rows == [3, 3]
