"""What attentions with a kernel share: chunks change nothing, and nothing is kept that grows faster than the length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnbuild import ConfigError, build_attention, list_names
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.kernelised.base import Kernelised, PrefixState, SummaryState
from attnbuild.attention.precision import finest_dtype
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec
from attnbuild.measure.flops import count_flops
from attnbuild.measure.memory import measure_memory
from attnbuild.memory import Memory, masked_mean

DIM, CHUNK = 16, 4


def presets(place: str) -> list[str]:
    """The presets that share this code, of those that serve a place."""
    specs = {name: AttentionSpec.from_config(load_preset(name)) for name in list_names("attention")}
    kernelised = {
        name: spec
        for name, spec in specs.items()
        if isinstance(spec.core.maker, type) and issubclass(spec.core.maker, Kernelised)
    }
    return [name for name, spec in kernelised.items() if getattr(spec.capabilities, place)]


def build(preset: str, *, cross: bool = False, causal: bool = False, **options: object) -> AttentionBlock:
    torch.manual_seed(0)
    layer = build_attention(preset, dim=DIM, memory_dim=DIM if cross else None, causal=causal, **options)
    layer.core.chunk = CHUNK
    return layer.double()


def states(rows: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, DIM, dtype=torch.float64, generator=generator).requires_grad_()


def check_against_naive(layer: AttentionBlock, inputs: list[Tensor], mask: Tensor | None) -> None:
    """Values, and gradients of inputs and parameters, are those of the quadratic form."""
    sources = [*inputs, *layer.parameters()]
    fast = layer(*inputs, key_padding_mask=mask)
    naive, _ = layer(*inputs, key_padding_mask=mask, need_weights=True)
    torch.testing.assert_close(fast, naive)
    seed = torch.randn_like(fast)
    expected = torch.autograd.grad((naive * seed).sum(), sources, allow_unused=True)
    torch.testing.assert_close(torch.autograd.grad((fast * seed).sum(), sources, allow_unused=True), expected)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK])
@pytest.mark.parametrize(
    ("preset", "causal"), [(name, causal) for name in presets("causal") for causal in (False, True)]
)
def test_chunks_change_nothing_in_self_attention(preset: str, causal: bool, length: int, kv_heads: int) -> None:
    layer = build(preset, causal=causal, heads=4, kv_heads=kv_heads)
    # A row with everything, one that ends in a chunk, one that starts with padding, one with nothing.
    lengths = torch.tensor([[length], [(length + 1) // 2], [length], [0]])
    mask = torch.arange(length) >= lengths
    mask[2, : length // 3] = True
    for padding in (None, mask):
        check_against_naive(layer, [states(4, length)], padding)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize(("queries", "keys"), [(1, 9), (4, 5), (5, 4), (9, 1), (11, 13)])
@pytest.mark.parametrize("preset", presets("cross_attention"))
def test_chunks_change_nothing_in_cross_attention(preset: str, queries: int, keys: int, kv_heads: int) -> None:
    layer = build(preset, cross=True, heads=4, kv_heads=kv_heads)
    mask = torch.arange(keys) >= torch.tensor([[keys], [(keys + 1) // 2], [0]])
    for padding in (None, mask):
        check_against_naive(layer, [states(3, queries), states(3, keys, seed=1)], padding)


@pytest.mark.parametrize("layout", ["as the block splits heads", "heads first"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("preset", presets("causal"))
def test_gradients_through_chunks(preset: str, causal: bool, layout: str) -> None:
    layer = build(preset, causal=causal, heads=4, kv_heads=2)
    mask = torch.arange(10) >= torch.tensor([[10], [7], [0]])
    generator = torch.Generator().manual_seed(3)

    def draw(heads: int) -> Tensor:
        flat = torch.randn(3, 10, heads, 4, dtype=torch.float64, generator=generator)
        split = flat.transpose(1, 2)
        return (split if layout.startswith("as") else split.contiguous()).requires_grad_()

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return layer.core.attend(query, key, value, mask).values

    assert torch.autograd.gradcheck(attend, (draw(4), draw(2), draw(2)), fast_mode=True)


@pytest.mark.parametrize("preset", presets("causal"))
def test_the_state_of_stepping_stays_as_it_is(preset: str) -> None:
    layer = build(preset, causal=True)
    query = states(2, 9)
    state = layer.start(Memory(query, None, query[:, 0]))
    assert isinstance(state, PrefixState)
    shapes = {name: tensor.shape for name, tensor in vars(state).items() if isinstance(tensor, Tensor)}
    whole = layer(query)
    for step in range(9):
        attended, state = layer.step(query[:, step : step + 1], state, 2)
        torch.testing.assert_close(attended.values[:, 0], whole[:, step])
        assert {name: tensor.shape for name, tensor in vars(state).items() if isinstance(tensor, Tensor)} == shapes


@pytest.mark.parametrize("preset", presets("cross_attention"))
def test_keys_are_summed_once(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step reads the sums alone: keys and mask are for weights, if asked for."""
    layer, memory = build(preset, cross=True), states(2, 7)
    mask = torch.arange(7) >= torch.tensor([[7], [4]])
    query = states(2, 3, seed=1)
    expected = layer(query, memory, key_padding_mask=mask)
    state = layer.start(Memory(memory, mask, masked_mean(memory, mask)))
    assert isinstance(state, SummaryState)
    state.key = state.key * torch.nan
    for step in range(3):
        attended, state = layer.step(query[:, step : step + 1], state, 2)
        torch.testing.assert_close(attended.values[:, 0], expected[:, step])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("preset", presets("causal"))
