"""Models that race in `training.py`: one shape of Transformer as each library builds it, and recurrent ones.

All of them: embeddings shared by source, target and output, scaled, dropout on the embeddings, the attention
weights, inside the feed-forward network and after each sublayer, where the library has a place for it. Their own
loss is ``F.cross_entropy``, the fastest that PyTorch has.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbuild.data.tokenizers.vocabulary import BOS, PAD
from attnbuild.embedding import sinusoids

__all__ = ["DROPOUT", "PEERS", "RNN_PEERS", "SMOOTHING", "Marian", "Peer", "Shape", "Torch", "update"]

DROPOUT, SMOOTHING = 0.1, 0.1
LONGEST = 512


@dataclass(frozen=True)
class Shape:
    """Of a model; recurrent ones have one layer of ``dim``."""

    dim: int = 256
    feedforward: int = 1024
    layers: int = 3
    heads: int = 4


def update(losses: Sequence[Callable[[], Tensor]], optimizer: torch.optim.Optimizer, tokens: int) -> None:
    """One update of a bare loop: the mean over all tokens."""
    optimizer.zero_grad(set_to_none=True)
    for loss in losses:
        (loss() / tokens).backward()
    optimizer.step()


class Peer(nn.Module):
    """A model of another library.

    Args:
        vocabulary: number of tokens, of source and target alike.
        shape: of the model.
    """

    name: ClassVar[str]

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__()

    @abstractmethod
    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, S) and the tokens (B, T) that a decoder reads -> (B, T, V)."""

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        """The sum of label-smoothed losses over the real tokens of targets (B, T + 1)."""
        logits = self.logits(source, target[:, :-1])
        return F.cross_entropy(
            logits.flatten(0, 1),
            target[:, 1:].flatten(),
            ignore_index=PAD,
            label_smoothing=SMOOTHING,
            reduction="sum",
        )


class Marian(Peer):
    """MarianMT of transformers, with its SDPA attention."""

    name = "transformers MarianMT"

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__(vocabulary, shape)
        from transformers import MarianConfig, MarianMTModel

        sizes = {
            f"{part}_{what}": value
            for part in ("encoder", "decoder")
            for what, value in (
                ("layers", shape.layers),
                ("attention_heads", shape.heads),
                ("ffn_dim", shape.feedforward),
            )
        }
        config = MarianConfig(
            vocab_size=vocabulary,
            d_model=shape.dim,
            **sizes,
            decoder_start_token_id=BOS,
            dropout=DROPOUT,
            attention_dropout=DROPOUT,
            activation_dropout=DROPOUT,
            activation_function="relu",
            scale_embedding=True,
            tie_word_embeddings=True,
            max_position_embeddings=LONGEST,
            pad_token_id=PAD,
            use_cache=False,
        )
        self.model = MarianMTModel(config)

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        logits: Tensor = self.model(
            input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=target
        ).logits
        return logits


class _Embedding(nn.Module):
    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim, padding_idx=PAD)
        nn.init.normal_(self.tokens.weight, std=dim**-0.5)
        self.dropout = nn.Dropout(DROPOUT)
        self.register_buffer("positions", sinusoids(torch.arange(LONGEST), dim))

    def forward(self, tokens: Tensor) -> Tensor:
        scale = math.sqrt(self.tokens.embedding_dim)
        embedded: Tensor = self.dropout(self.tokens(tokens) * scale + self.positions[: tokens.shape[1]])
        return embedded


