"""Hard attention: its gradient estimate is right in expectation, over every sequence of locations there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbuild import build_attention
from attnbuild.attention import load_preset
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.core.hard import Hard
from attnbuild.data.batching import Batch
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD
from attnbuild.inputs import Ends, TextInput
from attnbuild.memory import Memory
from attnbuild.model import EncoderDecoder, build_model
from attnbuild.tasks.translation.task import Translation
from attnbuild.training import writing
from attnbuild.training.task import Loss, TaskPlace
from tests.properties import laws
from tests.properties.cases import Case

DIM = 4
UNBIASED = {"soft_mix": 0.0, "reinforce_weight": 1.0, "entropy_weight": 0.0, "heads": 1}


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    """All gradients in one vector."""
    parameters = list(module.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)]
    )


class Draws:
    """Stands in for the sampler: records which locations could be drawn, or draws what it is told.

    Attributes:
        allowed: for each single draw, in order, the locations that it may give.
        log_prob: of all that was drawn, padded queries included, with gradient.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Hard, "draw", lambda core, log_prob: self.draw(log_prob))
        self.allowed: list[list[int]] = []
        self.told: list[int] | None = None
        self.log_prob = torch.zeros((), dtype=torch.float64)

    def draw(self, log_prob: Tensor) -> Tensor:
        flat = log_prob.flatten(0, -2)
        if self.told is None:
            self.allowed += [(row > -1e30).nonzero().squeeze(1).tolist() for row in flat]
            return log_prob.argmax(-1)
        chosen, self.told = torch.tensor(self.told[: len(flat)]), self.told[len(flat) :]
        self.log_prob = self.log_prob + flat.gather(1, chosen.unsqueeze(1)).sum()
        return chosen.view(log_prob.shape[:-1])

    def sequences(self, run: Callable[[], Any]) -> Iterator[tuple[Any, Tensor]]:
        """What ``run`` gives with each sequence of locations, and the probability of that."""
        run()
        assert 8 <= torch.tensor([len(choices) for choices in self.allowed]).prod() <= 100
        for told in itertools.product(*self.allowed):
            self.told, self.log_prob = list(told), torch.zeros((), dtype=torch.float64)
            yield run(), self.log_prob.exp()
            assert self.told == [], "more was drawn before than now"


def set_baselines(module: nn.Module, baseline: float | None) -> None:
    """A training under way with this baseline, or one that has not begun."""
    for core in module.modules():
        if isinstance(core, Hard):
            core.baseline.fill_(baseline or 0.0)
            core.batches.fill_(0 if baseline is None else 7)


def model_of(encoder: str, decoder: str, **places: Any) -> EncoderDecoder:
    parts = {"dim": DIM, "layers": 1, "dropout": 0.0}
    hard = {**load_preset("hard"), **UNBIASED}
    wide = {"feedforward": DIM} if encoder == "transformer" else {}
    config = {
        "encoder": {"type": encoder, **parts, **wide},
        "decoder": {"type": decoder, **parts, **({"feedforward": DIM} if decoder == "transformer" else {}), **places},
        "attention": hard,
    }
    torch.manual_seed(3)
    model = build_model(config, Ends(TextInput(7, PAD), 7, shared_vocabulary=True)).double().train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)  # a fresh model's attentions are so even that any estimate looks right
    return model


def batch_of(sources: list[list[int]], targets: list[list[int]]) -> Batch:
    return Batch(torch.tensor(sources), torch.tensor(targets), torch.arange(len(sources)))


def translation(label_smoothing: float = 0.1) -> Translation:
    return Translation(TaskPlace({}, Path()), label_smoothing=label_smoothing)


MODELS = {
    "recurrent": (
        ("rnn", "rnn"),
        # The first sentence is over when the second goes on, and has a key less.
        ([[5, EOS, PAD], [4, 6, EOS]], [[BOS, EOS, PAD], [BOS, 6, EOS]]),
    ),
    "transformer": (("transformer", "transformer"), ([[5, EOS]], [[BOS, 6, EOS]])),
}


