"""Searches that race in `generation.py`: each turns sources into outputs, with the weights of one model of ours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnbuild.data.batching import EvalBatches
from attnbuild.data.sides.text import pad_rows
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK
from attnbuild.embedding import sinusoids
from attnbuild.export.ctranslate2 import CTranslate2
from attnbuild.linear import packed
from attnbuild.model import EncoderDecoder
from attnbuild.training.checkpoint import Loaded

__all__ = ["LONGEST", "OURS", "PEERS", "SLOW", "Entrant", "Ours"]

OURS = "attnbuild"
#: The most tokens of an output, for all.
LONGEST = 100

Tokens = list[int]


class Entrant(ABC):
    """Searches for the outputs of sources.

    Args:
        loaded: the model whose weights it takes, and the task with the vocabularies.
        folder: for files that it needs.
    """

    name: str

    @abstractmethod
    def __init__(self, loaded: Loaded, folder: Path) -> None: ...

    @abstractmethod
    def search(self, sources: Sequence[Tokens], beam: int, rows: int) -> list[Tokens]:
        """Tokens of the best output of each source, by so many hypotheses at once, so many sources at a time."""


def batches(sources: Sequence[Tokens], rows: int) -> Iterator[list[int]]:
    """Numbers of sources that go together: of about one length, the longest first."""
    widths = np.array([[len(source) + 1] for source in sources])
    return (numbers for _, numbers in EvalBatches(widths, tokens=1 << 40, rows=rows))


def padded(sources: Sequence[Tokens], numbers: Sequence[int]) -> Tensor:
    return pad_rows([np.array(sources[number], np.int32) for number in numbers], begin=False)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


class Ours(Entrant):
    """attnbuild's own searches."""

    name = OURS

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        self.task: Any = loaded.task
        self.model: Any = loaded.model

    def search(self, sources: Sequence[Tokens], beam: int, rows: int) -> list[Tokens]:
        limits = {"max_length_ratio": 0.0, "max_length_extra": LONGEST}
        options = {"type": "greedy"} if beam == 1 else {"type": "beam", "beam": beam}
        search = self.task.search({**options, **limits})
        outputs: list[Tokens] = [[]] * len(sources)
        with torch.inference_mode(), packed(self.model):  # as `attnbuild predict` does
            for numbers in batches(sources, rows):
                ids = padded(sources, numbers).to(device_of(self.model))
                found = search(self.model.generator, self.model.encode(ids))
                for number, hypotheses in zip(numbers, found.tokens, strict=True):
                    outputs[number] = hypotheses[0]
        return outputs


class Transformers(Entrant):
    """``generate`` of transformers' MarianMT."""

    name = "transformers generate"

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        self.model = marian(post_norm_transformer(loaded))

    def search(self, sources: Sequence[Tokens], beam: int, rows: int) -> list[Tokens]:
        outputs: list[Tokens] = [[]] * len(sources)
        with torch.inference_mode():
            for numbers in batches(sources, rows):
                ids = padded(sources, numbers).to(device_of(self.model))
                found = self.model.generate(
                    input_ids=ids,
                    attention_mask=(ids != PAD).long(),
                    num_beams=beam,
                    do_sample=False,
                    max_new_tokens=LONGEST,
                    length_penalty=1.0,
                    early_stopping=beam > 1,
                )
                for number, row in zip(numbers, found.tolist(), strict=True):
                    outputs[number] = [token for token in row[1:] if token not in (PAD, EOS)]
        return outputs


def post_norm_transformer(loaded: Loaded) -> EncoderDecoder:
    """The model, where its weights fit MarianMT and JoeyNMT.

    Raises:
        ValueError: they do not.
    """
    model: Any = loaded.model
    parts = (model.encoder, model.decoder)
    if not all(hasattr(part, "layers") and isinstance(part.layers, nn.ModuleList) for part in parts):
        raise ValueError("it has no recurrent model of these weights")
    if any(part.layers[0].feedforward_residual.norm_first for part in parts):
        raise ValueError("its layer norms come after the sublayers: encoder.norm=post decoder.norm=post")
    assert isinstance(model, EncoderDecoder)
    return model


