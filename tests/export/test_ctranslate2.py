"""What CTranslate2 makes of an exported model is what attnbuild makes of it; what it cannot express is told before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch

from attnbuild.cli.check import check_config
from attnbuild.cli.main import main
from attnbuild.data.tokenizers.vocabulary import EOS
from attnbuild.export.ctranslate2 import CTranslate2
from attnbuild.inputs import Ends, TextInput
from attnbuild.model import EncoderDecoder, build_model
from attnbuild.names import list_names
from attnbuild.training.checkpoint import build_task, load
from tests.composing import config_of

TINY = (
    *("data.train=200", "data.validation=8", "data.test=8", "tokenizer.vocab_size=300", "trainer.max_steps=1"),
    *("model.dim=16", "encoder.layers=2", "decoder.layers=1", "encoder.feedforward=24", "decoder.feedforward=40"),
    *("trainer.threads=1", "search=greedy", "validation.maps=0"),
)


def exported(words: Sequence[str], folder: Path) -> tuple[EncoderDecoder, Any, ctranslate2.Translator]:
    """A model with random weights, its task, and what CTranslate2 makes of it."""
    task: Any = build_task(config_of([*TINY, *words]))
    task.prepare(("train",))
    torch.manual_seed(1)
    model = task.build_model().eval()
    for parameter in model.parameters():  # biases and norms too, which begin as nothing
        torch.nn.init.normal_(parameter, std=0.3)
    exporter = CTranslate2(None)
    assert exporter.refusals(model) == []
    folder.mkdir()
    exporter.write(model, task, folder)
    return model, task, ctranslate2.Translator(str(folder), device="cpu", compute_type="float32", intra_threads=1)


def scored(translator: ctranslate2.Translator, source: list[str], target: list[str]) -> list[float]:
    """Log-probability of each token of a target, its end too."""
    (found,) = translator.score_batch([source], [target])
    return found.log_probs


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("encoder.norm=post", "decoder.norm=post", "model.tie_embeddings=all"),
        ("encoder.activation=gelu", "decoder.activation=silu", "encoder.norm=post"),
        ("encoder.positions=learned", "decoder.positions=none"),
        ("attention=single_head",),
        ("encoder.attention.heads=2", "decoder.self_attention.heads=8", "decoder.cross_attention.heads=8"),
        ("attention.bias=false", "tokenizer.joint=false", "model.tie_embeddings=none"),
    ],
    ids=" ".join,
)
def test_every_token_gets_the_same_probability(words: tuple[str, ...], tmp_path: Path) -> None:
    model, task, translator = exported(words, tmp_path / "out")
    sources, targets = task.corpora["train"].rows(list(range(6)))
    for source, target in zip(sources, targets, strict=True):
        ids = task.target_side.collate([target])
        with torch.no_grad():
            logits = model(task.source_side.collate([source]), ids[:, :-1])
        expected = logits.log_softmax(dim=-1).gather(-1, ids[:, 1:, None]).flatten().tolist()
        pieces = [side.vocabulary.pieces() for side in (task.source_side, task.target_side)]
        texts = ([piece[number] for number in row] for piece, row in zip(pieces, (source, target), strict=True))
        assert ids[0, -1] == EOS
        assert scored(translator, *texts) == pytest.approx(expected, abs=2e-4)


def test_greedy_outputs_of_a_run_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As typed: train, export, translate with either."""
    assert main(["train", *TINY, "trainer.max_steps=40", "optimizer.lr=0.01", f"paths.outputs={tmp_path}"]) == 0
    (summary,) = tmp_path.rglob("summary.json")
    run = summary.parent
    capsys.readouterr()
    assert main(["export", f"run={run}", "format=ctranslate2"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.name for path in written} >= {"model.bin", "config.json", "tokenizer.json"}
    assert all(path.parent == run / "ctranslate2" and path.is_file() for path in written)
    loaded = load(run)
    task: Any = loaded.task
    lines = ["May 4, 2026", "in 3 weeks", "Germany", "12 litres per kilometre"]
    ours = [
        found.text for found in task.predict(loaded.model, lines, task.search(config_of(["search=greedy"])["search"]))
    ]
    vocabulary = task.source_side.vocabulary
    pieces = vocabulary.pieces()
    translator = ctranslate2.Translator(str(run / "ctranslate2"), device="cpu", intra_threads=1)
    for line, expected in zip(lines, ours, strict=True):
        ids = vocabulary.encode([line])
        (found,) = translator.translate_batch(
            [[pieces[number] for number in ids[0]]],
            beam_size=1,
            disable_unk=True,
            max_decoding_length=2 * (len(ids[0]) + 1) + 20,
        )
        numbers = [pieces.index(piece) for piece in found.hypotheses[0]]
        assert task.target_side.vocabulary.decode([numbers]) == [expected]
    assert main(["export", f"run={run}", "format=ctranslate2"]) == 2
    assert "there is something at" in capsys.readouterr().err
    assert main(["export", f"run={run}", "format=ctranslat"]) == 2
    assert "did you mean 'ctranslate2'" in capsys.readouterr().err


def test_what_it_cannot_express_is_known_without_weights() -> None:
    """Of every preset that serves an encoder: heads that see all keys, and softmax of scaled products, can be written."""
    refused = {}
    for preset in list_names("attention"):
        config = config_of([f"encoder/attention={preset}"])
        if not check_config(config):
            with torch.device("meta"):
                model = build_model(config, Ends(TextInput(50, 0), 50, "text", True))
            refused[preset] = CTranslate2(None).refusals(model)
    assert len(refused) > 25
    assert {preset for preset, reasons in refused.items() if not reasons} == {"multihead", "single_head"}
    assert all(reason.startswith("encoder.attention: ") for reasons in refused.values() for reason in reasons)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("encoder=rnn", "decoder=rnn", "attention=bahdanau"), "the Transformer alone"),
        (("task=classification", "data=cldr_languages", "encoder=transformer"), "the Transformer alone"),
        (("decoder.self_attention.heads=2", "decoder.cross_attention.heads=4"), "as many heads"),
        (("attention=grouped_query",), "leave out kv_heads"),
        (("attention=window",), "no pattern 'window'"),
        (("attention=rope",), "no position 'rope'"),
        (("attention=linear",), "no 'linear' attention"),
    ],
)
def test_show_tells_it_before_there_is_a_run(
    words: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["show", *words]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("ctranslate2")]
    assert reason in row
