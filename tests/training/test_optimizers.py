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


def test_muon_has_the_inner_matrices_and_adam_the_rest() -> None:
    model = Tied()
    of_muon, of_adam = build(model, type="muon", lr=0.1, weight_decay=0.3).param_groups
    assert [id(parameter) for parameter in of_muon["params"]] == [id(model.linear.weight)]
    assert (of_muon["weight_decay"], of_adam["weight_decay"]) == (0.3, 0)
    assert len(of_adam["params"]) == 5


def test_muon_leaves_an_output_layer_of_its_own_to_adam() -> None:
    model = nn.Module()
    model.decoder = nn.Module()
    model.decoder.inner, model.decoder.output = nn.Linear(4, 4, bias=False), nn.Linear(4, 7, bias=False)
    of_muon, of_adam = build(model, type="muon", lr=0.1).param_groups
    assert of_muon["params"] == [model.decoder.inner.weight]
    assert of_adam["params"] == [model.decoder.output.weight]


def test_a_matrix_moves_by_muon_as_far_in_every_direction() -> None:
    """The first update is the gradient with singular values near 1, as large as one of Adam's: 0.2 of lr an element."""
    torch.manual_seed(0)
    model = nn.Linear(16, 32, bias=False)
    before = model.weight.detach().clone()
    optimizer = build(model, type="muon", lr=0.5, weight_decay=0)
    gradient = torch.randn(32, 16) @ torch.diag(torch.logspace(-1, 1, 16))
    model.weight.grad = gradient.clone()
    optimizer.step()
    update = (before - model.weight.detach()) / (0.5 * 0.2 * 32**0.5)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.5  # what five Newton-Schulz steps reach; the gradient's are from 1 to 60
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    assert ((left.mT @ update @ right.mT).diagonal() > 0.5).all()


def test_muon_is_that_of_pytorch() -> None:
    """Up to the rounding of bf16, in which PyTorch's always computes."""
    torch.manual_seed(0)
    shapes = ((6, 9), (9, 6), (12, 12), (6, 9), (1, 8), (12, 12), (5, 5))
    model = nn.ParameterList(torch.randn(shape) for shape in shapes)
    peer = nn.ParameterList(parameter.detach().clone() for parameter in model)
    ours = build(model, type="muon", lr=0.1, momentum=0.9, weight_decay=0.2)
    theirs = torch.optim.Muon(peer, lr=0.1, momentum=0.9, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for own, other in zip(model, peer, strict=True):
            own.grad = torch.randn(own.shape)
            other.grad = own.grad.clone()
        model[6].grad = peer[6].grad = None  # as of a part that was not used
        ours.step()
        theirs.step()
    for own, other in zip(model, peer, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0.003)


def test_muon_goes_on_from_a_saved_state() -> None:
    def steps(model: Tied, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            optimizer.zero_grad()
            (model.linear(model.norm(model.embedding(torch.randint(7, (9,))))).tanh() * torch.randn(4)).sum().backward()
            optimizer.step()

    whole, first, second = Tied(), Tied(), Tied()
    first.load_state_dict(whole.state_dict())
    optimizers = [build(model, type="muon", lr=0.1) for model in (whole, first, second)]
    steps(whole, optimizers[0], range(6))
    steps(first, optimizers[1], range(3))
    second.load_state_dict(first.state_dict())
    optimizers[2].load_state_dict(optimizers[1].state_dict())
    for group in optimizers[2].param_groups:
        assert group["params"], "the parameters stay its own"
    steps(second, optimizers[2], range(3, 6))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0, msg=name)
