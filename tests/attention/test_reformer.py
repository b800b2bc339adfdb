"""Reformer against dense shared-QK attention, the paper's rounds written out, and reformer_pytorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild import ConfigError, build_attention
from attnbuild.attention.backends import sorted_chunks
from attnbuild.attention.block import AttentionBlock

DIM, HEADS = 16, 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(**options: Any) -> AttentionBlock:
    torch.manual_seed(3)
    return build_attention("reformer", dim=DIM, **{"heads": HEADS, **options}).double()


def split(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def dense(layer: AttentionBlock, states: Tensor, real: int) -> Tensor:
    """Shared-QK attention over the first ``real`` positions of (1, N, D), itself left out, before the output."""
    query = split(layer.query_projection(states[:, :real]), layer.heads)
    value = split(layer.value_projection(states[:, :real]), layer.kv_heads)
    value = value.repeat_interleave(layer.heads // layer.kv_heads, dim=1)
    scores = query @ F.normalize(query, dim=-1).transpose(-2, -1) / math.sqrt(query.shape[-1])
    if real > 1:
        scores = scores.masked_fill(torch.eye(real, dtype=torch.bool), -torch.inf)
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("options", [{}, {"heads": 4, "kv_heads": 2}])
def test_one_chunk_over_all_is_dense_attention(length: int, options: dict[str, int]) -> None:
    layer, states = build(chunk_len=9, rounds=3, hash_buckets=4, **options), draw(1, length, DIM)
    torch.testing.assert_close(layer(states), layer.out_projection(dense(layer, states, length)))


def test_one_chunk_over_all_equals_reformer_pytorch() -> None:
    package = pytest.importorskip("reformer_pytorch.reformer_pytorch")
    layer, states = build(heads=1, chunk_len=16), draw(2, 9, DIM)
    expected, weights, _ = package.FullQKAttention()(layer.query_projection(states), layer.value_projection(states))
    output, own_weights = layer(states, need_weights=True)
    torch.testing.assert_close(output, layer.out_projection(expected))
    torch.testing.assert_close(own_weights[:, 0], weights)
    torch.testing.assert_close(layer(states), output)


def test_converges_to_dense_in_rounds() -> None:
    states, errors = draw(1, 60, DIM), []
    for rounds in (1, 4, 16, 64, 256):
        layer = build(rounds=rounds, chunk_len=4, hash_buckets=8)
        expected = layer.out_projection(dense(layer, states, 60))
        errors.append(float((layer(states) - expected).detach().norm() / expected.detach().norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 < 1 < errors[0]


@pytest.mark.parametrize("chunk_len", [1, 2, 5])
def test_equals_the_rounds_of_the_paper(chunk_len: int) -> None:
    """Section 2 and appendix A in loops: each round's softmax with log N, merged by its log-sum-exp."""
    length, real, rounds, buckets, width = 11, 9, 3, 4, DIM // HEADS
    layer, states = build(rounds=rounds, chunk_len=chunk_len, hash_buckets=buckets), draw(1, 11, DIM)
    query, value = (split(part(states), HEADS)[0].detach() for part in (layer.query_projection, layer.value_projection))
    expected = torch.zeros(HEADS, length, width, dtype=torch.float64)
    for head in range(HEADS):
        sees: list[list[set[int]]] = []
        for rotation in layer.core.rotations[head]:
            turned = query[head] @ rotation.double()
            bucket = torch.cat([turned, -turned], dim=-1).argmax(dim=-1).tolist()
            order = sorted(range(real), key=lambda i, bucket=bucket: (bucket[i], i))
            chunk = {i: place // chunk_len for place, i in enumerate(order)}
            sees.append([{j for j in order if chunk[i] - 1 <= chunk[j] <= chunk[i]} for i in range(real)])
        for i in range(real):
            outputs, sums = [], []
            for seen in sees:
                scores = []
                for j in sorted(seen[i]):
                    score = float(query[head, i] @ query[head, j] / query[head, j].norm()) / math.sqrt(width)
                    times = sum(j in other[i] for other in sees)
                    scores.append(score - (1e5 if i == j else math.log(times)))
                together = torch.tensor(scores, dtype=torch.float64)
                sums.append(together.logsumexp(dim=0))
                outputs.append(together.softmax(dim=0) @ value[head, sorted(seen[i])])
            expected[head, i] = torch.stack(sums).softmax(dim=0) @ torch.stack(outputs)
    padding = torch.arange(length).unsqueeze(0) >= real
    for need_weights in (False, True):
        output = layer(states, key_padding_mask=padding, need_weights=need_weights)
        output = output[0] if isinstance(output, tuple) else output
        merged = layer.out_projection(expected.transpose(0, 1).flatten(1))
        torch.testing.assert_close(output[0, :real], merged[:real])


@pytest.mark.parametrize("scores_at_a_time", [1, 2**20])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_gradients_equal_those_of_the_naive_form(
    kv_heads: int, scores_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sorted_chunks._SCORES_AT_A_TIME, "cpu", scores_at_a_time)
    layer = build(heads=4, kv_heads=kv_heads, rounds=3, chunk_len=5, hash_buckets=6)
    states, padding = draw(3, 23, DIM), torch.arange(23) >= torch.tensor([[23], [14], [1]])
    gradients = []
    for need_weights in (False, True):
        states.requires_grad_().grad = None
        layer.zero_grad()
        output = layer(states, key_padding_mask=padding, need_weights=need_weights)
        output = output[0] if isinstance(output, tuple) else output
        (output * draw(*output.shape, seed=5)).sum().backward()
        gradients.append([states.grad, *(parameter.grad for parameter in layer.parameters())])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_zero_query_is_a_zero_key(dtype: torch.dtype) -> None:
    query, value = torch.zeros(1, 1, 4, 3, requires_grad=True, dtype=dtype), draw(1, 1, 4, 3).to(dtype)
    order = sorted_chunks.sort(torch.zeros(1, 1, 1, 4, dtype=torch.long), None, 2, 4)
    output = sorted_chunks.attend(query, value, order, 1.0)
    torch.testing.assert_close(output[0, 0, 0], value[0, 0, 1:].mean(dim=0))
    output.sum().backward()
    assert query.grad is not None
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_zeros_among_others_stay_finite_in_half_precision(dtype: torch.dtype) -> None:
    """Padding of zeros and vectors near zero, as keys of unit length: their factor is beyond the range of fp16."""
    query, value = draw(2, 1, 20, 4), draw(2, 1, 20, 4, seed=1)
    query[:, :, 12:] = 0
    query[:, :, 3] = 1e-7
    padding = torch.arange(20).unsqueeze(0).expand(2, -1) >= 12
    order = sorted_chunks.sort(torch.zeros(2, 1, 2, 20, dtype=torch.long), padding, 2, 8)
    query = query.to(dtype).double()
    exact = sorted_chunks.attend(query, value, order, 0.5)
    half = query.to(dtype).requires_grad_()
    output = sorted_chunks.attend(half, value.to(dtype), order, 0.5)
    torch.testing.assert_close(output.double(), exact, rtol=0.05, atol=0.05)
    (output.float().sum() * 1e-3).backward()
    assert half.grad is not None
    assert half.grad.isfinite().all()
    assert (half.grad[:, :, 12:] == 0).all()


def test_padding_and_other_rows_do_not_move_the_chunks() -> None:
    """Within the row at any length: what is sorted last cannot shift what comes before."""
    layer, states = build(rounds=2, chunk_len=4, hash_buckets=6), draw(3, 21, DIM)
    alone = layer(states[:1, :13])
    for longer in (14, 17, 21):
        padding = torch.arange(longer) >= torch.tensor([[13], [longer], [0]])
        output = layer(states[:, :longer], key_padding_mask=padding)
        torch.testing.assert_close(output[:1, :13], alone)


def test_rotations_hang_on_seed_place_and_layer_alone() -> None:
    def rotations(**options: Any) -> Tensor:
        torch.manual_seed(int(torch.randint(2**31, ()).item()))
        return build_attention("reformer", dim=DIM, **options).core.rotations

    assert torch.equal(rotations(), rotations())
    assert not torch.equal(rotations(), rotations(layer=1))
    assert not torch.equal(rotations(), rotations(hash_seed=1))
    heads = rotations()
    assert not torch.equal(heads[0], heads[1])


def test_rotations_are_saved() -> None:
    layer, other = build(), build(hash_seed=7)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.core.rotations, layer.core.rotations)
    with torch.device("meta"):
        layer = build_attention("reformer", dim=DIM)
        assert layer.core.rotations.is_meta
        assert layer(torch.empty(2, 9, DIM)).shape == (2, 9, DIM)


def test_odd_buckets_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose 4 or 6"):
        build(hash_buckets=5)


def test_half_precision_hashes_in_full() -> None:
    layer, states = build(chunk_len=4).float(), draw(2, 33, DIM).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(states)
        slow, _ = layer(states, need_weights=True)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, slow, rtol=0.05, atol=0.02)
    output.float().sum().backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()
