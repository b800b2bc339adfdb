"""The catalogue at work: each preset learns in a tiny translation model, and decodes as if it remembered nothing.

Here a preset stands at every place of a model that it can serve, once with each kind of decoder. Each place by
itself, with every wiring of the decoders, is under the marker ``slow``. What is registered is covered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import attnbuild
from attnbuild.attention import describe, load_preset
from attnbuild.data.batching import Batch
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD
from attnbuild.generation.base import SearchPlace
from attnbuild.generation.beam import Beam, length_penalty
from attnbuild.inputs import Ends, TextInput
from attnbuild.memory import Memory
from attnbuild.model import EncoderDecoder, build_model, check_model
from attnbuild.tasks.translation.task import Translation
from attnbuild.training.task import TaskPlace

VOCABULARY = 12
ENDS = Ends(TextInput(VOCABULARY, PAD), VOCABULARY, shared_vocabulary=True)
BEAM, ALPHA, EXTRA = 3, 0.6, 4
STEPS, RATE = 12, 0.02

RNN, TRANSFORMER = {"type": "rnn"}, {"type": "transformer", "feedforward": 32}
BAHDANAU = {"type": "rnn", "cell": "gru", "wiring": "bahdanau"}


def config_of(encoder: dict[str, Any], decoder: dict[str, Any], attention: str = "multihead") -> dict[str, Any]:
    shared = {"dim": 16, "layers": 1, "dropout": 0.0}
    return {
        "encoder": {**shared, **encoder},
        "decoder": {**shared, **decoder},
        "attention": load_preset(attention),
        "model": {"tie_embeddings": "none"},
    }


def each_with_each_decoder() -> list[Any]:
    """The preset wherever it can serve; other places keep multihead."""
    return [
        pytest.param(given, id=f"{preset}-{decoder['type']}")
        for preset in attnbuild.list_names("attention")
        for decoder in (RNN, TRANSFORMER)
        if not check_model(given := config_of(TRANSFORMER, decoder, preset), ENDS)
    ]


#: A place, and the models that have it.
PLACES = [
    (("encoder", "attention"), TRANSFORMER, RNN),
    (("encoder", "attention"), TRANSFORMER, TRANSFORMER),
    (("decoder", "self_attention"), RNN, TRANSFORMER),
    (("decoder", "cross_attention"), RNN, TRANSFORMER),
    (("decoder", "cross_attention"), RNN, RNN),
    (("decoder", "cross_attention"), TRANSFORMER, BAHDANAU),
]


def each_at_each_place() -> list[Any]:
    """The preset at one place alone, in models of two layers."""
    found = []
    for preset in attnbuild.list_names("attention"):
        for (part, place), encoder, decoder in PLACES:
            given = config_of({**encoder, "layers": 2}, {**decoder, "layers": 2})
            given[part][place] = load_preset(preset)
            if not check_model(given, ENDS):
                wiring = decoder.get("wiring", decoder["type"])
                found.append(pytest.param(given, id=f"{preset}-{part}-{place}-{encoder['type']}-{wiring}"))
    return found


def batch() -> Batch:
    """Six sentences of 1 to 5 words; a translation is the sentence backwards."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.full((6, 6), PAD), torch.full((6, 7), PAD)
    for row, length in enumerate((5, 1, 3, 4, 2, 5)):
        words = torch.randint(4, VOCABULARY, (length,), generator=generator)
        source[row, : length + 1] = torch.tensor([*words.tolist(), EOS])
        target[row, : length + 2] = torch.tensor([BOS, *words.flip(0).tolist(), EOS])
    return Batch(source, target, torch.arange(6))


def model_of(given: dict[str, Any]) -> EncoderDecoder:
    torch.manual_seed(0)
    return build_model(given, ENDS)


def train(model: EncoderDecoder, pairs: Batch, steps: int) -> tuple[float, float]:
    """The loss without smoothing, sampling and dropout, before and after."""
    task = Translation(TaskPlace({}, Path()))
    before = task.loss(model.eval(), pairs).total.item()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    model.train()
    for _ in range(steps):
        loss = task.loss(model, pairs)
        total = loss.total if loss.unreported is None else loss.total + loss.unreported
        optimizer.zero_grad()
        (total / loss.weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return before, task.loss(model.eval(), pairs).total.item()


@torch.no_grad()
def search_without_memory(model: EncoderDecoder, source: Tensor) -> tuple[list[int], float]:
    """Beam search for one sentence, (S,) without padding, that decodes every prefix from its start, at every step.

    Returns:
        The best output's tokens and its score.
    """
    memory = model.encode(source.unsqueeze(0))
    assert memory.key_padding_mask is None
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    limit = len(source) + EXTRA
    for length in range(1, limit + 1):
        candidates = []
        rows = len(live)
        prefixes = torch.tensor([[BOS, *tokens] for _, tokens in live])
        states = memory.states.expand(rows, -1, -1)
        repeated = Memory(states, None, memory.summary.expand(rows, -1))
        gains = model.decoder(prefixes, repeated).logits[:, -1].float().log_softmax(dim=-1)
        for (score, tokens), gain in zip(live, gains.tolist(), strict=True):
            candidates += [(score + gain[t], [*tokens, t]) for t in range(VOCABULARY) if t not in (BOS, PAD)]
        candidates.sort(key=lambda candidate: -candidate[0])
        ending = [(score, tokens[:-1]) for score, tokens in candidates[:BEAM] if tokens[-1] == EOS]
        ended += [(score / length_penalty(length, ALPHA), tokens) for score, tokens in ending]
        live = [candidate for candidate in candidates if candidate[1][-1] != EOS][:BEAM]
        if len(ended) >= BEAM:
            break
    else:
        ended += [(score / length_penalty(limit, ALPHA), tokens) for score, tokens in live]
    best = max(ended, key=lambda candidate: candidate[0])
    return best[1], best[0]


def learns_and_decodes(given: dict[str, Any], steps: int) -> None:
    model, pairs = model_of(given), batch()
    before, after = train(model, pairs, steps)
    assert after < 0.8 * before, "training for a few steps made nothing better"
    model.double()  # so that no two hypotheses are equal but for rounding
    search = Beam(
        SearchPlace(BOS, EOS, PAD), beam=BEAM, length_penalty=ALPHA, max_length_ratio=1.0, max_length_extra=EXTRA
    )
    found = search(model.decoder, model.encode(pairs.source))
    for row, source in enumerate(pairs.source):
        tokens, score = search_without_memory(model, source[source != PAD])
        assert found.tokens[row][0] == tokens
        assert found.scores[row][0] == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("given", each_with_each_decoder())
def test_every_preset_learns_and_beams_with_its_memory_as_without(given: dict[str, Any]) -> None:
    learns_and_decodes(given, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("given", each_at_each_place())
def test_every_preset_at_each_place_by_itself(given: dict[str, Any]) -> None:
    learns_and_decodes(given, 2 * STEPS)


def test_every_preset_is_here() -> None:
    """One that serves no model of text would be missing in silence; those of images alone: tests/encoders/test_vit.py."""
    names = {case.values[0]["attention"]["preset"] for case in each_with_each_decoder()}
    of_text = {name for name in attnbuild.list_names("attention") if describe(name)["capabilities"]["sequence"]}
    assert names == of_text
