"""The translation task on its own: data to batches to loss to predictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnbuild import ConfigError
from attnbuild.attention import load_preset
from attnbuild.data.tokenizers.vocabulary import PAD
from attnbuild.tasks.translation.task import Translation
from attnbuild.training.task import TaskPlace

CONFIG = {
    "seed": 1,
    "data": {"type": "cldr", "train": 200, "validation": 7, "test": 7},
    "tokenizer": {"type": "bpe", "vocab_size": 400},
    "batch": {"tokens": 256, "rows": 99, "eval_tokens": 512, "eval_rows": 99, "max_length": 100},
    "validation": {"search": {"type": "greedy"}},
    "search": {"type": "beam"},
    "attention": load_preset("multihead"),
    "model": {"tie_embeddings": "all"},
    "encoder": {"type": "transformer", "dim": 16, "layers": 1, "feedforward": 32, "dropout": 0.0},
    "decoder": {"type": "transformer", "dim": 16, "layers": 1, "feedforward": 32, "dropout": 0.0},
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Translation:
    made = Translation(TaskPlace(CONFIG, tmp_path_factory.mktemp("cache")), label_smoothing=0.1)
    made.prepare()
    return made


@pytest.fixture
def model(task: Translation) -> torch.nn.Module:
    torch.manual_seed(0)
    return task.build_model().eval()


def test_loss_is_a_sum_over_real_tokens_smoothed_in_training_only(task: Translation, model: torch.nn.Module) -> None:
    batch = next(iter(task.train_loader(rank=0, world_size=1, start_step=3)))
    loss = task.loss(model, batch)
    log_probs = model(batch.source, batch.target[:, :-1]).log_softmax(-1)
    expected, real = batch.target[:, 1:], batch.target[:, 1:] != PAD
    nll = -log_probs.gather(-1, expected.unsqueeze(-1)).squeeze(-1)[real]
    torch.testing.assert_close(loss.total, nll.sum())
    assert loss.weight == real.sum()
    assert loss.correct == (log_probs.argmax(-1) == expected)[real].sum()
    # Szegedy et al. 2016: the target is 0.9 of the token and 0.1 of the uniform distribution.
    smoothed = 0.9 * nll.sum() - 0.1 * log_probs.mean(-1)[real].sum()
    torch.testing.assert_close(task.loss(model.train(), batch).total, smoothed)


def test_evaluation_scores_every_sentence_of_the_raw_text_once(task: Translation, model: torch.nn.Module) -> None:
    metrics, search = task.metrics(), task.search({"type": "greedy"})
    predictions = [
        prediction
        for rank in (0, 1)
        for batch in task.eval_loader("test", rank=rank, world_size=2)
        for prediction in task.evaluate(model, batch, search, metrics)
    ]
    assert sorted(prediction.index for prediction in predictions) == list(range(7))
    rows = list(task.reader.read("test"))
    for prediction in predictions:
        assert prediction.source == rows[prediction.index]["source"]
        assert prediction.reference == rows[prediction.index]["target"]
    assert 0 <= float(metrics["bleu"].compute()) <= 100


def test_a_stream_comes_back_in_order_whatever_the_batches(task: Translation, model: torch.nn.Module) -> None:
    sentences = [row["source"] for row in task.reader.read("train")][:40]
    sentences[5] = ""
    search = task.search({"type": "beam", "beam": 3, "n_best": 2})
    together = list(task.predict(model, sentences, search))
    assert [prediction.source for prediction in together] == sentences
    assert (together[5].text, together[5].n_best) == ("", ())
    for index in (0, 6, 39):
        (alone,) = task.predict(model, [sentences[index]], search)
        assert alone.text == together[index].text
        assert [text for text, _ in alone.n_best] == [text for text, _ in together[index].n_best]
        assert alone.score == pytest.approx(together[index].score, rel=1e-4)


def test_artifacts_restore_the_vocabularies(task: Translation, tmp_path: Path) -> None:
    again = Translation(TaskPlace(CONFIG, tmp_path))
    again.restore(task.artifacts())
    texts = ["May 4, 2026"]
    assert again.source_side.vocabulary.encode(texts) == task.source_side.vocabulary.encode(texts)
    assert again.source_side.vocabulary is again.target_side.vocabulary


def test_separate_vocabularies_are_two_artifacts(tmp_path: Path) -> None:
    config = {**CONFIG, "tokenizer": {"type": "word", "joint": False}, "model": {"tie_embeddings": "target"}}
    made = Translation(TaskPlace(config, tmp_path))
    made.prepare(())
    assert set(made.artifacts()) == {"tokenizer.source.json", "tokenizer.target.json"}
    made.build_model()
    tied = Translation(TaskPlace({**config, "model": {"tie_embeddings": "all"}}, tmp_path))
    tied.restore(made.artifacts())
    with pytest.raises(ConfigError, match="needs one vocabulary for both sides"):
        tied.build_model()


def test_maps_are_pictures_and_none_without_attention(task: Translation, tmp_path: Path) -> None:
    files = task.maps(task.build_model().eval(), 2, tmp_path / "maps")
    assert len(files) == 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    rnn = {"type": "rnn", "dim": 16, "dropout": 0.0}
    config = {**CONFIG, "encoder": rnn, "decoder": rnn, "attention": load_preset("none")}
    plain = Translation(TaskPlace(config, task.place.cache_dir))
    plain.prepare(("validation",))
    assert plain.maps(plain.build_model().eval(), 2, tmp_path / "none") == []
