"""The captioning task on its own: several references, the doubly stochastic term, pictures of words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild.attention import load_preset
from attnbuild.data.tokenizers.vocabulary import PAD
from attnbuild.model import EncoderDecoder
from attnbuild.tasks.captioning.task import Captioning, _by_word
from attnbuild.training.task import TaskPlace

CONFIG = {
    "seed": 1,
    "task": {"type": "captioning"},
    "data": {"type": "digit_scenes", "train": 40, "validation": 7, "test": 7},
    "tokenizer": {"type": "word"},
    "batch": {"tokens": 512, "rows": 8, "eval_tokens": 512, "eval_rows": 5, "max_length": 100},
    "image": {"size": 32, "channels": 1, "fit": "crop"},
    "augmentation": {"type": "none"},
    "validation": {"search": {"type": "greedy", "max_length_ratio": 0.0, "max_length_extra": 9}},
    "search": {"type": "greedy", "max_length_ratio": 0.0, "max_length_extra": 9},
    "attention": load_preset("bahdanau"),
    "model": {"tie_embeddings": "none"},
    "encoder": {"type": "cnn", "dim": 16, "width": 8, "blocks": [1, 1, 1]},
    "decoder": {"type": "rnn", "dim": 16, "dropout": 0.0, "wiring": "show_attend_tell"},
}
TRANSFORMER = {"type": "transformer", "dim": 16, "layers": 1, "feedforward": 32, "dropout": 0.0}


def task_of(cache: Path, config: dict[str, Any] | None = None, **options: Any) -> Captioning:
    return Captioning(TaskPlace({**CONFIG, **(config or {})}, cache), label_smoothing=0.0, **options)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def task(cache: Path) -> Captioning:
    made = task_of(cache)
    made.prepare()
    return made


def model_of(task: Captioning) -> EncoderDecoder:
    torch.manual_seed(0)
    return task.build_model().eval()


@pytest.mark.parametrize("tau", [1.0, 0.25, "auto"])
@pytest.mark.parametrize("decoder", [CONFIG["decoder"], TRANSFORMER], ids=["rnn", "transformer"])
def test_the_doubly_stochastic_term_is_the_papers(cache: Path, tau: Any, decoder: dict[str, Any]) -> None:
    """lambda sum_i (tau - sum_t alpha_ti)^2, caption by caption, over the positions that count."""
    attention = load_preset("bahdanau" if decoder["type"] == "rnn" else "multihead")
    task = task_of(cache, {"decoder": decoder, "attention": attention}, doubly_stochastic=0.7, tau=tau)
    task.prepare()
    model = model_of(task).train()
    batch = next(iter(task.train_loader(rank=0, world_size=1, start_step=0)))
    loss = task.loss(model, batch)
    weights = model.decode(batch.source, batch.target[:, :-1], need_weights=True).weights.detach()
    expected = 0.0
    for row, target in zip(weights.mean(1), batch.target, strict=True):
        length = int((target[1:] != PAD).sum())
        due = length / row.shape[1] if tau == "auto" else tau
        expected += 0.7 * sum((due - float(row[:length, cell].sum())) ** 2 for cell in range(row.shape[1]))
    assert float(loss.unreported) == pytest.approx(expected, rel=1e-3)
    loss.unreported.backward()
    asks = [parameter.grad for name, parameter in model.named_parameters() if "attention" in name and "score" in name]
    assert decoder["type"] == "transformer" or any(grad is not None and grad.abs().sum() > 0 for grad in asks)
    assert task.loss(model.eval(), batch).unreported is None, "it trains, and is no part of the loss that is reported"


def test_training_draws_one_caption_and_evaluation_has_all(task: Captioning) -> None:
    loader = iter(task.train_loader(rank=0, world_size=1, start_step=0))
    seen: dict[int, Counter[str]] = {}
    for _ in range(60):
        batch = next(loader)
        texts = task.vocabulary.decode(batch.target.tolist())
        for index, text in zip(batch.index.tolist(), texts, strict=True):
            seen.setdefault(index, Counter())[text] += 1
    rows = [row["target"] for row in task.reader.read("train")]
    assert set(seen) == set(range(40))
    for index, texts in seen.items():
        assert set(texts) <= {task.vocabulary.decode(task.vocabulary.encode([caption]))[0] for caption in rows[index]}
    assert sum(len(texts) for texts in seen.values()) > 100, "captions of an image take turns"
    metrics, model = task.metrics(), model_of(task)
    search = task.search(CONFIG["search"])
    found = [
        prediction
        for batch in task.eval_loader("test", rank=0, world_size=1)
        for prediction in task.evaluate(model, batch, search, metrics)
    ]
    references = [row["target"] for row in task.reader.read("test")]
    assert sorted(prediction.index for prediction in found) == list(range(7)), "one item an image"
    assert all(prediction.reference.splitlines() == references[prediction.index] for prediction in found)
    assert set(metrics) == {"bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"}


def test_the_same_batch_comes_again(task: Captioning) -> None:
    first, again = (next(iter(task.train_loader(rank=0, world_size=1, start_step=3))) for _ in range(2))
    assert torch.equal(first.target, again.target)


def test_the_baseline_is_one_training_caption_for_all(task: Captioning) -> None:
    scores = task.baselines("test")
    assert set(scores) == set(task.metrics())
    references = [row["target"] for row in task.reader.read("test")]
    captions = Counter(caption for row in task.reader.read("train") for caption in row["target"])
    by_hand = []
    for caption, _ in captions.most_common(20):
        metric = task.metrics()["bleu4"]
        metric.update([caption] * len(references), references)
        by_hand.append(float(metric.compute()))
    assert scores["bleu4"] == pytest.approx(max(by_hand))


def test_the_baseline_waits_for_no_other_process(task: Captioning, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of several processes asks for it, while the others are elsewhere."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("gathers")

    monkeypatch.setattr("torchmetrics.metric.jit_distributed_available", lambda: True)
    monkeypatch.setattr("torchmetrics.metric.gather_all_tensors", fail)
    with pytest.raises(AssertionError, match="gathers"):
        task.metrics()["bleu4"].compute()
    assert task.baselines("test")["bleu4"] > 0


def test_a_term_without_a_gradient_is_refused(cache: Path) -> None:
    def messages(attention: str, weight: float) -> list[str]:
        task = task_of(cache, {"attention": load_preset(attention)}, doubly_stochastic=weight)
        return [f"{problem.path}: {problem.message}" for problem in task.check()]

    assert messages("bahdanau", 1.0) == []
    assert messages("hard", 0.0) == []
    assert "task.doubly_stochastic" in messages("hard", 1.0)[0]
    assert "'hard' at decoder.cross_attention draws its weights" in messages("hard", 1.0)[0]
    assert "gives no weights" in messages("none", 1.0)[0]
    layers = {**TRANSFORMER, "layers": 2, "cross_attention_by_layer": {1: "hard"}}
    config = {"decoder": layers, "attention": load_preset("multihead")}
    (problem,) = task_of(cache, config, doubly_stochastic=1.0).check()
    assert "'hard' at decoder.cross_attention draws its weights" in problem.message
    text = task_of(cache, {"data": {"type": "cldr"}})
    assert [problem.path for problem in text.check()] == ["data.type"]
    searchless = task_of(cache, {"search": {"type": "none"}})
    assert [problem.path for problem in searchless.check()] == ["search.type"]


def test_each_image_gets_a_heatmap_for_each_word(task: Captioning, tmp_path: Path) -> None:
    files = task.maps(model_of(task), 2, tmp_path)  # from all over the split, which may be sorted
    assert [path.name for path in files] == ["0.png", f"{len(task.corpora['validation']) // 2}.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)


def test_pieces_are_joined_to_words() -> None:
    weights = torch.arange(8.0).reshape(4, 2).numpy()
    words, maps = _by_word(["▁a", "▁sev", "en", "▁."], weights)
    assert words == ["a", "seven", "."]
    assert maps.tolist() == [[0, 1], [3, 4], [6, 7]]
    words, maps = _by_word([], weights[:0])
    assert (words, maps.shape) == ([], (0, 2))


def test_artifacts_restore_the_task(task: Captioning, tmp_path: Path) -> None:
    again = task_of(tmp_path)
    again.restore(task.artifacts())
    model, same = model_of(task), again.build_model().eval()
    same.load_state_dict(model.state_dict())
    batch = next(iter(task.train_loader(rank=0, world_size=1, start_step=0)))
    torch.testing.assert_close(same(batch.source, batch.target), model(batch.source, batch.target))
