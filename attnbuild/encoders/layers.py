"""What Transformer encoders share, whatever they read: layers, and a class token before the positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.choice import Choice
from attnbuild.attention.maker import AttentionMaker
from attnbuild.encoders.base import Encoder
from attnbuild.errors import ConfigError, Problem
from attnbuild.feedforward import Activation, FeedForward
from attnbuild.memory import Memory, masked_mean
from attnbuild.residual import Norm, Residual, require_width

__all__ = ["EncoderLayer", "LayeredEncoder"]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with its residual.

    Args:
        attention: of this layer.
        dim: width of the states.
        feedforward: width inside the position-wise network.
        norm: where the layer norms stand.
        activation: of the position-wise network.
        dropout: probability of dropping a channel after each sublayer.
        drop_path: probability of leaving a sublayer out for a whole example, in training.
    """

    def __init__(
        self,
        attention: AttentionBlock,
        *,
        dim: int,
        feedforward: int,
        norm: Norm,
        activation: Activation,
        dropout: float,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = require_width(attention, dim)
        self.feedforward = FeedForward(dim, feedforward, activation=activation, dropout=dropout)
        self.attention_residual = Residual(dim, norm=norm, dropout=dropout, drop_path=drop_path)
        self.feedforward_residual = Residual(dim, norm=norm, dropout=dropout, drop_path=drop_path)

    def forward(self, states: Tensor, key_padding_mask: Tensor | None) -> tuple[Tensor, list[Choice]]:
        """(B, S, dim) -> (B, S, dim), and what a sampled attention chose.

        The choices are given back, not added to a list of the caller: what shards layers may hand them copies.
        """
        choices: list[Choice] = []

        def attend(query: Tensor) -> Tensor:
            attended = self.attention.attend(query, Memory(query, key_padding_mask, query[:, 0]))
            if attended.choice is not None:
                choice = attended.choice
                choices.append(choice if key_padding_mask is None else choice.where(~key_padding_mask))
            return attended.values

        return self.feedforward_residual(self.attention_residual(states, attend), self.feedforward), choices


class LayeredEncoder(Encoder):
    """Base of encoders that are layers of self-attention over embedded tokens or patches.

    A class token is a learned vector before the first position: it takes part in every layer, and its last state
    is the summary (Devlin et al. 2019, 3; Dosovitskiy et al. 2021, 3.1). It is not among the states of the memory.

    Derive, make the embedding, call ``add_layers``; ``forward`` embeds and calls ``encode``.
    """

    def add_layers(
        self,
        make_attention: AttentionMaker,
        *,
        dim: int,
        layers: int,
        feedforward: int,
        norm: Norm,
        activation: Activation,
        dropout: float,
        drop_path: float = 0.0,
        class_token: bool = False,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """Make all but the embedding.

        Args:
            make_attention: builds the attention of the place ``attention``.
            dim: width of the states.
            layers: number of layers.
            feedforward: width inside the position-wise network.
            norm: layer norm before (pre) or after (post) each sublayer.
            activation: of the position-wise network.
            dropout: probability of dropping a channel after each sublayer.
            drop_path: probability of leaving a sublayer out for a whole example; 0 at the first layer, rises evenly
                to this at the last.
            class_token: whether there is one.
            grid: (height, width) where positions are the cells of an image, row by row.
        """
        self.dim, self.grid, self.own_summary = dim, grid, class_token
        self.class_token = nn.Parameter(torch.empty(dim)) if class_token else None
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=0.02)
        made = [
            EncoderLayer(
                make_attention("attention", dim=dim, layer=layer, grid=grid, extra=int(class_token)),
                dim=dim,
                feedforward=feedforward,
                norm=norm,
                activation=activation,
                dropout=dropout,
                drop_path=drop_path * layer / max(layers - 1, 1),
            )
            for layer in range(layers)
        ]
        if grid is not None:
            _require_length([layer.attention for layer in made], grid[0] * grid[1] + int(class_token))
        self.layers = nn.ModuleList(made)
        self.norm = nn.LayerNorm(dim) if norm == "pre" else nn.Identity()

    def encode(self, states: Tensor, key_padding_mask: Tensor | None) -> Memory:
        """Embedded tokens or patches (B, S, dim), without a class token, and their padding -> memory."""
        mask = key_padding_mask
        choices: list[Choice] = []
        if self.class_token is not None:
            states, mask = _put_first(self.class_token, states, mask)
        for layer in self.layers:
            states, chosen = layer(states, mask)
            choices += chosen
        states = self.norm(states)
        if self.class_token is None:
            summary = masked_mean(states, key_padding_mask)
        else:
            states, summary = states[:, 1:], states[:, 0]
        return Memory(states, key_padding_mask, summary, self.grid, choices)


def _require_length(attentions: list[AttentionBlock], length: int) -> None:
    """Refuses attentions that cannot serve so many positions, where their number is known beforehand."""
    short = {(block.spec.path, block.max_len) for block in attentions if (block.max_len or length) < length}
    if short:
        raise ConfigError(
            [
                Problem(
                    f"{path}.max_len", f"{limit}: this encoder has {length} positions, so set it to {length} or more"
                )
                for path, limit in sorted(short)
            ]
        )


def _put_first(token: Tensor, states: Tensor, key_padding_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """(dim,) before (B, S, dim), and a real position before those of the mask (B, S), if there is one."""
    rows = len(states)
    joined = torch.cat([token.to(states.dtype).expand(rows, 1, -1), states], dim=1)
    if key_padding_mask is None:
        return joined, None
    return joined, torch.cat([key_padding_mask.new_zeros(rows, 1), key_padding_mask], dim=1)