def marian(model: EncoderDecoder) -> Any:
    """A MarianMT with the weights of ours, a Transformer with layer norms after the sublayers."""
    from transformers import MarianConfig, MarianMTModel

    encoder, decoder = (getattr(model, part) for part in ("encoder", "decoder"))
    vocabulary, dim = encoder.embedding.tokens.weight.shape
    config = MarianConfig(
        vocab_size=vocabulary,
        d_model=dim,
        encoder_layers=len(encoder.layers),
        decoder_layers=len(decoder.layers),
        encoder_attention_heads=encoder.layers[0].attention.heads,
        decoder_attention_heads=decoder.layers[0].self_attention.heads,
        encoder_ffn_dim=encoder.layers[0].feedforward.expand.out_features,
        decoder_ffn_dim=decoder.layers[0].feedforward.expand.out_features,
        activation_function="relu",
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
    )
    peer = MarianMTModel(config).eval()
    peer.generation_config.suppress_tokens = [PAD, BOS, UNK]
    with torch.no_grad():
        _copy(peer.model.shared, encoder.embedding.tokens)
        peer.final_logits_bias.zero_()
        for theirs, ours in ((peer.model.encoder, encoder), (peer.model.decoder, decoder)):
            theirs.embed_positions.weight.copy_(sinusoids(torch.arange(config.max_position_embeddings), dim))
            for their_layer, layer in zip(theirs.layers, ours.layers, strict=True):
                _copy_layer(their_layer, layer)
    return peer


class Joey(Entrant):
    """JoeyNMT's search, which decodes every prefix anew."""

    name = "JoeyNMT"

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        self.model = joey(post_norm_transformer(loaded))

    def search(self, sources: Sequence[Tokens], beam: int, rows: int) -> list[Tokens]:
        from joeynmt.search import search

        outputs: list[Tokens] = [[]] * len(sources)
        for numbers in batches(sources, rows):
            ids = padded(sources, numbers)
            seen = ids != PAD
            batch = SimpleNamespace(src=ids, src_mask=seen.unsqueeze(1), src_length=seen.sum(1), has_trg=False)
            with torch.inference_mode():
                found, *_ = search(
                    self.model, batch, max_output_length=LONGEST, beam_size=beam, beam_alpha=1.0, generate_unk=False
                )
            for number, row in zip(numbers, found.tolist(), strict=True):
                end = row.index(EOS) if EOS in row else len(row)
                outputs[number] = [token for token in row[:end] if token != PAD]
        return outputs


def joey(model: EncoderDecoder) -> Any:
    """A Transformer of JoeyNMT with the weights of ours, whose layer norms come after the sublayers."""
    from joeynmt.decoders import TransformerDecoder
    from joeynmt.embeddings import Embeddings
    from joeynmt.encoders import TransformerEncoder
    from joeynmt.model import Model

    encoder, decoder = (getattr(model, part) for part in ("encoder", "decoder"))
    vocabulary, dim = encoder.embedding.tokens.weight.shape
    layer = encoder.layers[0]
    shape = {
        **{"hidden_size": dim, "ff_size": layer.feedforward.expand.out_features, "layer_norm": "post"},
        "num_heads": layer.attention.heads,
    }
    embedding = Embeddings(dim, scale=True, vocab_size=vocabulary, padding_idx=PAD)
    indices = SimpleNamespace(
        **{"pad_index": PAD, "bos_index": BOS, "eos_index": EOS, "unk_index": UNK, "sep_index": None},
        **{"specials": [], "lang_tags": []},
    )
    peer = Model(
        TransformerEncoder(**shape, num_layers=len(encoder.layers)),
        TransformerDecoder(**shape, num_layers=len(decoder.layers), vocab_size=vocabulary),
        *(embedding, embedding, indices, indices),
    ).eval()
    peer.decoder.output_layer.weight = embedding.lut.weight
    with torch.no_grad():
        _copy(embedding.lut, encoder.embedding.tokens)
        for theirs, ours in ((peer.encoder, encoder), (peer.decoder, decoder)):
            for their_layer, our_layer in zip(theirs.layers, ours.layers, strict=True):
                _copy_joey_layer(their_layer, our_layer)
    return peer


