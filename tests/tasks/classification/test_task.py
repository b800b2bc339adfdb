"""The classification task on its own: data to batches to loss to predictions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild import ConfigError, DataError
from attnbuild.attention import load_preset
from attnbuild.data.pictures import Picture
from attnbuild.data.sides.labels import LabelsSide
from attnbuild.data.tokenizers.vocabulary import UNK
from attnbuild.model import EncoderDecoder, check_model
from attnbuild.tasks.classification.task import Classification, _mix
from attnbuild.training.task import TaskPlace

BASE = {
    "seed": 1,
    "task": {"type": "classification"},
    "tokenizer": {"type": "word"},
    "batch": {"tokens": 256, "rows": 16, "eval_tokens": 512, "eval_rows": 7, "max_length": 100},
    "image": {"size": 8, "channels": 1, "fit": "crop"},
    "augmentation": {"type": "none"},
    "validation": {"search": {"type": "none"}},
    "search": {"type": "none"},
    "attention": load_preset("multihead"),
    "model": {"tie_embeddings": "none"},
    "decoder": {"type": "classifier", "dim": 16, "dropout": 0.0},
}
IMAGES = {
    **BASE,
    "data": {"type": "digits"},
    "encoder": {"type": "cnn", "dim": 16, "width": 8, "blocks": [1, 1]},
}
TEXTS = {
    **BASE,
    "data": {"type": "table", "source": "text", "target": "label"},
    "encoder": {"type": "transformer", "dim": 16, "layers": 1, "feedforward": 32, "dropout": 0.0},
}


def table(folder: Path, columns: str, **splits: list[str]) -> dict[str, Any]:
    """Options of tables with these rows."""
    for split, rows in splits.items():
        (folder / f"{split}.csv").write_text("\n".join([columns, *rows, ""]), encoding="utf-8")
    files = {split: f"{split}.csv" if split in splits else None for split in ("train", "validation", "test")}
    return {"type": "table", "source": "text", "target": "label", "root": str(folder), **files}


def listed(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Options of a table whose cells may be lists; all that learn and judge see the same rows."""
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return {**TEXTS["data"], "root": str(folder), "train": "rows.jsonl", "validation": "rows.jsonl", "test": None}


def task_of(config: dict[str, Any], cache: Path, **options: Any) -> Classification:
    return Classification(TaskPlace(config, cache), **options)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Classification:
    made = task_of(IMAGES, tmp_path_factory.mktemp("cache"))
    made.prepare()
    return made


@pytest.fixture
def texts(tmp_path: Path) -> Classification:
    rows = ["a good film,yes", "a very good film,yes", "a bad one,no", "good or bad,no", "so good,yes"]
    data = table(tmp_path, "text,label", train=rows, validation=rows[:2], test=rows[2:])
    made = task_of({**TEXTS, "data": data}, tmp_path / "cache")
    made.prepare()
    return made


def model_of(task: Classification) -> EncoderDecoder:
    torch.manual_seed(0)
    return task.build_model().eval()


def first_batch(task: Classification) -> Any:
    return next(iter(task.train_loader(rank=0, world_size=1, start_step=0)))


def test_the_loss_is_the_sum_over_examples(images: Classification) -> None:
    model, batch = model_of(images), first_batch(images)
    assert (batch.source.dtype, batch.source.shape) == (torch.uint8, (16, 1, 8, 8))
    loss, logits = images.loss(model, batch), model(batch.source)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits, batch.target, reduction="sum"))
    assert loss.weight == 16
    assert loss.correct == (logits.argmax(1) == batch.target).sum()


@settings(max_examples=25)
@given(smoothing=st.floats(0, 0.9), seed=st.integers(0, 99), counts=st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_training_losses_are_torchs(tmp_path_factory: Any, smoothing: float, seed: int, counts: list[int]) -> None:
    """Smoothing and class weights together, against torch with class numbers."""
    task = task_of(TEXTS, Path(), label_smoothing=smoothing, class_weights="balanced")
    task._sides = (None, LabelsSide(["a", "b", "c"]))
    total = sum(counts)
    task._weights = torch.tensor([total / (3 * count) for count in counts])
    generator = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(7, 3, generator=generator), torch.randint(3, (7,), generator=generator)
    ours = task._losses(logits, F.one_hot(target, 3).float(), training=True)
    plain = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ours, plain * task._weights[target])
    everything = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    assert float(task._counts(F.one_hot(everything, 3).float()).mean()) == pytest.approx(1.0, abs=1e-5)


def test_balanced_weights_come_from_the_training_data(texts: Classification) -> None:
    texts.class_weights = "balanced"
    torch.testing.assert_close(texts._balance(torch.device("cpu")), torch.tensor([5 / 4, 5 / 6]))  # no, yes
    loss = texts.loss(model_of(texts).train(), first_batch(texts))
    assert float(loss.weight) == pytest.approx(5.0)