class Torch(Peer):
    """torch.nn.Transformer."""

    name = "torch.nn.Transformer"

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__(vocabulary, shape)
        self.embedding = _Embedding(vocabulary, shape.dim)
        self.model = nn.Transformer(
            shape.dim, shape.heads, shape.layers, shape.layers, shape.feedforward, DROPOUT, batch_first=True
        )

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        padding = source == PAD
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).triu(1)
        states = self.model(
            self.embedding(source),
            self.embedding(target),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return F.linear(states, self.embedding.tokens.weight)


class JoeyNMT(Peer):
    """JoeyNMT's Transformer, faster with PyTorch's loss than with its own."""

    name = "JoeyNMT"

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__(vocabulary, shape)
        from joeynmt.decoders import TransformerDecoder
        from joeynmt.embeddings import Embeddings
        from joeynmt.encoders import TransformerEncoder

        options = {
            **{
                "hidden_size": shape.dim,
                "ff_size": shape.feedforward,
                "num_layers": shape.layers,
                "num_heads": shape.heads,
            },
            **{"dropout": DROPOUT, "emb_dropout": DROPOUT, "layer_norm": "post"},
        }
        self.embedding = Embeddings(shape.dim, scale=True, vocab_size=vocabulary, padding_idx=PAD)
        nn.init.normal_(self.embedding.lut.weight, std=shape.dim**-0.5)
        self.encoder = TransformerEncoder(**options)
        self.decoder = TransformerDecoder(**options, vocab_size=vocabulary)
        self.decoder.output_layer.weight = self.embedding.lut.weight

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        seen = (source != PAD).unsqueeze(1)
        memory, _ = self.encoder(self.embedding(source), None, seen)
        logits: Tensor = self.decoder(
            trg_embed=self.embedding(target),
            encoder_output=memory,
            encoder_hidden=None,
            src_mask=seen,
            unroll_steps=None,
            hidden=None,
            trg_mask=(target != PAD).unsqueeze(1),
        )[0]
        return logits


class XTransformers(Peer):
    """x-transformers, which has no dropout after sublayers; with its fast attention."""

    name = "x-transformers"

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__(vocabulary, shape)
        from x_transformers import Decoder, Encoder, TransformerWrapper

        options = {
            **{
                "dim": shape.dim,
                "depth": shape.layers,
                "heads": shape.heads,
                "attn_dim_head": shape.dim // shape.heads,
                "attn_flash": True,
            },
            **{"attn_dropout": DROPOUT, "ff_dropout": DROPOUT, "ff_mult": shape.feedforward // shape.dim},
        }
        both = {"num_tokens": vocabulary, "max_seq_len": LONGEST, "emb_dropout": DROPOUT}
        self.encoder = TransformerWrapper(**both, attn_layers=Encoder(**options))
        self.decoder = TransformerWrapper(**both, tie_embedding=True, attn_layers=Decoder(**options, cross_attend=True))
        self.encoder.token_emb = self.decoder.token_emb

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        seen = source != PAD
        memory = self.encoder(source, mask=seen, return_embeddings=True)
        logits: Tensor = self.decoder(target, context=memory, context_mask=seen)
        return logits


class JoeyRNN(Peer):
    """JoeyNMT's recurrent model: bidirectional LSTM, Luong's attention, input feeding."""

    name = "JoeyNMT"

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__(vocabulary, shape)
        from joeynmt.decoders import RecurrentDecoder
        from joeynmt.embeddings import Embeddings
        from joeynmt.encoders import RecurrentEncoder

        options = {
            **{"rnn_type": "lstm", "hidden_size": shape.dim, "emb_size": shape.dim, "num_layers": 1},
            **{"dropout": DROPOUT, "emb_dropout": DROPOUT},
        }
        self.embedding = Embeddings(shape.dim, vocab_size=vocabulary, padding_idx=PAD)
        nn.init.normal_(self.embedding.lut.weight, std=shape.dim**-0.5)
        self.encoder = RecurrentEncoder(**{**options, "hidden_size": shape.dim // 2})
        self.decoder = RecurrentDecoder(
            **options,
            encoder=self.encoder,
            attention="luong",
            vocab_size=vocabulary,
            init_hidden="bridge",
            input_feeding=True,
            hidden_dropout=DROPOUT,
        )
        self.decoder.output_layer.weight = self.embedding.lut.weight

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        order = (source != PAD).sum(1).argsort(descending=True)  # its packed sequences want the longest first
        return super().loss(source[order], target[order])

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        seen = source != PAD
        memory, hidden = self.encoder(self.embedding(source), seen.sum(1), seen.unsqueeze(1))
        logits: Tensor = self.decoder(
            trg_embed=self.embedding(target),
            encoder_output=memory,
            encoder_hidden=hidden,
            src_mask=seen.unsqueeze(1),
            unroll_steps=target.shape[1],
            hidden=None,
            trg_mask=None,
        )[0]
        return logits


PEERS: tuple[type[Peer], ...] = (Marian, Torch, JoeyNMT, XTransformers)
RNN_PEERS: tuple[type[Peer], ...] = (JoeyRNN,)
