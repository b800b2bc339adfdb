"""Pictures of which source token each target token looked at, for a few sentences."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, Vocabulary
from attnbuild.generation.align import align
from attnbuild.generation.base import SearchPlace
from attnbuild.generation.greedy import Greedy
from attnbuild.model import EncoderDecoder
from attnbuild.tasks.translation.predict import encode_sources

__all__ = ["draw_maps"]


@torch.no_grad()
def draw_maps(
    model: EncoderDecoder,
    sources: list[str],
    vocabularies: tuple[Vocabulary, Vocabulary],
    folder: Path,
    device: torch.device,
) -> list[Path]:
    """Translate the sentences greedily and draw their alignments.

    Args:
        model: in evaluation mode.
        sources: source texts.
        vocabularies: of source and target.
        folder: gets ``sentence-N.png`` and ``sentence-N_heads.png``.
        device: where the model is.

    Returns:
        The files written; none where the model's attention has no weights (the fixed context).
    """
    from attnbuild.training.maps import draw_alignment

    source_vocabulary, target_vocabulary = vocabularies
    encoded = encode_sources(sources, source_vocabulary)
    if not encoded:
        return []
    place = SearchPlace(BOS, EOS, PAD)
    memory = model.encode(pad_sequence(encoded, batch_first=True, padding_value=PAD).to(device))
    outputs = [hypotheses[0] for hypotheses in Greedy(place)(model.decoder, memory).tokens]
    alignments = align(model.decoder, memory, outputs, place)
    files: list[Path] = []
    for number, (ids, output) in enumerate(zip(encoded, outputs, strict=True), start=1):
        if alignments is None:
            break
        files += draw_alignment(
            alignments[number - 1].float().cpu().numpy(),
            source_vocabulary.tokens(ids.tolist()),
            target_vocabulary.tokens([*output, EOS]),
            folder / f"sentence-{number}.png",
            title=target_vocabulary.decode([output])[0],
        )
    return files