def _copy_joey_layer(theirs: Any, ours: Any) -> None:
    if hasattr(ours, "cross_attention"):
        attentions = ((theirs.trg_trg_att, ours.self_attention), (theirs.src_trg_att, ours.cross_attention))
        norms = ((theirs.x_layer_norm, ours.self_residual.norm), (theirs.dec_layer_norm, ours.cross_residual.norm))
    else:
        attentions = ((theirs.src_src_att, ours.attention),)
        norms = ((theirs.layer_norm, ours.attention_residual.norm),)
    for attention, our_attention in attentions:
        for name in ("query", "key", "value", "out"):
            their_name = "output_layer" if name == "out" else f"{name[0]}_layer"
            _copy(getattr(attention, their_name), getattr(our_attention, f"{name}_projection"))
    for norm, our_norm in (*norms, (theirs.feed_forward.layer_norm, ours.feedforward_residual.norm)):
        _copy(norm, our_norm)
        norm.eps = our_norm.eps
    _copy(theirs.feed_forward.pwff_layer[0], ours.feedforward.expand)
    _copy(theirs.feed_forward.pwff_layer[3], ours.feedforward.contract)


def _copy_layer(theirs: Any, ours: Any) -> None:
    own, residual = (
        (ours.attention, ours.attention_residual)
        if hasattr(ours, "attention")
        else (ours.self_attention, ours.self_residual)
    )
    _copy_attention(theirs.self_attn, own)
    _copy(theirs.self_attn_layer_norm, residual.norm)
    if hasattr(ours, "cross_attention"):
        _copy_attention(theirs.encoder_attn, ours.cross_attention)
        _copy(theirs.encoder_attn_layer_norm, ours.cross_residual.norm)
    _copy(theirs.fc1, ours.feedforward.expand)
    _copy(theirs.fc2, ours.feedforward.contract)
    _copy(theirs.final_layer_norm, ours.feedforward_residual.norm)


def _copy_attention(theirs: Any, ours: Any) -> None:
    for name in ("query", "key", "value", "out"):
        their_name = "out_proj" if name == "out" else f"{name[0]}_proj"
        _copy(getattr(theirs, their_name), getattr(ours, f"{name}_projection"))


def _copy(theirs: nn.Module, ours: nn.Module) -> None:
    for name, parameter in ours.named_parameters():
        getattr(theirs, name).copy_(parameter)


class CTranslate(Entrant):
    """CTranslate2, on a copy of the weights."""

    precision = "float32"
    name = "ctranslate2 fp32"

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        import ctranslate2

        task: Any = loaded.task
        assert isinstance(loaded.model, EncoderDecoder)
        refusals = CTranslate2(None).refusals(loaded.model)
        if refusals:
            raise ValueError("; ".join(refusals))
        into = folder / self.precision
        into.mkdir()
        CTranslate2(None).write(loaded.model, task, into)
        self.source, self.target = (side.vocabulary.pieces() for side in (task.source_side, task.target_side))
        self.index = {piece: number for number, piece in enumerate(self.target)}
        self.translator = ctranslate2.Translator(
            str(into), device="cpu", compute_type=self.precision, intra_threads=torch.get_num_threads()
        )

    def search(self, sources: Sequence[Tokens], beam: int, rows: int) -> list[Tokens]:
        pieces = [[self.source[token] for token in source] for source in sources]
        found = self.translator.translate_batch(
            pieces,
            beam_size=beam,
            max_batch_size=rows,
            batch_type="examples",
            max_decoding_length=LONGEST,
            length_penalty=1.0,
            disable_unk=True,
        )
        return [[self.index[piece] for piece in result.hypotheses[0]] for result in found]


class CTranslateInt8(CTranslate):
    """The same in eight bits."""

    precision = "int8"
    name = "ctranslate2 int8"


#: Who has one turn and no warm-up.
SLOW = (Joey.name,)
PEERS: tuple[type[Entrant], ...] = (Transformers, Joey, CTranslate, CTranslateInt8)