def test_memory_and_work_grow_with_the_length(preset: str, causal: bool) -> None:
    """Linear: twice the length takes twice of both, forward and backward."""
    options = {"max_len": 2048} if "max_len" in load_preset(preset) else {}
    layer = build_attention(preset, dim=32, heads=2, causal=causal, **options)

    def run(length: int) -> None:
        layer(torch.randn(1, length, 32, requires_grad=True)).sum().backward()

    run(8)
    peaks = [measure_memory(lambda length=length: run(length)).peak for length in (512, 1024, 2048)]
    assert peaks[1] < 2.1 * peaks[0]
    assert peaks[2] < 2.1 * peaks[1]
    work = [count_flops(lambda length=length: run(length))[0] for length in (512, 1024, 2048)]
    assert work[1] <= 2 * work[0]
    assert work[2] <= 2 * work[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("preset", presets("causal"))
def test_half_precision_sums_in_single(preset: str, causal: bool, dtype: torch.dtype) -> None:
    """A sum of thousands of terms in bfloat16 would stop growing at 256."""
    length = 3000
    options = {"max_len": length} if "max_len" in load_preset(preset) else {}
    layer = build_attention(preset, dim=16, causal=causal, **options).core
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 4, length, 4, generator=generator).to(dtype) for _ in range(3))
    exact = layer.attend(query.double(), key.double(), value.double(), None).values
    with torch.autocast("cpu", dtype=dtype):
        values = layer.attend(query, key, value, None).values
    assert values.dtype == dtype
    torch.testing.assert_close(values.double(), exact, rtol=0.01, atol=0.002)


@pytest.mark.parametrize("preset", presets("cross_attention"))
def test_raw_queries_and_keys_of_unequal_widths_are_refused(preset: str) -> None:
    with pytest.raises(ConfigError, match="widths must be equal; they are 16 and 24: set equal dims, or projections"):
        build_attention(preset, dim=16, memory_dim=24, heads=1, projections="none")


def test_double_precision_is_asked_for_where_it_is() -> None:
    assert finest_dtype(torch.device("cpu")) == torch.float64
    assert finest_dtype(torch.device("mps")) == torch.float32


@pytest.mark.parametrize("preset", presets("causal"))
def test_autocast_trains(preset: str) -> None:
    layer = build_attention(preset, dim=16, causal=True)
    query = torch.randn(2, 9, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(query)
        output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert query.grad.isfinite().all()
