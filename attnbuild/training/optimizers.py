"""Optimisers: which rule turns gradients into new weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from torch import nn

from attnbuild.registry import register

__all__ = ["OptimizerPlace", "adam", "adamw", "sgd"]

Rate = Annotated[float, Gt(0)]
Beta = Annotated[float, Interval(ge=0, lt=1)]
#: What single precision takes for 0 would divide by 0 where a gradient always is 0, as a key's bias has it.
Epsilon = Annotated[float, Ge(1e-30)]

#: Modules whose weights are no matrices of a linear map; decaying them only shrinks their scale.
_NO_DECAY = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.Embedding)


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
    spared = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, _NO_DECAY) or parameter.ndim < 2:
                spared.add(parameter)
    if decay_all:
        spared = set()
    parameters = trainable(model.parameters())
    groups = [
        {"params": [p for p in parameters if p not in spared], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
