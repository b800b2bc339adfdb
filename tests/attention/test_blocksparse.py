"""The block-sparse backend against the reference, over every registered pattern; its gradients, dropout and memory."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnbuild import build_attention, list_names
from attnbuild.attention.backends import blocksparse, reference
from attnbuild.attention.backends.plan import make_plan
from attnbuild.attention.patterns.pieces import Band, Blocks, Diagonals, Piece
from attnbuild.registry import lookup, options_of

DIM = 24
#: Those of cells of an image: tests/attention/test_neighborhood.py.
SPARSE = [
    name
    for name in list_names("pattern")
    if lookup("pattern", name).sparse and lookup("pattern", name).capabilities.sequence
]
CPU = torch.device("cpu")

#: Values worth trying of the options that patterns have.
VALUES: dict[str, list[Any]] = {
    "window": [0, 1, 5, 70],
    "dilation": [1, 2, 7],
    "block_size": [1, 3, 16, 70],
    "stride": [3, 16, 100],
    "summary": [1, 3],
    "factorize": ["heads", "layers", "merged"],
    "local": [0, 5],
    "window_blocks": [0, 1],
    "global_blocks": [0, 2],
    "random_blocks": [0, 3],
}


def layer_of(pattern: str, backend: str = "auto", **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_attention({"pattern": pattern, "backend": backend}, dim=DIM, **options).double()


@st.composite
def attentions(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A pattern, its options, heads, causal or not."""
    pattern = draw(st.sampled_from(SPARSE))
    declared = [name for name in options_of(lookup("pattern", pattern)) if name in VALUES]
    options = {name: draw(st.sampled_from(VALUES[name])) for name in declared}
    heads, kv_heads = draw(st.sampled_from([(4, 4), (4, 2), (6, 1), (2, 2)]))
    causal, layer = draw(st.booleans()), draw(st.integers(0, 1))
    return pattern, {**options, "heads": heads, "kv_heads": kv_heads, "causal": causal, "layer": layer}


def computed(pieces: tuple[Piece, ...], length: int, causal: bool, heads: int) -> Tensor:
    """How often each pair is computed and not masked, by the plan alone: (heads, N, N)."""
    seen = torch.zeros(heads, length, length, dtype=torch.int)
    for planned in make_plan(pieces, length, causal, heads, CPU).tiles:
        own = range(*slice(planned.piece.heads[0], None, planned.piece.heads[1]).indices(heads))
        for group in range(planned.tile.query.groups):
            tile = planned.tile.part(group, 1)
            query, key = tile.query.positions(CPU)[0], tile.key_positions(CPU)
            mask = planned.additive(tile, own, torch.float64, CPU)
            for number, head in enumerate(own):
                keys = (key[head] if key.dim() == 3 else key)[0]
                shown = torch.zeros(len(query), len(keys))
                if mask is not None:
                    shown[:, planned.columns] += mask[number if len(mask) > 1 else 0, 0]
                for row, position in enumerate(query):
                    allowed = keys[shown[row] == 0]
                    seen[head, position].index_add_(0, allowed, torch.ones(len(allowed), dtype=torch.int))
    return seen


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(attentions(), st.integers(1, 150))
def test_pieces_are_the_predicate_and_show_each_pair_once(attention: tuple[str, dict[str, Any]], length: int) -> None:
    pattern, options = attention
    layer = layer_of(pattern, **options)
    position = torch.arange(length)
    query, head = position.view(-1, 1), torch.arange(options["heads"]).view(-1, 1, 1)
    expected = layer.core.pattern.mask_mod(head, query, position).expand(options["heads"], length, length)
    if options["causal"]:
        expected = expected & (position <= query)
    assert (computed(layer.core.pattern.pieces(), length, options["causal"], options["heads"]) == expected.int()).all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "pieces",
    [
        (Band(5, 5, heads=(1, 2)), Band(9, 9, 3, heads=(1, 2))),
        (Band(5, 5, heads=(1, 2)), Band(9, 9)),
        (Band(5, 5), Band(9, 9, 3, heads=(1, 2))),
        (Diagonals(heads=(0, 2)), Blocks(16, 1, 1)),
    ],
)
def test_pieces_of_some_heads_may_overlap_those_of_others(pieces: tuple[Piece, ...], causal: bool) -> None:
    """A pattern of one's own may be made so."""
    position, head = torch.arange(100), torch.arange(4).view(-1, 1, 1)
    query = position.view(-1, 1)
    seen = [piece.mask_mod(head, query, position).expand(4, 100, 100) for piece in pieces]
    expected = torch.stack(seen).any(dim=0) & ((position <= query) if causal else True)
    assert (computed(pieces, 100, causal, 4) == expected.int()).all()


