"""Muon: each matrix moves as far in every direction (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.training.precision import has_bf16
from attnbuild.training.sharding import sliced, whole

__all__ = ["Muon", "orthogonal"]

#: Of the quintic polynomial whose repetition brings singular values near 1, and how often it is repeated.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5

#: How large the elements of one of Adam's updates are, of its learning rate (Liu et al. 2025, arXiv:2502.16982).
_AS_ADAM = 0.2


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov's) whose singular values are brought near 1, as large as an update of Adam's.

    ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, but for matrices of one shape, or of one another's
    transposed shape, taken together: a model has dozens, each too small to keep a processor busy.

    Args:
        parameters: matrices; of sharded ones each rank gathers the whole.
        lr: learning rate.
        momentum: how much of the last gradients is kept in the next.
        weight_decay: fraction of a matrix, times the learning rate, taken off at each step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all matrices that have a gradient, after ``closure``, whose value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices = [parameter for parameter in group["params"] if parameter.grad is not None]
            for matrix, update in zip(matrices, orthogonal(self._momenta(matrices, group["momentum"])), strict=True):
                size = _AS_ADAM * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(sliced(update, matrix), alpha=-group["lr"] * size)
        return loss

    def _momenta(self, matrices: Sequence[nn.Parameter], momentum: float) -> list[Tensor]:
        """The momentum of each, whole, with the gradient once more."""
        momenta = []
        for matrix in matrices:
            assert matrix.grad is not None
            state = self.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix.grad)
            state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
            momenta.append(whole(matrix.grad.lerp(state["momentum_buffer"], momentum)))
        return momenta


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Each matrix U S V^T as about U V^T, by Newton-Schulz steps: singular values of 0.7 to 1.2, most of them.

    In bf16, as Jordan et al. have it, where the device has that arithmetic.
    """
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, matrix in enumerate(matrices):
        alike[min(matrix.shape), max(matrix.shape)].append(number)
    results = list(matrices)
    for numbers in alike.values():
        wide = [matrices[n].mT if _is_tall(matrices[n]) else matrices[n] for n in numbers]
        for number, result in zip(numbers, _newton_schulz(torch.stack(wide)), strict=True):
            results[number] = result.mT if _is_tall(matrices[number]) else result
    return results


def _newton_schulz(matrices: Tensor) -> Tensor:
    """Of (count, rows, columns), with no more rows than columns, as the products of rows are what is small."""
    a, b, c = _COEFFICIENTS
    scaled = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    x = scaled.bfloat16() if has_bf16(matrices.device.type) else scaled
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]
