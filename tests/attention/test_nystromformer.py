"""Nystromformer against dense attention, the paper's formula, transformers and the nystrom-attention package."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild import ConfigError, build_attention
from attnbuild.attention.backends.length_convolution import convolve
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.core import nystromformer
from attnbuild.attention.core.nystromformer import pseudo_inverse

DIM, N, HEADS = 16, 12, 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(**options: int) -> AttentionBlock:
    torch.manual_seed(3)
    return build_attention("nystromformer", dim=DIM, heads=HEADS, **options).double()


def converged(landmarks: int) -> AttentionBlock:
    """More iterations than single precision bears."""
    layer = build(landmarks=landmarks, convolution=0)
    layer.core.iterations = 40
    return layer


def dense_twin(layer: AttentionBlock) -> AttentionBlock:
    twin = build_attention("multihead", dim=DIM, heads=layer.heads, kv_heads=layer.kv_heads).double()
    twin.load_state_dict({name: value for name, value in layer.state_dict().items() if "core" not in name})
    return twin


def test_pseudo_inverse_converges() -> None:
    matrix = torch.softmax(draw(3, 6, 6), dim=-1)
    torch.testing.assert_close(pseudo_inverse(matrix, 30), torch.linalg.pinv(matrix))
    singular = matrix[..., :1].expand_as(matrix) / 6
    torch.testing.assert_close(pseudo_inverse(singular, 30), torch.linalg.pinv(singular))


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("landmarks", [N, N + 5])
def test_equals_dense_where_every_position_is_a_landmark(landmarks: int, kv_heads: int) -> None:
    """In rows with padding too: their real positions are fewer still."""
    layer = build(landmarks=landmarks, convolution=0, kv_heads=kv_heads)
    states, padding = draw(3, N, DIM), torch.arange(N) >= torch.tensor([[N], [5], [1]])
    torch.testing.assert_close(layer(states), dense_twin(layer)(states))
    expected = dense_twin(layer)(states, key_padding_mask=padding)
    torch.testing.assert_close(layer(states, key_padding_mask=padding), expected)


def test_a_converged_inverse_equals_dense_at_landmarks_equal_to_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the shortcut for short rows, A A^+ A = A does it."""
    plain = nystromformer._Segments.of

    def without_shortcut(*arguments: object) -> nystromformer._Segments:
        segments = plain(*arguments)  # type: ignore[arg-type]
        return dataclasses.replace(segments, few=torch.zeros_like(segments.few))

    layer, states = converged(landmarks=N), draw(2, N, DIM)
    monkeypatch.setattr(nystromformer._Segments, "of", without_shortcut)
    torch.testing.assert_close(layer(states), dense_twin(layer)(states))
    torch.testing.assert_close(layer(states, need_weights=True)[1], dense_twin(layer)(states, need_weights=True)[1])