@pytest.mark.parametrize("pattern", ["window", "fixed", "bigbird", "logsparse"])
def test_plans_need_no_default_device(pattern: str) -> None:
    layer = layer_of(pattern, "blocksparse", heads=2)
    states = torch.randn(1, 150, DIM, dtype=torch.float64)
    expected = layer(states)
    make_plan.cache_clear()
    with torch.device("meta"):
        assert torch.equal(layer(states), expected)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    attentions(),
    st.integers(2, 300),
    st.sampled_from(list_names("position")),
    st.booleans(),
    st.sampled_from([1 << 18, 1 << 10]),
)
def test_equals_the_reference(
    attention: tuple[str, dict[str, Any]], length: int, position: str, padded: bool, chunk: int
) -> None:
    """Values and all gradients, with biases and padding, an all padded row among it, in large and small chunks."""
    pattern, options = attention
    if DIM // options["heads"] % 2 and position == "rope":
        return
    layers = [layer_of(pattern, backend, position=position, **options) for backend in ("blocksparse", "reference")]
    generator = torch.Generator().manual_seed(length)
    states = torch.randn(3, length, DIM, dtype=torch.float64, generator=generator).requires_grad_()
    arriving = torch.randn(3, length, DIM, dtype=torch.float64, generator=generator)
    padding = torch.arange(length) >= torch.tensor([[length], [0], [length // 2 + 1]]) if padded else None
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(blocksparse.CHUNK, "cpu", chunk)
        for layer in layers:
            output = layer(states, key_padding_mask=padding)
            found.append([output, *torch.autograd.grad(output, [states, *layer.parameters()], arriving)])
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("pattern", "position", "dropout"),
    [*itertools.product(["window", "bigbird", "strided"], ["none", "relative", "t5"], [0.0]), ("fixed", "none", 0.4)],
)
def test_gradients(pattern: str, position: str, dropout: float) -> None:
    """gradcheck; with dropout, of what one seed keeps."""
    layer = layer_of(pattern, "blocksparse", position=position, dropout=dropout, heads=2)
    states = torch.randn(2, 9, DIM, dtype=torch.float64, requires_grad=True)
    padding = torch.arange(9) >= torch.tensor([[9], [4]])

    def attend(states: Tensor) -> Tensor:
        torch.manual_seed(1)
        return layer(states, key_padding_mask=padding)

    assert torch.autograd.gradcheck(attend, [states], fast_mode=True)


def test_dropout_keeps_the_mean_and_repeats_with_the_seed() -> None:
    layer = layer_of("window", "blocksparse", dropout=0.3, window=20, heads=2)
    states = torch.randn(1, 64, DIM, dtype=torch.float64)

    def attend(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return layer(states)

    assert torch.equal(attend(0), attend(0))
    assert not torch.allclose(attend(0), attend(1))
    mean = torch.stack([attend(seed) for seed in range(400)]).mean(dim=0)
    torch.testing.assert_close(mean, layer.eval()(states), rtol=0, atol=0.05)


@pytest.mark.parametrize("pattern", SPARSE)
def test_bf16_stays_near_single(pattern: str) -> None:
    layer = layer_of(pattern, "blocksparse", heads=2).float()
    states = torch.randn(2, 100, DIM)
    expected = layer(states)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(states.requires_grad_())
        output.float().sum().backward()
    torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.06)
    assert states.grad.isfinite().all()
    torch.testing.assert_close(layer.bfloat16()(states.bfloat16()).float(), expected, rtol=0.1, atol=0.06)


@pytest.mark.parametrize("position", list_names("position"))
def test_positions_compute_under_autocast_as_with_other_backends(position: str) -> None:
    """Values and gradients, those of the position's own parameters too; a bias of keys has none but rounding's."""
    states, arriving = torch.randn(2, 100, DIM), torch.randn(2, 100, DIM)
    found = []
    for backend in ("blocksparse", "sdpa"):
        layer = layer_of("window", backend, position=position, heads=2).float()
        parameters = [parameter for name, parameter in layer.named_parameters() if name != "key_projection.bias"]
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(states)
        found.append([output.float(), *torch.autograd.grad(output, parameters, arriving.bfloat16())])
    for fast, slow in zip(*found, strict=True):
        assert (fast - slow).norm() < 0.03 * slow.norm()


def test_a_second_gradient_is_refused() -> None:
    layer = layer_of("window", "blocksparse", heads=2)
    states = torch.randn(1, 9, DIM, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(states).square().sum(), states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made within held at once; those given are not counted."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known = {tensor.untyped_storage()._cdata: 0 for tensor in given}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self.known or not storage.nbytes():
            return
        self.known[storage._cdata] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, pointer: int) -> None:
        self.live -= self.known.pop(pointer, 0)


def peak_of(pattern: str, length: int, **options: Any) -> int:
    torch.manual_seed(0)
    layer = build_attention({"pattern": pattern, "backend": "blocksparse", **options}, dim=32, heads=2).core
    query, key, value = (torch.randn(1, length, 2, 16).transpose(1, 2).requires_grad_() for _ in range(3))
    make_plan(layer.pattern.pieces(), length, False, 2, CPU)
    with LiveBytes(query, key, value) as counted:
        layer.attend(query, key, value, None).values.sum().backward()
    return counted.peak


@pytest.mark.parametrize("pattern", SPARSE)
def test_memory_grows_with_the_length_alone(pattern: str) -> None:
    """Chunks aside, forward and backward hold out, log-sum-exps and three gradients."""
    short, middle, long = (peak_of(pattern, length) for length in (4096, 8192, 16384))
    assert long - middle <= 2.2 * max(middle - short, 4096 * 2 * 16 * 4)


def test_plans_grow_with_the_length_alone() -> None:
    """Where a query sees all that is before it in its stride, only the corner of its tile is masked."""
    pieces = build_attention({"pattern": "strided"}, dim=DIM, heads=2, stride=2, causal=True).core.pattern.pieces()
    sizes = []
    for length in (1024, 2048, 4096):
        masks = [planned.mask for planned in make_plan(pieces, length, True, 2, CPU).tiles if planned.mask is not None]
        sizes.append(sum({mask.data_ptr(): mask.nbytes for mask in masks}.values()))
    assert sizes[2] - sizes[1] <= 2.2 * (sizes[1] - sizes[0])


def test_the_reference_is_what_weights_come_from() -> None:
    layer = layer_of("window", "blocksparse", heads=2)
    states = torch.randn(1, 40, DIM, dtype=torch.float64)
    values, weights = layer(states, need_weights=True)
    assert weights.shape == (1, 2, 40, 40)
    torch.testing.assert_close(values, layer(states))
    assert reference.refusal(layer.core.need()) is None
