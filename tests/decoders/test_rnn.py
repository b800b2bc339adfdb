"""The recurrent decoder in the wiring of Xu et al. 2015, and what all wirings keep: their names in checkpoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbuild.attention.place import PlaceKind
from attnbuild.decoders.base import DecoderPlace
from attnbuild.decoders.rnn import RNNDecoder
from attnbuild.memory import Memory
from tests.decoders.parts import DIM, maker, memory_of, rows_of, serving, with_more_padding

KIND = PlaceKind(cross=True, sequential=True)
PRESETS = serving(KIND)
VOCABULARY = 9


def decoder_of(preset: str = "bahdanau", chosen: dict[str, Any] | None = None, **options: Any) -> RNNDecoder:
    """``chosen`` are options of the attention."""
    torch.manual_seed(0)
    place = DecoderPlace(VOCABULARY, DIM, maker(preset, KIND, **(chosen or {})))
    own: dict[str, Any] = {"dim": DIM, "wiring": "show_attend_tell", "dropout": 0.0, **options}
    return RNNDecoder(place, **own).double().eval()


def tokens(rows: int, columns: int, seed: int = 1) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, columns), generator=torch.Generator().manual_seed(seed))


def paper(decoder: RNNDecoder, annotations: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 1 to 7 and section 4.2.1 of Xu et al. 2015 for one image: (L, D), (T,) -> logits and weights."""
    named = dict(decoder.named_parameters())
    score, cell, readout = "attention.core.score.", "cells.layers.0.", "readout."
    bias = named[cell + "bias_ih"] + named[cell + "bias_hh"]
    mean = annotations.mean(0)
    h = torch.tanh(named["initial_hidden.weight"] @ mean + named["initial_hidden.bias"])
    c = torch.tanh(named["initial_cell.weight"] @ mean + named["initial_cell.bias"])
    logits, alphas = [], []
    for y in words:
        word = named["embedding.tokens.weight"][y]
        e = torch.stack(
            [
                named[score + "vector"][0, :, 0]
                @ torch.tanh(h @ named[score + "query_weight"][0] + a @ named[score + "key_weight"][0])
                for a in annotations
            ]
        )
        alpha = e.exp() / e.exp().sum()
        beta = 1 / (1 + torch.exp(-(named[readout + "gate.weight"][0] @ h + named[readout + "gate.bias"][0])))
        z = beta * (alpha.unsqueeze(1) * annotations).sum(0)
        gates = named[cell + "weight_ih"] @ torch.cat([word, z]) + named[cell + "weight_hh"] @ h + bias
        i, f, g, o = gates.chunk(4)  # torch's order; the paper has i, f, o, g
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        deep = word + named[readout + "hidden.weight"] @ h + named[readout + "context.weight"] @ z
        logits.append(named["output.weight"] @ deep)
        alphas.append(alpha)
    return torch.stack(logits), torch.stack(alphas)


@pytest.mark.parametrize("dim", [DIM, 5])
def test_it_is_a_plain_loop_over_the_equations_of_the_paper(dim: int) -> None:
    decoder, lengths, target = decoder_of(dim=dim), [6, 4, 1], tokens(3, 4)
    torch.nn.init.normal_(decoder.readout.gate.weight)  # xavier's gate stays near one half
    memory = memory_of(lengths, 6)
    decoded = decoder(target, memory, need_weights=True)
    for row, length in enumerate(lengths):
        logits, alphas = paper(decoder, memory.states[row, :length], target[row])
        torch.testing.assert_close(decoded.logits[row], logits)
        torch.testing.assert_close(decoded.weights[row, 0, :, :length], alphas)
    assert (decoded.weights[1:, :, :, 4:] == 0).all()


def test_a_closed_gate_hides_the_context_from_cell_and_output() -> None:
    """Then only the mean is left of the memory, in the initial states."""
    decoder, target, memory = decoder_of(), tokens(2, 3), memory_of([5, 5], 5)
    other = replace(memory, states=2 * memory.states - memory.states.mean(dim=1, keepdim=True))
    assert not torch.allclose(decoder(target, memory).logits, decoder(target, other).logits)
    torch.nn.init.constant_(decoder.readout.gate.bias, -1000.0)
    torch.testing.assert_close(decoder(target, memory).logits, decoder(target, other).logits)


def test_the_initial_states_are_made_from_the_mean_and_not_from_a_summary_of_the_encoder() -> None:
    decoder, target, memory = decoder_of(), tokens(2, 3), memory_of([5, 2], 5)
    other = replace(memory, summary=torch.randn_like(memory.summary))
    torch.testing.assert_close(decoder(target, other).logits, decoder(target, memory).logits)
    luong = decoder_of(wiring="luong")
    assert not torch.allclose(luong(target, other).logits, luong(target, memory).logits)


