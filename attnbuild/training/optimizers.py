"""Optimisers: which rule turns gradients into new weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from torch import nn

from attnbuild.registry import register
from attnbuild.training.chained import Chained

__all__ = ["OptimizerPlace", "adam", "adamw", "muon", "sgd"]

Rate = Annotated[float, Gt(0)]
Beta = Annotated[float, Interval(ge=0, lt=1)]
#: What single precision takes for 0 would divide by 0 where a gradient always is 0, as a key's bias has it.
Epsilon = Annotated[float, Ge(1e-30)]

#: Modules whose weights are no matrices of a linear map; decaying them only shrinks their scale.
_NO_MATRICES = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.Embedding)

#: The output layer's matrix, in every decoder, where it is none that an embedding shares.
_OUTPUT = "decoder.output.weight"


@dataclass(frozen=True)
class OptimizerPlace:
    """What an optimiser is built from.

    Attributes:
        model: the model whose parameters are trained.
        fused: whether the one-kernel update may be used; it cannot be combined with gradient scaling.
    """

    model: nn.Module
    fused: bool = False


@register("optimizer", "adamw")
def adamw(
    place: OptimizerPlace,
    *,
    lr: Rate,
    beta1: Beta = 0.9,
    beta2: Beta = 0.98,
    eps: Epsilon = 1e-9,
    weight_decay: Annotated[float, Ge(0)] = 0.01,
    decay_all: bool = False,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Args:
        lr: peak learning rate, which the scheduler scales.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of squared gradients.
        eps: added to the denominator.
        weight_decay: fraction of a weight, times the learning rate, taken off at each step.
        decay_all: decay biases, norms and embeddings too, which are left alone otherwise.
    """
    groups = decay_groups(place.model, weight_decay, decay_all)
    return torch.optim.AdamW(groups, lr=lr, betas=_betas(beta1, beta2), eps=eps, fused=place.fused or None)


@register("optimizer", "adam")
def adam(
    place: OptimizerPlace, *, lr: Rate, beta1: Beta = 0.9, beta2: Beta = 0.98, eps: Epsilon = 1e-9
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2015), with the betas of Vaswani et al. (2017) as defaults.

    Args:
        lr: peak learning rate, which the scheduler scales.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of squared gradients.
        eps: added to the denominator.
    """
    parameters = trainable(place.model.parameters())
    return torch.optim.Adam(parameters, lr=lr, betas=_betas(beta1, beta2), eps=eps, fused=place.fused or None)


@register("optimizer", "muon")
def muon(
    place: OptimizerPlace,
    *,
    lr: Rate,
    momentum: Beta = 0.95,
    beta1: Beta = 0.9,
    beta2: Beta = 0.98,
    eps: Epsilon = 1e-9,
    weight_decay: Annotated[float, Ge(0)] = 0.01,
) -> torch.optim.Optimizer:
    """Muon (Jordan et al., 2024) for the matrices within the model, AdamW for everything else.

    The update of a matrix is its gradient's momentum with all singular values brought near 1, and as large as
    one of Adam's (Liu et al. 2025, arXiv:2502.16982, equation 4), so one learning rate serves both.
    Embeddings, the output layer, biases, norms and kernels of convolutions are what AdamW has.

    Args:
        lr: peak learning rate, which the scheduler scales.
        momentum: how much of the last gradients is kept in the next, of matrices.
        beta1: decay of the mean of gradients, of everything else.
        beta2: decay of the mean of squared gradients, of everything else.
        eps: added to the denominator, of everything else.
        weight_decay: fraction of a matrix, times the learning rate, taken off at each step.
    """
    from attnbuild.training.muon import Muon  # with it come sharded tensors, which take a while to load

    inner = {p for name, p in place.model.named_parameters() if p.ndim == 2 and name != _OUTPUT}
    of_muon, of_adam = _parted(place.model, inner & matrices(place.model))
    parts: list[torch.optim.Optimizer] = []
    if of_muon:
        parts.append(Muon(of_muon, lr=lr, momentum=momentum, weight_decay=weight_decay))
    if of_adam:
        betas = _betas(beta1, beta2)
        parts.append(
            torch.optim.AdamW(of_adam, lr=lr, betas=betas, eps=eps, weight_decay=0.0, fused=place.fused or None)
        )
    return Chained(*parts)


@register("optimizer", "sgd")
def sgd(
    place: OptimizerPlace,
    *,
    lr: Rate,
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum.

    Args:
        lr: peak learning rate, which the scheduler scales.
        momentum: how much of the last update is kept in the next.
        weight_decay: factor of the L2 penalty, on matrices only.
    """
    groups = decay_groups(place.model, weight_decay, decay_all=False)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def _betas(beta1: float, beta2: float) -> tuple[float, float]:
    """Both as floats: torch takes no whole number for one, and 0 is a number that a config may have."""
    return float(beta1), float(beta2)


def trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in parameters if parameter.requires_grad]


def decay_groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict[str, Any]]:
    """Two parameter groups: matrices, which decay, and biases, norms and embeddings, which do not.

    A matrix shared with an embedding (tied output projection) counts as the embedding.
    """
    decayed, others = _parted(model, set(model.parameters()) if decay_all else matrices(model))
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _parted(model: nn.Module, chosen: set[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters to train that are among the chosen, and the others, in the model's order."""
    parameters = trainable(model.parameters())
    return [p for p in parameters if p in chosen], [p for p in parameters if p not in chosen]


def matrices(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of two dimensions or more that are no embeddings or norms; nor shared with one."""
    spared = {p for part in model.modules() if isinstance(part, _NO_MATRICES) for p in part.parameters(recurse=False)}
    return {p for p in model.parameters() if p.ndim >= 2} - spared
