from __future__ import annotations

import pytest
import torch
from torch import nn

from attnbuild import registry
from attnbuild.errors import ConfigError
from attnbuild.training.optimizers import OptimizerPlace


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)
        self.output = nn.Linear(4, 7)
        self.output.weight = self.embedding.weight
        self.frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)


def build(model: nn.Module, **options: object) -> torch.optim.Optimizer:
    return registry.build("optimizer", OptimizerPlace(model), options, "optimizer")


def test_only_matrices_decay() -> None:
    model = Tied()
    decayed, spared = build(model, type="adamw", lr=0.1, weight_decay=0.3).param_groups
    assert [id(parameter) for parameter in decayed["params"]] == [id(model.linear.weight)]
    assert decayed["weight_decay"] == 0.3
    assert spared["weight_decay"] == 0
    # embedding (shared with the output), norm weight and bias, two biases; the frozen one is in no group
    assert len(spared["params"]) == 5
    (everything,) = build(model, type="adamw", lr=0.1, decay_all=True).param_groups
    assert len(everything["params"]) == 6


@pytest.mark.parametrize("name", registry.names("optimizer"))
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_lowers_the_loss(name: str, fused: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = registry.build("optimizer", OptimizerPlace(model, fused), {"type": name, "lr": 0.01})
    inputs = torch.randn(20, 3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (model(inputs) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_wrong_options_are_refused_together() -> None:
    with pytest.raises(ConfigError) as error:
        build(nn.Linear(1, 1), type="adamw", lr=-1.0, beta2=1.0, momentum=0.9)
    assert {problem.path for problem in error.value.problems} == {
        "optimizer.lr",
        "optimizer.beta2",
        "optimizer.momentum",
    }


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_whole_number_is_a_beta(name: str) -> None:
    """``optimizer.beta1=0`` is how one types it."""
    optimizer = registry.build("optimizer", OptimizerPlace(torch.nn.Linear(2, 2)), {"type": name, "lr": 1, "beta1": 0})
    assert optimizer.defaults["betas"] == (0.0, 0.98)