@pytest.mark.parametrize("landmarks", [1, 3, 5])
def test_equals_the_paper(landmarks: int) -> None:
    """Equation 13 with the exact pseudo-inverse, row by row, segments as equal as the real length allows."""
    layer, lengths = converged(landmarks=landmarks), (N, 7)
    states, padding = draw(2, N, DIM), torch.arange(N) >= torch.tensor(lengths).unsqueeze(1)
    expected = torch.zeros(2, N, DIM, dtype=torch.float64)
    projected = [part(states) for part in (layer.query_projection, layer.key_projection, layer.value_projection)]
    for row, length in enumerate(lengths):
        segments = [[i for i in range(length) if i * landmarks // length == m] for m in range(landmarks)]
        assert max(map(len, segments)) - min(map(len, segments)) <= 1
        for head in range(HEADS):
            channels = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
            query, key, value = (part[row, :, channels] for part in projected)
            key, value = key[:length], value[:length]
            queries, keys = (torch.stack([part[s].mean(dim=0) for s in segments]) for part in (query, key))
            scale = (DIM // HEADS) ** -0.5
            first, between, last = (
                torch.softmax(a @ b.T * scale, dim=-1) for a, b in [(query, keys), (queries, keys), (queries, key)]
            )
            expected[row, :, channels] = first @ torch.linalg.pinv(between) @ last @ value
    output = layer(states, key_padding_mask=padding)
    torch.testing.assert_close(output, layer.out_projection(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("convolution", [0, 5])
def test_equals_transformers(convolution: int) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    config = transformers.NystromformerConfig(
        hidden_size=DIM,
        num_attention_heads=HEADS,
        num_landmarks=3,
        segment_means_seq_len=N,
        conv_kernel_size=max(convolution, 1),
        attention_probs_dropout_prob=0.0,
    )
    twin = NystromformerSelfAttention(config).double().eval()
    # Theirs scales the first guess by the largest of the batch unless told otherwise.
    twin.init_option = "exact"
    twin.conv_kernel_size = convolution or None
    layer = build(landmarks=3, convolution=convolution)
    layer.query_projection, layer.key_projection, layer.value_projection = twin.query, twin.key, twin.value
    if convolution:
        layer.core.kernel.data = twin.conv.weight.data[:, 0, :, 0]
    layer.out_projection = torch.nn.Identity()
    states = draw(2, N, DIM)
    torch.testing.assert_close(layer(states), twin(states)[0])


def test_equals_the_nystrom_attention_package() -> None:
    """At batch 1 and one head: theirs scales the first guess by the largest of all matrices."""
    package = pytest.importorskip("nystrom_attention")
    twin = package.NystromAttention(DIM, DIM, 1, num_landmarks=4, residual_conv_kernel=3).double()
    layer = build_attention("nystromformer", dim=DIM, heads=1, landmarks=4, convolution=3, bias=False).double()
    query, key, value = twin.to_qkv.weight.data.chunk(3)
    layer.query_projection.weight.data, layer.key_projection.weight.data = query, key
    layer.value_projection.weight.data, layer.out_projection = value, twin.to_out[0]
    layer.core.kernel.data = twin.res_conv.weight.data[:, 0, :, 0]
    states = draw(1, N, DIM)
    # Their identity matrix is of single precision.
    torch.testing.assert_close(layer(states), twin(states), rtol=1e-5, atol=1e-6)


def test_padding_does_not_move_landmarks() -> None:
    layer, states = build(landmarks=3), draw(1, 7, DIM)
    longer = torch.cat([states, torch.full((1, 30, DIM), 9.0, dtype=torch.float64)], dim=1)
    padding = torch.arange(37).unsqueeze(0) >= 7
    torch.testing.assert_close(layer(longer, key_padding_mask=padding)[:, :7], layer(states))


def test_landmarks_by_a_product_are_the_same() -> None:
    """What runs where sums of rows come in no fixed order."""
    states, padding = draw(3, HEADS, N, 4), torch.arange(N) >= torch.tensor([[N], [7], [0]])
    padding[0, 4] = True
    for mask, landmarks in ((padding, 5), (None, 5), (padding, 30)):
        segments = nystromformer._Segments.of(states, mask, landmarks)
        torch.testing.assert_close(segments.matrix(torch.float64) @ states, segments.mean(states))


def test_on_meta_it_takes_no_memory() -> None:
    with torch.device("meta"):
        layer, states = build_attention("nystromformer", dim=DIM), torch.empty(2, N, DIM)
        padding = torch.empty(2, N, dtype=torch.bool)
        assert layer(states).is_meta
        assert layer(states, key_padding_mask=padding).shape == (2, N, DIM)


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose 3 or 5, or 0 for none"):
        build(convolution=4)


def test_more_iterations_than_single_precision_bears_are_refused() -> None:
    """Landmarks that are nearly alike have tiny singular values: 16 iterations are exact to a percent, 30 not at all."""
    base = draw(1, 1, 4, 16).repeat(1, 1, 64, 1)
    query, key, value = (base + 1e-3 * draw(1, 1, 256, 16, seed=seed) for seed in (1, 2, 3))
    core = build_attention("nystromformer", dim=16, heads=1, landmarks=64, iterations=16, convolution=0).core

    def error() -> float:
        exact = core.attend(query, key, value, None).values
        single = core.attend(query.float(), key.float(), value.float(), None).values
        return float((single - exact).norm() / exact.norm())

    assert error() < 0.02
    core.iterations = 30
    assert not error() < 1
    with pytest.raises(ConfigError, match=r"attention.iterations.*17"):
        build(iterations=17)


@pytest.mark.parametrize(
    "shape", [(2, 4, 2, 70, 3, 5), (1, 2, 2, 1, 3, 33), (2, 2, 1, 64, 2, 1), (3, 2, 2, 130, 2, 129)]
)
def test_convolution_equals_conv2d(shape: tuple[int, ...]) -> None:
    batch, heads, kv_heads, length, width, span = shape
    value, kernel = draw(batch, kv_heads, length, width).requires_grad_(), draw(heads, span, seed=1).requires_grad_()
    expected = F.conv2d(value, kernel[:, None, :, None], padding=(span // 2, 0), groups=kv_heads)
    output, gradient = convolve(value, kernel), draw(*expected.shape, seed=2)
    torch.testing.assert_close(output, expected)
    for mine, theirs in zip(
        torch.autograd.grad(output, (value, kernel), gradient),
        torch.autograd.grad(expected, (value, kernel), gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_half_precision_keeps_the_inverse_in_full() -> None:
    layer = build(landmarks=4).float()
    states = draw(2, 40, DIM).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(states)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), layer(states), rtol=0.1, atol=0.05)