def test_weights_of_training_carry_their_gradient() -> None:
    """The doubly stochastic term sum_i (1 - sum_t alpha_ti)^2 of section 4.2.1 teaches the attention, and rightly."""
    decoder, target, memory = decoder_of(dropout=0.3).train(), tokens(2, 3), memory_of([4, 2], 4)

    def regulariser(states: Tensor) -> Tensor:
        torch.manual_seed(0)
        weights = decoder(target, replace(memory, states=states), need_weights=True).weights
        assert weights.shape == (2, 1, 3, 4)
        real = ~memory.key_padding_mask.unsqueeze(1)
        return ((1 - weights.sum(dim=2)).square() * real).sum()

    assert torch.autograd.gradcheck(regulariser, memory.states.requires_grad_(), fast_mode=True)
    regulariser(memory.states).backward()
    score = decoder.attention.core.score
    for parameter in (score.query_weight, score.key_weight, score.vector, decoder.cells.layers[0].weight_ih):
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_stepping_equals_teacher_forcing_however_the_beams_move(preset: str) -> None:
    decoder, memory, beams = decoder_of(preset, layers=2), memory_of([5, 3, 0], 5), 2
    rows = torch.arange(3).repeat_interleave(beams)
    said, state = torch.empty(6, 0, dtype=torch.long), decoder.start(memory).reorder(rows)
    for step, moved in enumerate([[1, 0, 2, 3, 4, 4], [1, 1, 3, 2, 5, 4], [0, 1, 3, 3, 4, 5]]):
        said = torch.cat([said, tokens(6, 1, seed=step)], dim=1)
        result = decoder.step(said[:, -1], state, need_weights=True)
        whole = decoder(said, rows_of(memory, rows), need_weights=True)
        torch.testing.assert_close(result.logits, whole.logits[:, -1])
        assert (result.weights is None) == (whole.weights is None)
        if result.weights is not None:
            torch.testing.assert_close(result.weights, whole.weights[:, :, -1])
        state, said = result.state.reorder(torch.tensor(moved)), said[moved]
    kept = decoder.step(said[[4, 5, 0, 1], -1], state.keep(torch.tensor([2, 0]))).logits
    torch.testing.assert_close(kept, decoder.step(said[:, -1], state).logits[[4, 5, 0, 1]])


@pytest.mark.parametrize("wiring", ["bahdanau", "luong", "show_attend_tell"])
def test_the_attention_goes_on_from_where_it_was(wiring: str) -> None:
    """local_m moves on by one key a step; here a key is all it sees."""
    decoder = decoder_of("local_m", {"window": 0}, wiring=wiring)
    weights = decoder(tokens(1, 4), memory_of([4], 4), need_weights=True).weights
    torch.testing.assert_close(weights[0, 0], torch.eye(4, dtype=weights.dtype))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_parameter_learns(preset: str, cell: str) -> None:
    decoder = decoder_of(preset, cell=cell, dropout=0.1).train()
    decoded = decoder(tokens(3, 3), memory_of([5, 3, 0], 5))
    loss = (decoded.logits * torch.randn_like(decoded.logits)).sum()
    for choice in decoded.choices:
        loss = loss + choice.loss(torch.randn(3, dtype=loss.dtype))
    loss.backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert decoder.readout.gate.weight.grad.abs().max() > 0


@settings(max_examples=60)
@given(
    preset=st.sampled_from(PRESETS),
    wiring=st.sampled_from(["bahdanau", "luong", "show_attend_tell"]),
    cell=st.sampled_from(["lstm", "gru"]),
    layers=st.integers(1, 2),
    words=st.integers(1, 4),
)
def test_a_sentence_at_once_teaches_what_its_steps_do(
    preset: str, wiring: str, cell: str, layers: int, words: int
) -> None:
    """At once, the gradients of weights are gathered over the steps; one by one, PyTorch adds them up."""
    decoder, memory = decoder_of(preset, wiring=wiring, cell=cell, layers=layers), memory_of([5, 3, 1], 5)
    memory.states.requires_grad_()
    said, learning = tokens(3, words), [memory.states, *decoder.parameters()]
    state, logits = decoder.start(memory), []
    for column in said.unbind(dim=1):
        step = decoder.step(column, state)
        state = step.state
        logits.append(step.logits)
    one_by_one, at_once = torch.stack(logits, dim=1), decoder(said, memory).logits
    torch.testing.assert_close(at_once, one_by_one)
    wanted = torch.randn_like(at_once)
    expected, found = (torch.autograd.grad(made, learning, wanted, allow_unused=True) for made in (one_by_one, at_once))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)


@settings(max_examples=40)
@given(
    wiring=st.sampled_from(["bahdanau", "luong", "show_attend_tell"]),
    preset=st.sampled_from(PRESETS),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing_and_a_batch_equals_its_rows(
    wiring: str, preset: str, lengths: list[int], seed: int
) -> None:
    decoder, memory = decoder_of(preset, wiring=wiring), memory_of(lengths, 5, seed=seed)
    target = tokens(len(lengths), 3, seed)
    whole = decoder(target, memory).logits
    assert whole.isfinite().all()
    torch.testing.assert_close(decoder(target, with_more_padding(memory)).logits, whole)
    for row in range(len(lengths)):
        part = slice(row, row + 1)
        torch.testing.assert_close(decoder(target[part], rows_of(memory, part)).logits, whole[part])


@pytest.mark.parametrize(
    ("wiring", "learned"),
    [
        ("bahdanau", ["readout.project.weight", "readout.project.bias"]),
        ("luong", ["readout.0.weight"]),
        (
            "show_attend_tell",
            ["readout.gate.weight", "readout.gate.bias", "readout.hidden.weight", "readout.context.weight"],
        ),
    ],
)
def test_checkpoints_find_the_names_they_hold_in_their_order(wiring: str, learned: list[str]) -> None:
    """An optimizer's state knows parameters by their order alone."""
    cell = [f"cells.layers.0.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    score = [f"attention.core.score.{name}" for name in ("query_weight", "key_weight", "vector")]
    initial = [f"initial_{state}.{name}" for state in ("hidden", "cell") for name in ("weight", "bias")]
    expected = ["embedding.tokens.weight", *score, *cell, *initial, *learned, "output.weight"]
    assert [name for name, _ in decoder_of(wiring=wiring).named_parameters()] == expected


def test_a_memory_without_padding_is_one_whose_padding_is_empty() -> None:
    decoder, memory, target = decoder_of(), memory_of([4, 4], 4), tokens(2, 3)
    bare = Memory(memory.states, None, memory.summary)
    torch.testing.assert_close(decoder(target, bare).logits, decoder(target, memory).logits)
