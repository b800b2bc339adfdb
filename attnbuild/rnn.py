"""Recurrent networks: names and initialisation shared by encoder and decoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from attnbuild.linear import by_onednn, linear
from attnbuild.step_gradients.gathering import is_read_by_steps

__all__ = ["Cell", "gru_step", "initialise_recurrent", "lstm_step"]

Cell = Literal["lstm", "gru"]


def initialise_recurrent(module: nn.Module) -> None:
    """Per gate: Xavier uniform input matrices, orthogonal recurrent ones (Saxe et al. 2014); zero biases.

    An LSTM's forget gate starts open, with bias 1 (Jozefowicz et al. 2015). PyTorch orders the gates
    input, forget, cell, output and adds two biases; one of them holds the 1.
    """
    gates = 4 if isinstance(module, (nn.LSTM, nn.LSTMCell)) else 3
    for name, parameter in module.named_parameters():
        if name.startswith("weight_ih"):
            for gate in parameter.chunk(gates):
                nn.init.xavier_uniform_(gate)
        elif name.startswith("weight_hh"):
            for gate in parameter.chunk(gates):
                nn.init.orthogonal_(gate)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)
            if gates == 4 and name.startswith("bias_ih"):
                nn.init.ones_(parameter.chunk(gates)[1])


def lstm_step(layer: nn.LSTMCell, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """``layer(inputs, (hidden, cell))``, its products in the fastest way: (R, D), (R, H), (R, H) -> (R, H) twice."""
    if not _multiplies_apart(layer, inputs):
        stepped: tuple[Tensor, Tensor] = layer(inputs, (hidden, cell))
        return stepped
    gates = linear(inputs, layer.weight_ih, layer.bias_ih) + linear(hidden, layer.weight_hh, layer.bias_hh)
    enters, stays, new, shown = gates.chunk(4, dim=1)
    cell = torch.sigmoid(stays) * cell + torch.sigmoid(enters) * torch.tanh(new)
    return torch.sigmoid(shown) * torch.tanh(cell), cell


def gru_step(layer: nn.GRUCell, inputs: Tensor, hidden: Tensor) -> Tensor:
    """``layer(inputs, hidden)``, its products in the fastest way: (R, D) and (R, H) -> (R, H)."""
    if not _multiplies_apart(layer, inputs):
        stepped: Tensor = layer(inputs, hidden)
        return stepped
    from_inputs = linear(inputs, layer.weight_ih, layer.bias_ih).chunk(3, dim=1)
    from_hidden = linear(hidden, layer.weight_hh, layer.bias_hh).chunk(3, dim=1)
    resets, stays = (torch.sigmoid(from_inputs[gate] + from_hidden[gate]) for gate in (0, 1))
    new = torch.tanh(from_inputs[2] + resets * from_hidden[2])
    return new + stays * (hidden - new)


def _multiplies_apart(layer: nn.RNNCellBase, inputs: Tensor) -> bool:
    """Whether its products are made one by one, by another library or for all steps to share their gradient."""
    return by_onednn(inputs, layer.weight_ih) or is_read_by_steps(layer.weight_ih)
