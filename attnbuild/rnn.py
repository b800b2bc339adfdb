"""Recurrent networks: names and initialisation shared by encoder and decoder."""

from __future__ import annotations

from typing import Literal

from torch import nn

__all__ = ["Cell", "initialise_recurrent"]

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
