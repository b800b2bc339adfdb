"""Counted operations and bytes, against what can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild.measure.flops import count_flops
from attnbuild.measure.memory import _of_the_container, available_memory, measure_memory
from attnbuild.measure.race import Race, exponent

B, H, N, D = 2, 3, 64, 16
MATRIX = 2 * B * H * N * N * D
"""Operations of one product (N x D) (D x N)."""


def states(count: int) -> list[Tensor]:
    return [torch.randn(B, H, N, D, requires_grad=True) for _ in range(count)]


def test_fused_attention_counts_as_its_products() -> None:
    query, key, value = states(3)
    forward, output = count_flops(lambda: F.scaled_dot_product_attention(query, key, value))
    backward, _ = count_flops(lambda: output.sum().backward())
    assert forward == 2 * MATRIX
    assert backward == 5 * MATRIX  # the scores once more, and the gradients of scores, query, key and value


def test_plain_attention_counts_as_its_products() -> None:
    query, key, value = states(3)
    forward, output = count_flops(lambda: (query @ key.mT).softmax(-1) @ value)
    backward, _ = count_flops(lambda: output.sum().backward())
    assert (forward, backward) == (2 * MATRIX, 4 * MATRIX)


class _Recomputed(torch.autograd.Function):
    """q k', computed again in backward for nothing."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor) -> Tensor:
        ctx.save_for_backward(query, key)
        return query @ key.mT

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        query, key = ctx.saved_tensors
        with torch.enable_grad():
            query, key = query.detach().requires_grad_(), key.detach().requires_grad_()
            return torch.autograd.grad(query @ key.mT, (query, key), grad)  # type: ignore[return-value]


def test_custom_autograd_functions_count_both_ways() -> None:
    query, key = states(2)
    forward, output = count_flops(lambda: _Recomputed.apply(query, key))
    backward, _ = count_flops(lambda: output.sum().backward())
    assert (forward, backward) == (MATRIX, 3 * MATRIX)


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda: torch.ones(5, 7) @ torch.ones(7), 2 * 5 * 7),
        (lambda: torch.addmv(torch.ones(5), torch.ones(5, 7), torch.ones(7)), 2 * 5 * 7),
        (lambda: torch.ones(7) @ torch.ones(7), 2 * 7),
        (lambda: torch.einsum("bij,kj->bik", torch.ones(2, 3, 4), torch.ones(5, 4)), 2 * 2 * 3 * 4 * 5),
    ],
)
def test_products(call: Callable[[], Tensor], flops: int) -> None:
    assert count_flops(call)[0] == flops


def test_recurrent_layers() -> None:
    layer, inputs = torch.nn.LSTM(4, 8), torch.ones(5, 3, 4)
    forward, (output, _) = count_flops(lambda: layer(inputs))
    assert forward == 2 * 5 * 3 * 4 * 8 * (4 + 8)
    assert count_flops(lambda: output.sum().backward())[0] >= 1.6 * forward  # nothing asks for the inputs' gradient


def test_memory_of_plain_attention() -> None:
    """Scores and weights forward; weights, their gradient and the scores' backward."""
    query, key, value = states(3)
    scores, thin = B * H * N * N * 4, B * H * N * D * 4

    def forward() -> Tensor:
        return (query @ key.mT).softmax(-1) @ value

    use = measure_memory(forward)
    assert 2 * scores <= use.peak <= 2 * scores + 2 * thin
    assert use.left == scores + thin
    use = measure_memory(lambda: forward().backward(torch.ones_like(query)))
    assert 3 * scores <= use.peak <= 3 * scores + 6 * thin
    assert use.left == 3 * thin  # the gradients


def test_memory_made_inside_custom_functions_and_kernels_counts() -> None:
    query, key = states(2)

    def both() -> None:
        output = _Recomputed.apply(query, key)
        output.backward(torch.ones_like(output))

    assert measure_memory(both).peak >= 3 * B * H * N * N * 4  # output, its gradient, and what is computed again
    # A sort needs its values, their indices and scratch space.
    assert measure_memory(lambda: torch.ones(1000).sort()).peak >= 1000 * (4 + 4 + 8)


def test_memory_says_nothing_on_the_error_stream(capfd: pytest.CaptureFixture[str]) -> None:
    measure_memory(lambda: torch.ones(3) + 1)
    assert capfd.readouterr().err == ""


def test_an_error_in_a_measured_call_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        measure_memory(lambda: 1 / 0)
    assert measure_memory(lambda: torch.ones(100)).left == 400


def test_available_memory() -> None:
    free = available_memory()
    assert free is None or free > 2**20


def test_freed_blocks_that_pytorch_keeps_are_available_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"mem_get_info": (100, 1000), "memory_reserved": 70, "memory_allocated": 30}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, figure=figure: figure)
    assert available_memory("cuda") == 140


@pytest.mark.parametrize(("limit", "free"), [("1000", 500), ("max", None)])
def test_cached_files_do_not_count_against_a_container(tmp_path: Path, limit: str, free: int | None) -> None:
    """The kernel drops their pages when memory is asked for."""
    assert _of_the_container(tmp_path) is None
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("800\n")
    (tmp_path / "memory.stat").write_text("anon 400\nfile 400\ninactive_file 300\nactive_file 100\n")
    assert _of_the_container(tmp_path) == free


def test_exponent() -> None:
    assert exponent([(n, 3.0 * n**1.5) for n in (10, 20, 40)]) == pytest.approx(1.5)
    assert exponent([(10, 1.0)]) != exponent([(10, 1.0)])  # NaN: one point has no slope


def test_a_race_goes_on_when_an_entrant_breaks() -> None:
    def broken(length: int) -> Callable[[], None]:
        raise RuntimeError("no such kernel")

    figures = Race({"broken": broken, "whole": lambda length: lambda: torch.ones(length)}, repeats=2).run([8, 4])
    assert figures["broken", 4].problem == "RuntimeError: no such kernel"
    assert figures["broken", 4].failed
    assert [figures["whole", length].peak for length in (4, 8)] == [16, 32]
    assert figures["whole", 8].turns == 2


def test_a_race_foretells_what_would_be_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first length too: it is seen in shorter ones."""
    monkeypatch.setattr("attnbuild.measure.race.available_memory", lambda device: 2**20)
    square = {"square": lambda length: lambda: torch.ones(length, length)}
    figures = Race(square, repeats=1).run([256, 4096])
    assert not figures["square", 256].problem
    assert "of memory" in figures["square", 4096].problem
    assert "of memory" in Race(square, repeats=1).run([4096])["square", 4096].problem