def test_balanced_decisions_weigh_presence_as_much_as_absence(tmp_path: Path) -> None:
    """Each label by itself; one that all examples have, or none, as it is."""
    rows = [{"text": "a", "label": labels} for labels in (["a", "b"], ["a"], ["a", "c"], ["a", "c"])]
    data = listed(tmp_path, rows)
    task = task_of({**TEXTS, "data": data}, tmp_path / "cache", multi_label=True, class_weights="balanced")
    task.prepare()
    weights = task._balance(torch.device("cpu"))
    torch.testing.assert_close(weights, torch.tensor([1.0, 3.0, 1.0]))  # a, b, c
    logits, target = torch.randn(2, 3), torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    expected = -(weights * target * log_yes + (1 - target) * log_no).sum(dim=1)
    torch.testing.assert_close(task._losses(logits, target, training=True), expected)
    assert task.loss(model_of(task).train(), first_batch(task)).weight == 4


def test_mixtures_are_drawn_where_half_precision_is_the_default() -> None:
    """As in training with precision bf16-true; and the same ones."""
    shares = []
    before = torch.get_default_dtype()
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            shares.append(_mix(torch.zeros(3, 1, 2, 2), torch.eye(3, dtype=torch.float32), 0.4)[1])
        finally:
            torch.set_default_dtype(before)
    torch.testing.assert_close(*shares)


def test_each_label_of_a_mixture_counts_by_its_own_weight() -> None:
    """The loss of a mixture is the mixture of the losses, smoothed and weighted as they are."""
    task = task_of(TEXTS, Path(), label_smoothing=0.1, class_weights="balanced")
    task._sides, task._weights = (None, LabelsSide(["a", "b", "c"])), torch.tensor([5.0, 0.5, 1.0])
    logits, (first, second) = torch.randn(4, 3), torch.eye(3)[torch.tensor([[0, 1, 2, 0], [1, 0, 0, 0]])]
    mixed = task._losses(logits, 0.3 * first + 0.7 * second, training=True)
    apart = [task._losses(logits, target, training=True) for target in (first, second)]
    torch.testing.assert_close(mixed, 0.3 * apart[0] + 0.7 * apart[1])


def test_a_label_without_training_texts_weighs_nothing(tmp_path: Path) -> None:
    """All of its texts were left out as too long."""
    long = " ".join(["long"] * 200)
    rows = ["good,yes", "bad,no", "so bad,no", f"{long},rare"]
    data = table(tmp_path, "text,label", train=rows, validation=rows)
    task = task_of({**TEXTS, "data": data}, tmp_path / "cache", class_weights="balanced")
    task.prepare()
    torch.testing.assert_close(task._balance(torch.device("cpu")), torch.tensor([3 / 4, 0.0, 3 / 2]))
    assert task.loss(model_of(task).train(), first_batch(task)).total.isfinite()


