"""What ONNX Runtime makes of an exported model is what attnbuild makes of it; what cannot be written is told before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.core.soft import Soft
from attnbuild.cli.check import check_config
from attnbuild.cli.main import main
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK
from attnbuild.export.onnx import ONNX
from attnbuild.model import EncoderDecoder
from attnbuild.names import list_names
from attnbuild.training.checkpoint import build_task, load
from tests.composing import config_of

TINY = ("trainer.max_steps=1", "model.dim=16", "trainer.threads=1", "validation.maps=0")
FEW = ("data.train=60", "data.validation=8", "data.test=8")
TEXT = (*FEW, "tokenizer.vocab_size=300", "encoder.layers=1", "decoder.layers=1", "encoder.feedforward=24")


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(engine: onnxruntime.InferenceSession, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a model gives, by name; what it does not ask for is left out."""
    wanted = {one.name for one in engine.get_inputs()}
    names = [one.name for one in engine.get_outputs()]
    return dict(zip(names, engine.run(names, {name: given[name] for name in wanted}), strict=True))


@pytest.mark.parametrize(
    "words",
    [
        (*TEXT, "attention=window", "attention.window=3", "decoder/cross_attention=bahdanau", "encoder.norm=post"),
        (*FEW, "task=captioning", "encoder.width=8", "decoder=transformer", "decoder.layers=1"),
        ("task=classification", "encoder=vit", "encoder.layers=1", "encoder.feedforward=24"),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                (*TEXT, "encoder.positions=learned", "decoder/cross_attention=entmax15"),
                (*FEW, "task=classification", "data=cldr_languages", "encoder=transformer", "encoder.layers=1"),
                ("task=classification", "encoder=cnn", "encoder.feature_attention=cbam", "decoder.pooling=mean"),
            )
        ),
    ],
    ids=" ".join,
)
def test_it_gives_what_attnbuild_gives_at_every_length(words: tuple[str, ...], tmp_path: Path) -> None:
    task: Any = build_task(config_of([*TINY, *words]))
    task.prepare(("train",))
    torch.manual_seed(1)
    model = task.build_model().eval()
    assert ONNX(None).refusals(model) == []
    hold_equal(model, task, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("preset", list_names("attention"))
def test_every_preset_is_written_or_refused(preset: str, tmp_path: Path) -> None:
    config = config_of([*TINY, *TEXT, f"attention={preset}"])
    if check_config(config):
        pytest.skip(f"{preset} serves no place of this model")
    task: Any = build_task(config)
    task.prepare(("train",))
    torch.manual_seed(1)
    model = task.build_model().eval()
    cores = {type(module.core) for module in model.modules() if isinstance(module, AttentionBlock)}
    refusals = ONNX(None).refusals(model)
    assert bool(refusals) == (cores != {Soft} or any("max_len" in reason for reason in refusals))
    if not refusals:
        hold_equal(model, task, tmp_path)


def hold_equal(model: EncoderDecoder, task: Any, tmp_path: Path) -> None:
    """The logits of one example, and of several longer ones."""
    ONNX(None).write(model, task, tmp_path)
    engines = {path.stem: session(path) for path in sorted(tmp_path.glob("*.onnx"))}
    for rows in ([0], [1, 2, 3, 4, 5]):
        sources, targets = task.corpora["train"].rows(rows)
        source, target = task.source_side.collate(sources), task.target_side.collate(targets)
        with torch.no_grad():
            expected = model(source, target[:, :-1])[:, -1] if "decoder" in engines else model(source)
        if "decoder" in engines:
            memory = run(engines["encoder"], {"source": source.numpy()})
            found = run(engines["decoder"], {"target": target[:, :-1].numpy(), **memory})["logits"]
        else:
            found = run(engines["model"], {"source": source.numpy()})["logits"]
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=2e-5, rtol=1e-4)


def test_greedy_outputs_of_a_run_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As typed: train, export, and a loop of a few lines over the two files."""
    words = [*TINY, *TEXT, "trainer.max_steps=40", "optimizer.lr=0.01", "data.train=200", "search=greedy"]
    assert main(["train", *words, f"paths.outputs={tmp_path}"]) == 0
    (summary,) = tmp_path.rglob("summary.json")
    capsys.readouterr()
    assert main(["export", f"run={summary.parent}", "format=onnx"]) == 0
    written = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert written == {"encoder.onnx", "decoder.onnx", "tokenizer.json"}
    loaded = load(summary.parent)
    task: Any = loaded.task
    lines = ["May 4, 2026", "in 3 weeks", "Germany", "12 litres per kilometre"]
    search = task.search(loaded.config["search"])
    ours = [found.text for found in task.predict(loaded.model, lines, search)]
    encoder, decoder = (session(summary.parent / "onnx" / f"{name}.onnx") for name in ("encoder", "decoder"))
    for line, expected in zip(lines, ours, strict=True):
        (ids,) = task.source_side.vocabulary.encode([line])
        memory = run(encoder, {"source": np.array([[*ids, EOS]])})
        tokens = [BOS]
        while tokens[-1] != EOS and len(tokens) <= 2 * (len(ids) + 1) + 20:
            logits = run(decoder, {"target": np.array([tokens]), **memory})["logits"][0]
            logits[[PAD, BOS, UNK]] = -np.inf
            tokens.append(int(logits.argmax()))
        text = task.target_side.vocabulary.decode([[token for token in tokens[1:] if token != EOS]])
        assert text == [expected]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("encoder=rnn", "decoder=rnn", "attention=bahdanau"), "no loop over time"),
        (("attention=linear",), "goes by the lengths at hand"),
        (("decoder/cross_attention=luong_location",), "max_len"),
    ],
)
def test_show_tells_what_cannot_be_written(
    words: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["show", *words]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("onnx")]
    assert reason in row
