"""Each feature attention against its paper's equations, written out a cell and a channel at a time, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbuild import list_names
from attnbuild.feature_attention.base import FeatureAttention, FeaturePlace
from attnbuild.registry import build

NAMES = list_names("feature_attention")


def make(name: str, channels: int, seed: int = 0, **options: Any) -> FeatureAttention:
    torch.manual_seed(seed)
    part = build("feature_attention", FeaturePlace(channels), {"type": name, **options}, "encoder.feature_attention")
    return part.double().eval()


def features(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number))


def linear(layer: torch.nn.Linear, given: list[float]) -> list[float]:
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(w * x for w, x in zip(row, given, strict=True)) + bias for row, bias in rows]


def relu(numbers: list[float]) -> list[float]:
    return [max(0.0, number) for number in numbers]


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def cells_of(channel: Tensor) -> list[float]:
    return channel.flatten().tolist()


def squeeze_excitation(part: Any, x: Tensor) -> Tensor:
    gates = [sigmoid(s) for s in linear(part.excite, relu(linear(part.squeeze, [mean(cells_of(c)) for c in x])))]
    return torch.stack([channel * gate for channel, gate in zip(x, gates, strict=True)])


def cbam(part: Any, x: Tensor) -> Tensor:
    def perceptron(given: list[float]) -> list[float]:
        return linear(part.excite, relu(linear(part.squeeze, given)))

    averages, largest = [mean(cells_of(c)) for c in x], [max(cells_of(c)) for c in x]
    rates = zip(perceptron(averages), perceptron(largest), strict=True)
    x = torch.stack([channel * sigmoid(a + b) for channel, (a, b) in zip(x, rates, strict=True)])
    weight, reach = part.cells.weight[0], part.cells.weight.shape[-1] // 2
    output, (height, width) = torch.empty_like(x), x.shape[1:]
    for i in range(height):
        for j in range(width):
            total = 0.0
            for u in range(max(0, i - reach), min(height, i + reach + 1)):
                for v in range(max(0, j - reach), min(width, j + reach + 1)):
                    at = weight[:, u - i + reach, v - j + reach].tolist()
                    total += at[0] * mean(x[:, u, v].tolist()) + at[1] * max(x[:, u, v].tolist())
            output[:, i, j] = x[:, i, j] * sigmoid(total)
    return output


def efficient(part: Any, x: Tensor) -> Tensor:
    weight = part.neighbours.weight.flatten().tolist()
    reach, means = len(weight) // 2, [mean(cells_of(c)) for c in x]
    output = torch.empty_like(x)
    for c in range(len(x)):
        near = {c + o: weight[o + reach] for o in range(-reach, reach + 1) if 0 <= c + o < len(x)}
        output[c] = x[c] * sigmoid(sum(w * means[n] for n, w in near.items()))
    return output


def coordinate(part: Any, x: Tensor) -> Tensor:
    norm, (_, height, width) = part.norm, x.shape

    def encode(described: list[float]) -> list[float]:
        mixed = [sum(w * z for w, z in zip(row, described, strict=True)) for row in part.mix.weight.squeeze(2).tolist()]
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).tolist()
        shift = (norm.bias - norm.running_mean * torch.tensor(scale)).tolist()
        mixed = [m * a + b for m, a, b in zip(mixed, scale, shift, strict=True)]
        return [m * min(max(m + 3, 0), 6) / 6 for m in mixed]

    def gates(layer: Any, described: list[float]) -> list[float]:
        rows = zip(layer.weight.squeeze(2).tolist(), layer.bias.tolist(), strict=True)
        inner = encode(described)
        return [sigmoid(sum(w * f for w, f in zip(row, inner, strict=True)) + bias) for row, bias in rows]

    by_row = [gates(part.rows, [mean(c[i].tolist()) for c in x]) for i in range(height)]
    by_column = [gates(part.columns, [mean(c[:, j].tolist()) for c in x]) for j in range(width)]
    output = torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            for c in range(len(x)):
                output[c, i, j] = x[c, i, j] * by_row[i][c] * by_column[j][c]
    return output


ORACLES = {
    "none": lambda part, x: x,
    "se": squeeze_excitation,
    "cbam": cbam,
    "eca": efficient,
    "coordinate": coordinate,
}


def test_each_has_an_oracle() -> None:
    assert set(ORACLES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8)
@given(channels=st.integers(1, 9), height=st.integers(1, 5), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_equals_the_equations(name: str, channels: int, height: int, width: int, seed: int) -> None:
    options = {"reduction": 3} if name in ("se", "cbam", "coordinate") else {}
    part, given_features = make(name, channels, seed, **options), features(2, channels, height, width, seed=seed)
    with torch.no_grad():
        for found, one in zip(part(given_features), given_features, strict=True):
            torch.testing.assert_close(found, ORACLES[name](part, one))


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    part = make(name, 4)
    assert torch.autograd.gradcheck(part, features(2, 4, 3, 2).requires_grad_())
    part.train()(features(2, 4, 3, 2).requires_grad_()).square().sum().backward()
    assert [key for key, value in part.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5)])
def test_kernel_of_eca_follows_the_channels(channels: int, kernel: int) -> None:
    """The kernels of the authors' ResNets: 3 for 64 channels, 5 for 128 to 512."""
    assert make("eca", channels).neighbours.kernel_size == (kernel,)
    assert make("eca", channels, kernel=7).neighbours.kernel_size == (7,)


@pytest.mark.parametrize(("name", "layer"), [("se", "squeeze"), ("cbam", "squeeze")])
@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(64, 16, 4), (64, 8, 8), (4, 16, 1)])
def test_hidden_units(name: str, layer: str, channels: int, reduction: int, hidden: int) -> None:
    assert getattr(make(name, channels, reduction=reduction), layer).out_features == hidden