def torch_losses(logits: Tensor, targets: Tensor, *, ignore: int, smoothing: float) -> Tensor:
    return F.cross_entropy(logits, targets, ignore_index=ignore, label_smoothing=smoothing, reduction="none")


@pytest.mark.parametrize("baseline", [None, 0.0, -3.0])
@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_estimate_is_unbiased(name: str, baseline: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """sum_s p(s) estimate(s) = d/dW sum_s p(s) log p(y|s), through the task's own loss, over all sequences s.

    The recurrent model chooses at every step what the next one asks with; the Transformer chooses in the encoder,
    in the decoder and between them. No baseline changes the expectation, that of the first batch included.
    """
    parts, (sources, targets) = MODELS[name]
    model, batch, draws = model_of(*parts), batch_of(sources, targets), Draws(monkeypatch)
    monkeypatch.setattr(writing, "token_losses", torch_losses)  # each loss is differentiated twice here
    run = lambda: (set_baselines(model, baseline), translation().loss(model, batch))[1]  # noqa: E731
    estimated, exact, certain = torch.zeros(()), torch.zeros(()), 0.0
    spread = []
    for loss, probability in draws.sequences(run):
        estimate = gradients(loss.total + loss.unreported, model)
        estimated = estimated + probability.detach() * estimate
        exact = exact + probability * loss.total
        certain += probability.item()
        spread.append(estimate)
    assert certain == pytest.approx(1)
    truth = gradients(exact, model)
    torch.testing.assert_close(estimated, truth)
    # The test can tell: no single estimate is the truth.
    assert min((estimate - truth).norm() for estimate in spread) > 0.01 * truth.norm()


def test_the_estimate_of_a_layer_equals_the_formula() -> None:
    """The same on a bare layer of two heads, with the distributions written out from the layer's projections."""
    torch.manual_seed(0)
    layer = build_attention("hard", dim=DIM, memory_dim=DIM, **{**UNBIASED, "heads": 2}).double().train()
    readout = nn.Linear(DIM, 5).double()
    both = nn.ModuleList([layer, readout])
    query, memory = torch.randn(1, 2, DIM, dtype=torch.float64), torch.randn(1, 3, DIM, dtype=torch.float64)
    target = torch.tensor([1, 4])

    def log_likelihood(values: Tensor) -> Tensor:
        return -F.cross_entropy(readout(layer.out_projection(values)), target, reduction="sum")

    width = DIM // 2
    asked, keys, values = (
        layer.query_projection(query)[0],
        layer.key_projection(memory)[0],
        layer.value_projection(memory)[0],
    )
    expectation = torch.zeros((), dtype=torch.float64)
    estimated = torch.zeros(())
    for places in itertools.product(range(3), repeat=4):
        at = torch.tensor(places).view(2, 2)  # query, head
        probability, rows = torch.ones((), dtype=torch.float64), []
        for n in range(2):
            for h in range(2):
                part = slice(h * width, (h + 1) * width)
                scores = torch.stack([asked[n, part] @ keys[j, part] / width**0.5 for j in range(3)])
                probability = probability * scores.exp()[at[n, h]] / scores.exp().sum()
            rows.append(torch.cat([values[at[n, h], h * width : (h + 1) * width] for h in range(2)]))
        expectation = expectation + probability * log_likelihood(torch.stack(rows))

        layer.core.draw = lambda log_prob, at=at: at.T.unsqueeze(0)
        attended = layer.attend(query, Memory(memory, None, memory[:, 0]))
        reward = -F.cross_entropy(readout(attended.values[0]), target, reduction="sum")
        torch.testing.assert_close(attended.choice.log_prob.sum(), probability.log())
        set_baselines(layer, -2.0)
        loss = -reward + attended.choice.loss(reward.unsqueeze(0))
        estimated = estimated + probability.detach() * gradients(loss, both)
    torch.testing.assert_close(estimated, gradients(-expectation, both))


def test_the_real_sampler_agrees_with_the_exact_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Monte Carlo: the mean over many copies of a sentence, within sampling error, where only choices can teach."""
    model, copies = model_of("rnn", "rnn"), 20000
    asking = nn.ModuleList([model.decoder.attention.query_projection, model.decoder.attention.key_projection])
    source, target = [[5, 4, EOS]], [[BOS, 6, EOS]]
    with monkeypatch.context() as patch:
        batch, exact = batch_of(source, target), torch.zeros(())
        for loss, probability in Draws(patch).sequences(lambda: translation().loss(model, batch)):
            exact = exact + probability * loss.total
        truth = gradients(exact, asking)
    set_baselines(model, None)
    torch.manual_seed(0)
    loss = translation().loss(model, batch_of(source * copies, target * copies))
    estimate = gradients(loss.total + loss.unreported, asking) / copies
    assert (estimate - truth).norm() < 0.1 * truth.norm()


def layer_of(**options: Any) -> AttentionBlock:
    torch.manual_seed(0)
    return build_attention("hard", dim=8, memory_dim=8, **{"heads": 2, **options}).double().train()


def inputs(sentences: int = 3) -> tuple[Tensor, Memory]:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(sentences, 4, 8, generator=generator, dtype=torch.float64)
    states = torch.randn(sentences, 5, 8, generator=generator, dtype=torch.float64)
    padding = torch.arange(5) >= torch.tensor([5, 3, 0] * sentences)[:sentences].unsqueeze(1)
    return query, Memory(states, padding, states[:, 0])


def distribution(layer: AttentionBlock, query: Tensor, memory: Memory) -> Tensor:
    """What is drawn from: the weights of soft attention with the same matrices."""
    soft = build_attention("multihead", dim=8, memory_dim=8, heads=2).double()
    soft.load_state_dict(layer.state_dict(), strict=False)
    return soft.attend(query, memory, need_weights=True).weights


def test_locations_follow_the_distribution() -> None:
    layer, (query, memory) = layer_of(soft_mix=0.0), inputs(1)
    expected = distribution(layer, query, memory)
    count = 4000
    many = Memory(memory.states.expand(count, -1, -1), memory.key_padding_mask.expand(count, -1), memory.summary)
    torch.manual_seed(0)
    weights = layer.attend(query.expand(count, -1, -1), many, need_weights=True).weights
    assert ((weights == 0) | (weights == 1)).all()
    error = (expected * (1 - expected) / count).sqrt()
    assert ((weights.mean(dim=0) - expected[0]).abs() < 4.5 * error[0] + 1e-9).all()


def test_evaluation_takes_the_likeliest() -> None:
    layer, (query, memory) = layer_of().eval(), inputs()
    soft = distribution(layer, query, memory)
    attended = layer.attend(query, memory, need_weights=True)
    expected = F.one_hot(soft.argmax(-1), 5).double() * (soft.sum(-1, keepdim=True) > 0)
    torch.testing.assert_close(attended.weights, expected)
    assert attended.choice is None


@pytest.mark.parametrize(
    "options",
    [
        {"score": "additive", "position": "alibi"},
        {"score": "cosine", "kv_heads": 2},
        {"pattern": "window", "window": 1},
        {"position": "rope"},
        {"position": "relative", "max_distance": 2, "kv_heads": 1},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_it_is_composed_as_soft_attention_is(options: dict[str, Any]) -> None:
    """Any score, pattern and position; the laws hold, and the choice is the likeliest under the same weights."""
    case = Case("hard", "causal", 5, 5, [5, 3], options=options)
    for law in (laws.stepping_equals_the_whole, laws.the_future_is_not_seen, laws.every_parameter_gets_a_gradient):
        law(case)
    layer, (query, _, padding) = case.build(), case.inputs()
    soft = build_attention({"type": "soft", **options}, dim=query.shape[-1], causal=True).double()
    soft.load_state_dict(layer.state_dict(), strict=False)
    theirs = soft(query, key_padding_mask=padding, need_weights=True)[1]
    expected = F.one_hot(theirs.argmax(-1), 5) * (theirs.sum(-1, keepdim=True) > 0)  # a window may hold padding alone
    weights = layer(query, key_padding_mask=padding, need_weights=True)[1]
    torch.testing.assert_close(weights, expected.double())


@pytest.mark.parametrize("place", ["whole", "memory", "cache"])
def test_a_sentence_is_soft_or_hard_throughout(place: str) -> None:
    """The expected context is taken at all queries of a sentence or at none, in steps too, also after a reordering."""
    count = 40
    query, _ = inputs(count)
    options = {"soft_mix": 0.5, "heads": 2}
    torch.manual_seed(0)
    cross = place != "cache"
    layer = build_attention("hard", dim=8, memory_dim=8 if cross else None, causal=not cross, **options)
    layer = layer.double().train()
    memory = Memory(query, None, query[:, 0])
    if place == "whole":
        attended = layer.attend(query, memory, need_weights=True)
        steps, log_prob = list(attended.weights.split(1, dim=2)), attended.choice.log_prob
    else:
        state, steps, chosen = layer.start(memory), [], []
        order = torch.arange(count)
        for step in range(query.shape[1]):
            attended, state = layer.step(query[order, step : step + 1], state, count, need_weights=True)
            back = order.argsort()
            steps.append(attended.weights[back])
            chosen.append(attended.choice.log_prob[back])
            if not cross:  # rows of one sentence each: only a self-attention may mix them
                order = order.flip(0)
                state = state.select(rows=torch.arange(count).flip(0))
        log_prob = torch.cat(chosen, dim=1)
    hard = torch.stack([((w == 0) | (w == 1)).flatten(1).all(dim=1) for w in steps[1:]], dim=1)
    assert (hard == hard[:, :1]).all()
    assert 10 < hard[:, 0].sum() < 30
    assert (log_prob[~hard[:, 0]] == 0).all()
    assert (log_prob[hard[:, 0], 1:] < 0).all()


def test_soft_sentences_are_soft_attention() -> None:
    layer, (query, memory) = layer_of(soft_mix=1.0), inputs()
    attended = layer.attend(query, memory, need_weights=True)
    torch.testing.assert_close(attended.weights, distribution(layer, query, memory))


def test_the_beams_of_a_sentence_choose_each_for_itself() -> None:
    """In training a step records one log probability a row, and a sentence's beams may differ in softness."""
    layer, (query, memory) = layer_of(soft_mix=0.5), inputs(20)
    state = layer.start(memory).select(rows=torch.arange(20).repeat_interleave(3))
    attended, _ = layer.step(query[:, :1].repeat_interleave(3, dim=0), state, 20, need_weights=True)
    assert attended.choice.log_prob.shape == (60, 1)
    drawn = attended.weights.gather(-1, attended.weights.argmax(-1, keepdim=True)).squeeze(-1)
    soft = distribution(layer, query[:, :1], memory).repeat_interleave(3, dim=0)
    expected = (soft * (attended.weights == 1)).sum(-1).log().masked_fill(drawn != 1, 0).sum(dim=(1, 2))
    torch.testing.assert_close(attended.choice.log_prob[:, 0], expected)


def test_the_entropy_and_its_gradient_are_those_of_the_distribution() -> None:
    options = {"reinforce_weight": 0.0, "entropy_weight": 0.7, "soft_mix": 0.5}
    layer, (query, memory) = layer_of(**options), inputs()
    attended = layer.attend(query, memory)
    found = gradients(attended.choice.loss(torch.randn(3, dtype=torch.float64)), layer)
    weights = distribution_with_gradient(layer, query, memory)
    entropy = -torch.special.xlogy(weights, weights.clamp(min=1e-300)).sum(dim=-1)
    torch.testing.assert_close(attended.choice.entropy, entropy.sum(dim=1))
    torch.testing.assert_close(found, gradients(-0.7 * entropy.sum(), layer))


def distribution_with_gradient(layer: AttentionBlock, query: Tensor, memory: Memory) -> Tensor:
    asked, keys = layer.query_projection(query), layer.key_projection(memory.states)
    asked, keys = (states.unflatten(-1, (2, -1)).transpose(1, 2) for states in (asked, keys))
    allowed = ~memory.key_padding_mask[:, None, None, :]
    exponentials = (asked @ keys.transpose(-2, -1) / 2).exp() * allowed
    return exponentials / exponentials.sum(-1, keepdim=True).clamp(min=1e-9)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_gumbel_estimators_equal_torch(temperature: float) -> None:
    """Jang et al. 2017, as torch.nn.functional.gumbel_softmax has it, drawn alike; forward and backward."""
    query, memory = inputs(1)
    for estimator in ("gumbel", "straight_through"):
        layer = layer_of(estimator=estimator, gumbel_temperature=temperature, soft_mix=0.0)
        torch.manual_seed(5)
        attended = layer.attend(query, memory, need_weights=True)
        assert attended.choice is None
        torch.manual_seed(5)
        log_prob = distribution_with_gradient(layer, query, memory).log()
        expected = F.gumbel_softmax(log_prob, tau=temperature, hard=estimator == "straight_through")
        torch.testing.assert_close(attended.weights, expected)
        if estimator == "straight_through":
            assert ((attended.weights == 0) | (attended.weights == 1)).all()
            assert (attended.weights.sum(dim=-1) == 1).all()
        direction = torch.randn_like(attended.weights)
        found = gradients((attended.weights * direction).sum(), layer)
        assert found.norm() > 0
        torch.testing.assert_close(found, gradients((expected * direction).sum(), layer))


def test_the_baseline_is_a_moving_average_that_checkpoints_keep() -> None:
    """b_k = 0.9 b_(k-1) + 0.1 mean; the first batch sets it; a term counts with what was known before it."""
    layer = layer_of(reinforce_weight=1.0, entropy_weight=0.0)
    ones, expected = torch.ones(2, dtype=torch.float64), None
    for rewards in ([-4.0, -2.0], [-1.0, -1.0], [2.0, 6.0]):
        reward = torch.tensor(rewards, dtype=torch.float64)
        term = layer.core.term(ones, ones, reward)
        # In the first batch each sentence is measured by the other one, and the gains are each other's opposite.
        gain = 0.0 if expected is None else (reward - expected).sum().item()
        assert term.item() == pytest.approx(-gain)
        expected = reward.mean().item() if expected is None else 0.9 * expected + 0.1 * reward.mean().item()
        assert layer.core.baseline.item() == pytest.approx(expected)
    other = layer_of()
    other.load_state_dict(layer.state_dict())
    assert (other.core.baseline, other.core.batches) == (layer.core.baseline, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_baseline_moves_in_models_of_any_precision(dtype: torch.dtype) -> None:
    """In bf16 a step of less than one part in 256 would be none."""
    layer = layer_of(baseline_decay=0.99).to(dtype)
    zeros = torch.zeros(2)
    for reward in [-60.0] + 1000 * [-55.0]:
        layer.core.term(zeros, zeros, torch.full((2,), reward))
    assert layer.core.baseline.item() == pytest.approx(-55, abs=0.01)
    assert layer.core.baseline.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert layer.core.baseline is dict(layer.named_buffers())["core.baseline"]


def test_the_term_is_trained_but_not_reported() -> None:
    """In training the loss is the plain one and the choices' term stands beside it; in evaluation there is none."""
    model = model_of("rnn", "rnn")
    batch = batch_of([[5, 4, EOS]], [[BOS, 6, EOS]])
    loss: Loss = translation().loss(model, batch)
    assert loss.unreported is not None
    assert loss.unreported.requires_grad
    assert translation().loss(model.eval(), batch).unreported is None