def test_mixup_mixes_pixels_and_labels_alike(images: Classification, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(images), first_batch(images)
    seen = {}
    monkeypatch.setattr(
        model, "decode", lambda source: seen.update(source=source) or EncoderDecoder.decode(model, source)
    )
    monkeypatch.setattr(images, "mixup", 0.4)
    torch.manual_seed(5)
    total = images.loss(model.train(), batch).total
    torch.manual_seed(5)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    other = torch.randperm(16)
    pixels = batch.source / 255
    torch.testing.assert_close(seen["source"], share * pixels + (1 - share) * pixels[other])
    logits = model(seen["source"])
    both = [F.cross_entropy(logits, target, reduction="sum") for target in (batch.target, batch.target[other])]
    torch.testing.assert_close(total, share * both[0] + (1 - share) * both[1], rtol=1e-3, atol=1e-3)
    assert images.loss(model.eval(), batch).total.isfinite()
    assert seen["source"].dtype == torch.uint8, "nothing is mixed in evaluation"


def test_images_are_changed_in_training_alone(images: Classification, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(images), first_batch(images)
    seen = []
    monkeypatch.setattr(model, "decode", lambda source: seen.append(source) or EncoderDecoder.decode(model, source))
    monkeypatch.setattr(images, "_augmentation", lambda pixels: 1 - pixels.float() / 255)
    images.loss(model.train(), batch)
    images.loss(model.eval(), batch)
    images.evaluate(model, next(iter(images.eval_loader("test", rank=0, world_size=1))), None, {})
    torch.testing.assert_close(seen[0], 1 - batch.source / 255)
    assert torch.equal(seen[1], batch.source)
    assert seen[2].dtype == torch.uint8


def test_what_is_drawn_earns_what_the_loss_is_lower_by(texts: Classification, monkeypatch: pytest.MonkeyPatch) -> None:
    """Example by example, and beside the loss that is reported."""
    model, batch, rewards = model_of(texts), first_batch(texts), []

    class Drawn:
        def loss(self, reward: torch.Tensor) -> torch.Tensor:
            rewards.append(reward)
            return torch.tensor(3.0)

    decoded = replace(model.decode(batch.source), choices=[Drawn()])
    monkeypatch.setattr(model, "decode", lambda source: decoded)
    loss = texts.loss(model.train(), batch)
    torch.testing.assert_close(rewards[0], -F.cross_entropy(decoded.logits, batch.target, reduction="none"))
    torch.testing.assert_close(loss.total, -rewards[0].sum())
    assert loss.unreported == 3.0


def test_mean_and_deviation_are_those_of_the_training_images(images: Classification) -> None:
    pixels = np.stack(images.corpora["train"].rows(range(len(images.corpora["train"])))[0]) / 255
    assert images.source_side.mean == [pytest.approx(pixels.mean(), abs=1e-5)]
    assert images.source_side.std == [pytest.approx(pixels.std(), abs=1e-5)]
    before = images.artifacts()["image.json"]
    images.prepare(("test",))
    assert images.artifacts()["image.json"] == before


def test_words_are_dropped_in_training_alone(texts: Classification, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(texts), first_batch(texts)
    seen = []
    monkeypatch.setattr(model, "decode", lambda source: seen.append(source) or EncoderDecoder.decode(model, source))
    monkeypatch.setattr(texts, "word_dropout", 0.5)
    texts.loss(model.eval(), batch)
    for _ in range(50):
        texts.loss(model.train(), batch)
    assert torch.equal(seen[0], batch.source)
    words = batch.source > UNK
    assert all(torch.equal(source[~words], batch.source[~words]) for source in seen)
    kept = torch.stack([source[words] == batch.source[words] for source in seen[1:]]).float()
    assert all((source[words] == batch.source[words]).logical_or(source[words] == UNK).all() for source in seen)
    assert 0.4 < float(kept.mean()) < 0.6


def test_several_labels_are_decided_one_by_one(tmp_path: Path) -> None:
    labels = {"a b": ["x", "y"], "b": ["z"], "c a": ["x"], "c": [], "d": None}  # of none; of what is not known
    data = listed(tmp_path, [{"text": text, "label": its} for text, its in labels.items()])
    task = task_of({**TEXTS, "data": data}, tmp_path / "cache", multi_label=True)
    task.prepare()
    assert sorted(task.corpora["train"].texts(range(4))[1]) == ["", "x", "x\ny", "z"]
    model, batch = model_of(task), first_batch(task)
    assert sorted(batch.target.sum(dim=1).tolist()) == [0, 1, 1, 2]
    logits = model(batch.source)
    loss = task.loss(model, batch)
    torch.testing.assert_close(loss.total, F.binary_cross_entropy_with_logits(logits, batch.target, reduction="sum"))
    model.decoder.output.bias.data = torch.tensor([50.0, -50.0, 50.0])
    metrics = task.metrics()
    (batch,) = task.eval_loader("validation", rank=0, world_size=1)
    assert {found.text for found in task.evaluate(model, batch, None, metrics)} == {"x\nz"}
    assert float(metrics["f1_micro"].compute()) > 0
    task.report({"per_class": metrics["per_class"].compute()}, tmp_path)
    assert "| y " in (tmp_path / "per_class.md").read_text(encoding="utf-8")


def test_every_image_is_scored_once_and_the_report_is_drawn(images: Classification, tmp_path: Path) -> None:
    model, metrics = model_of(images), images.metrics()
    found = [
        prediction
        for rank in (0, 1)
        for batch in images.eval_loader("validation", rank=rank, world_size=2)
        for prediction in images.evaluate(model, batch, None, metrics)
    ]
    rows = list(images.reader.read("validation"))
    assert sorted(prediction.index for prediction in found) == list(range(len(rows)))
    right = [prediction.text == prediction.reference for prediction in found]
    assert all(prediction.reference == rows[prediction.index]["target"] for prediction in found)
    assert float(metrics["accuracy"].compute()) == pytest.approx(np.mean(right))
    tables = {name: metrics[name].compute() for name in ("confusion", "per_class")}
    files = images.report(tables, tmp_path)
    assert [path.name for path in files] == ["confusion.png", "per_class.md"]
    assert files[0].read_bytes().startswith(b"\x89PNG")


def test_the_baseline_is_the_most_frequent_label(texts: Classification, tmp_path: Path) -> None:
    assert texts.baselines("test") == {"accuracy": pytest.approx(1 / 3)}
    rows = [{"text": "a", "label": labels} for labels in (["x", "y"], ["y", "x"], ["z"])]
    several = task_of({**TEXTS, "data": listed(tmp_path, rows)}, tmp_path / "cache", multi_label=True)
    several.prepare()
    assert several.baselines("validation") == {"accuracy": pytest.approx(2 / 3)}, "labels have no order"


def test_predictions_come_in_order_with_the_probability_of_every_label(texts: Classification) -> None:
    model, lines = model_of(texts), ["so bad", "", "a good film or a bad one", "good"]
    found = list(texts.predict(model, lines, None))
    assert [prediction.source for prediction in found] == lines
    assert found[1].text == ""
    for prediction in (found[0], found[2], found[3]):
        assert {name for name, _ in prediction.n_best} == {"yes", "no"}
        assert sum(share for _, share in prediction.n_best) == pytest.approx(1.0)
        (alone,) = texts.predict(model, [prediction.source], None)
        assert alone.score == pytest.approx(prediction.score, rel=1e-4)


def test_a_damaged_image_is_left_out_and_named(images: Classification, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = Picture(np.zeros((9, 12), np.uint8), "good")
    found = list(images.predict(model_of(images), [good, Picture(tmp_path / "bad.png", "bad.png"), good], None))
    assert [prediction.index for prediction in found] == [0, 1, 2]
    assert found[1].text == ""
    assert len(images.unread) == 1
    assert "bad.png" in images.unread.pop()


def test_pairs_are_two_texts_with_a_tab_between(tmp_path: Path) -> None:
    data = table(tmp_path, "text,other,label", train=["a b,c,1", "b,a a,0"], validation=["a,b,0"])
    task = task_of({**TEXTS, "data": {**data, "pair": "other"}}, tmp_path / "cache")
    task.prepare()
    (found,) = task.predict(model_of(task), ["a b\tc"], None)
    assert found.source == "a b\tc"
    with pytest.raises(
        DataError, match="line 1 of the input: the model reads pairs of texts, parted by a tab, and here are 1"
    ):
        list(task.predict(model_of(task), ["a b"], None))


def test_artifacts_restore_the_task(images: Classification, texts: Classification, tmp_path: Path) -> None:
    for task in (images, texts):
        again = task_of(task.config, tmp_path)
        again.restore(task.artifacts())
        assert again.labels == task.labels
        model, same = model_of(task), again.build_model().eval()
        same.load_state_dict(model.state_dict())
        batch = first_batch(task)
        torch.testing.assert_close(same(batch.source), model(batch.source))


def test_explaining_draws_words_and_images(images: Classification, texts: Classification, tmp_path: Path) -> None:
    files = texts.explain(model_of(texts), {0: "a good film", 1: "", 2: "so bad"}, None, tmp_path / "texts")
    assert [path.name for path in files] == ["text-0.png", "text-2.png"]
    files += images.maps(model_of(images), 2, tmp_path / "images")
    assert len(files) == 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    mean = {**images.config, "decoder": {"type": "classifier", "pooling": "mean"}}
    plain = task_of(mean, images.place.cache_dir)
    plain.prepare()
    assert plain.maps(model_of(plain), 2, tmp_path / "none") == []


def test_what_does_not_go_together_is_told(tmp_path: Path) -> None:
    def paths(config: dict[str, Any], **options: Any) -> list[str]:
        return [problem.path for problem in task_of(config, tmp_path, **options).check()]

    assert paths(IMAGES, mixup=0.2) == []
    assert paths(TEXTS, mixup=0.2) == ["task.mixup"]
    assert paths(TEXTS, word_dropout=0.2) == []
    assert paths(IMAGES, word_dropout=0.2) == ["task.word_dropout"]
    assert paths({**TEXTS, "search": {"type": "beam"}}) == ["search.type"]
    assert paths({**TEXTS, "data": {"type": "cldr"}}) == ["data.type"]
    assert paths({**TEXTS, "data": {"type": "digit_scenes"}}) == ["data.type"]


def test_an_encoder_that_cannot_read_the_data_is_refused_by_name(tmp_path: Path) -> None:
    swapped = {**IMAGES, "encoder": TEXTS["encoder"]}
    (problem,) = check_model(swapped, task_of(swapped, tmp_path).sketch())
    assert problem.path == "encoder.type"
    assert problem.message.startswith("'transformer' reads text, and this data is image; choose encoder=cnn")
    generating = {**TEXTS, "decoder": {"type": "rnn"}}
    (problem,) = check_model(generating, task_of(generating, tmp_path).sketch())
    assert problem.path == "decoder.type"
    assert "'rnn' writes text, and this task needs labels; choose decoder=classifier" in problem.message
    task = task_of(swapped, tmp_path)
    task.prepare()
    with pytest.raises(ConfigError, match="reads text, and this data is image"):
        task.build_model()
