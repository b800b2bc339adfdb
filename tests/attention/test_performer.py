"""Performer: its estimate is unbiased and converges to softmax attention; its features are exact, equal and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.core.performer import PositiveFeatures, draw_projection

D = 8


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(*, causal: bool = False, heads: int = 1, **options: object) -> AttentionBlock:
    return build_attention("performer", dim=D * heads, heads=heads, causal=causal, **options).double()


def test_the_kernel_is_unbiased() -> None:
    """E phi(q).phi(k) = exp(q.k / sqrt(d)), Choromanski et al. 2021, lemma 1: within 4 standard errors."""
    query, key = draw(1, D), draw(1, D, seed=1)
    exact = math.exp(float(query[0] @ key[0]) / math.sqrt(D))
    estimates = []
    for sample in range(4000):
        phi = PositiveFeatures(draw_projection(D, D, f"unbiased/{sample}"))
        estimates.append(torch.exp2(phi.exponents(query) + phi.exponents(key)).mean())
    found = torch.stack(estimates)
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(len(found))


def test_orthogonal_features_estimate_better_than_independent_ones() -> None:
    """Choromanski et al. 2021, theorem 2."""
    query, key, value = (draw(1, 1, 12, D, seed=seed) / 2 for seed in range(3))
    exact, core = F.scaled_dot_product_attention(query, key, value), build(features=32).core

    def error(projections: Iterable[Tensor]) -> float:
        errors = []
        for core.projection in projections:
            errors.append((core.attend(query, key, value, None).values - exact).square().mean())
        return float(torch.stack(errors).mean())

    orthogonal = error(draw_projection(32, D, str(sample)) for sample in range(100))
    assert orthogonal < error(draw(32, D, seed=sample) for sample in range(100))


@pytest.mark.parametrize("features", [1, D, D + 3, 3 * D])
def test_features_are_orthogonal_in_blocks(features: int) -> None:
    projection = draw_projection(features, D, "a")
    assert projection.shape == (features, D)
    for block in projection.split(D):
        products = block @ block.T
        torch.testing.assert_close(products, torch.diag(products.diagonal()))


@pytest.mark.parametrize("causal", [False, True])
def test_converges_to_softmax_attention(causal: bool) -> None:
    """The error shrinks like the root of the number of features: by 4 where they are 16 times as many."""
    query, key, value = (draw(1, 1, 12, D, seed=seed) / 4 for seed in range(3))
    exact = F.scaled_dot_product_attention(query, key, value, is_causal=causal)

    def error(features: int) -> float:
        layers = (build(features=features, causal=causal, seed=seed) for seed in range(12))
        errors = [(layer.core.attend(query, key, value, None).values - exact).square().mean() for layer in layers]
        return float(torch.stack(errors).mean().sqrt())

    few, some, many = error(32), error(512), error(8192)
    assert few > some > many
    assert 2.5 < few / some < 6
    assert 2.5 < some / many < 6


@pytest.mark.parametrize("causal", [False, True])
def test_equals_performer_pytorch(causal: bool) -> None:
    """The same features without its epsilon give the same values; with it (1e-4), nearly the same."""
    theirs = pytest.importorskip("performer_pytorch.performer_pytorch", reason="performer-pytorch is not installed")
    query, key, value = (draw(2, 3, 140, D, seed=seed) / 2 for seed in range(3))
    twin = theirs.FastAttention(D, nb_features=64).double()
    core = build(causal=causal, features=64).core
    core.projection = twin.projection_matrix
    ours = core.attend(query, key, value, None).values
    phi = {"projection_matrix": twin.projection_matrix, "eps": 0.0}
    of_query = theirs.softmax_kernel(query, is_query=True, **phi)
    of_key = theirs.softmax_kernel(key, is_query=False, **phi)
    if causal:
        expected = theirs.causal_linear_attention_noncuda(of_query, of_key, value, chunk_size=20, eps=0.0)
    else:
        expected = theirs.linear_attention(of_query, of_key, value)
        torch.testing.assert_close(ours, twin(query, key, value), rtol=0.01, atol=0.01)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("scale", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("causal", [False, True])
def test_single_precision_stays_exact_for_large_states(causal: bool, scale: float) -> None:
    """The stabilisers neither overflow nor leave a query without weight."""
    width, length = 64, 200
    layer = build_attention("performer", dim=width, heads=1, causal=causal)
    query, key, value = (scale * draw(1, 1, length, width, seed=seed) for seed in range(3))
    exact = layer.core.attend(query, key, value, None).values
    single = layer.core.attend(query.float(), key.float(), value.float(), None).values
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-4 * scale**3)


@pytest.mark.parametrize(("width", "scale"), [(64, 8.0), (16, 14.0)])
def test_loud_keys_are_no_empty_rows(width: int, scale: float) -> None:
    """All keys far from the origin: their features are as small as 2^-300, and what counts is how they compare."""
    layer = build_attention("performer", dim=width, heads=1, causal=True).core
    query, key, value = (draw(1, 1, 150, width, seed=seed) for seed in range(3))
    key *= scale
    exact = layer.attend(query, key, value, None).values
    for need_weights in (False, True):
        single = layer.attend(query.float(), key.float(), value.float(), None, need_weights).values
        torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-3)


def test_a_key_along_a_feature_does_not_overflow_in_wide_heads() -> None:
    """Its exponent, |w|^2 / 2, is the largest there is: 2^185 where heads are 256 wide."""
    layer = build_attention("performer", dim=256, heads=1, causal=True).core
    query, key, value = (draw(1, 1, 20, 256, seed=seed) for seed in range(3))
    key[0, 0, 10] = layer.projection[3].double() * 256**0.25
    exact = layer.attend(query, key, value, None).values
    states = [tensor.float().requires_grad_() for tensor in (query, key, value)]
    single = layer.attend(*states, None).values
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-4)
    for gradient in torch.autograd.grad(single.sum(), states):
        assert gradient.isfinite().all()


def test_rows_that_start_with_padding_of_whole_chunks() -> None:
    """No key has come yet, and the first that comes is loud: the empty state has no shift to grow by."""
    layer = build_attention("performer", dim=16, heads=1, causal=True).core
    layer.chunk = 4
    query, key, value = (draw(1, 1, 20, 16, seed=seed).float() for seed in range(3))
    mask = torch.arange(20).unsqueeze(0) < 9
    for scale in (1.0, 20.0):
        states = [tensor.requires_grad_() for tensor in (query.clone(), scale * key, value.clone())]
        values = layer.attend(*states, mask).values
        assert (values[:, :, :9] == 0).all()
        alone = layer.attend(*(tensor[:, :, 9:] for tensor in states), None).values
        torch.testing.assert_close(values[:, :, 9:], alone, rtol=1e-3, atol=1e-4)
        for gradient in torch.autograd.grad(values.sum(), states):
            assert gradient.isfinite().all()


def test_weights_bear_quiet_padding_and_a_loud_start() -> None:
    """Features of such padding are 2^300 times those of the keys; those of the start, as much smaller."""
    whole = build_attention("performer", dim=64, heads=1).core
    query, key, value = (draw(1, 1, 8, 64, seed=seed).float() for seed in range(3))
    padded = torch.cat([12 * key[:, :, :6], 0 * key[:, :, 6:]], dim=2).requires_grad_()
    values = whole.attend(query, padded, value, torch.arange(8).unsqueeze(0) >= 6, need_weights=True).values
    assert torch.autograd.grad(values.sum(), padded)[0].isfinite().all()
    causal = build_attention("performer", dim=64, heads=1, causal=True).core
    key[:, :, 0] *= 10
    attended = causal.attend(query, key, value, None, need_weights=True)
    torch.testing.assert_close(attended.values[:, :, 0], value[:, :, 0])
    assert attended.values.dtype == torch.float32


def test_a_loud_future_or_padding_leaves_the_present_exact() -> None:
    """What a global stabiliser would drown: keys that come later, or are padding, of any size."""
    layer = build_attention("performer", dim=16, heads=1, causal=True).core
    query, key, value = (draw(1, 1, 9, 16, seed=seed).float() for seed in range(3))
    before = layer.attend(query[:, :, :5], key[:, :, :5], value[:, :, :5], None).values
    loud = key.clone()
    loud[:, :, 5:] *= 20
    torch.testing.assert_close(layer.attend(query, loud, value, None).values[:, :, :5], before)
    whole = build_attention("performer", dim=16, heads=1).core
    mask = torch.arange(9).unsqueeze(0) >= 5
    torch.testing.assert_close(
        whole.attend(query, loud, value, mask).values[:, :, :5],
        whole.attend(query[:, :, :5], key[:, :, :5], value[:, :, :5], None).values,
    )


def test_features_are_equal_on_all_ranks_and_differ_by_layer_and_seed() -> None:
    first, again = build().core.projection, build().core.projection
    torch.manual_seed(77)
    torch.testing.assert_close(build().core.projection, first, rtol=0, atol=0)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    for other in (build(seed=1), build(layer=1)):
        assert not torch.equal(other.core.projection, first)


def test_features_are_saved_with_the_weights() -> None:
    layer, other = build(features=16), build(features=16, seed=5)
    query = draw(1, 4, D)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(query), layer(query))


def test_features_are_redrawn_in_training_alone() -> None:
    layer, query = build(redraw_every=2), draw(1, 3, D).requires_grad_()
    drawn = []
    for step in range(6):
        output = layer.train()(query)
        drawn.append(layer.core.projection)
        layer.eval()(query)
        with torch.no_grad():
            layer.train()(query)
        assert layer.core.projection is drawn[-1]
        output.sum().backward()  # with the features that it was computed with
        assert int(layer.core.training_steps) == step + 1
    assert [bool((drawn[i] == drawn[i + 1]).all()) for i in range(5)] == [True, False, True, False, True]
    resumed = build(redraw_every=2)
    resumed.load_state_dict(layer.state_dict())
    resumed.train()(query), layer.train()(query)
    torch.testing.assert_close(resumed.core.projection, layer.core.projection, rtol=0, atol=0)


def test_features_never_change_by_default() -> None:
    layer, query = build(), draw(1, 3, D)
    before = layer.core.projection
    for _ in range(3):
        layer.train()(query)
    assert layer.core.projection is before


def test_on_meta_it_takes_no_memory() -> None:
    with torch.device("meta"):
        layer = build_attention("performer", dim=16, causal=True)
        assert layer(torch.empty(2, 5, 16)).shape == (2, 5, 16)
    assert {buffer.device.type for buffer in layer.buffers()} == {"meta"}
