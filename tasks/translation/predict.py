"""Translating a stream of lines: batched for speed, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from attnbuild.data.tokenizers.vocabulary import EOS, PAD, Vocabulary
from attnbuild.generation.base import Search
from attnbuild.model import EncoderDecoder
from attnbuild.training.task import Prediction

__all__ = ["encode_sources", "translate_stream"]

#: Lines read ahead, so that those of equal length can be translated together.
CHUNK = 512


def translate_stream(
    model: EncoderDecoder,
    lines: Iterable[str],
    search: Search,
    vocabularies: tuple[Vocabulary, Vocabulary],
    tokens: int,
    device: torch.device,
) -> Iterator[Prediction]:
    """Translate lines lazily.

    Args:
        model: in evaluation mode.
        lines: source texts; an empty one gives an empty translation, so that lines stay aligned.
        search: how the translation is found.
        vocabularies: of source and target.
        tokens: padded source tokens in a batch.
        device: where the model is.
    """
    stream = enumerate(lines)
    while chunk := list(islice(stream, CHUNK)):
        yield from _translate_chunk(model, chunk, search, vocabularies, tokens, device)


@torch.no_grad()
def _translate_chunk(
    model: EncoderDecoder,
    chunk: list[tuple[int, str]],
    search: Search,
    vocabularies: tuple[Vocabulary, Vocabulary],
    tokens: int,
    device: torch.device,
) -> list[Prediction]:
    encoded = encode_sources([text for _, text in chunk], vocabularies[0])
    done = {index: Prediction(index, "", text) for index, text in chunk}
    rows = [row for row, (_, text) in enumerate(chunk) if text.strip()]
    rows.sort(key=lambda row: len(encoded[row]), reverse=True)
    while rows:
        width = max(1, tokens // len(encoded[rows[0]]))
        batch, rows = rows[:width], rows[width:]
        source = pad_sequence([encoded[row] for row in batch], batch_first=True, padding_value=PAD).to(device)
        index = torch.tensor([chunk[row][0] for row in batch], device=device)
        generated = search(model.decoder, model.encode(source), index)
        for row, hypotheses, scores in zip(batch, generated.tokens, generated.scores, strict=True):
            number, source_text = chunk[row]
            n_best = tuple(zip(vocabularies[1].decode(hypotheses), scores, strict=True))
            done[number] = Prediction(number, n_best[0][0], source_text, score=scores[0], n_best=n_best)
    return [done[index] for index, _ in chunk]


def encode_sources(texts: list[str], vocabulary: Vocabulary) -> list[Tensor]:
    """Each text as token ids that end with EOS, (S,)."""
    return [torch.tensor([*ids, EOS]) for ids in vocabulary.encode(texts)]
