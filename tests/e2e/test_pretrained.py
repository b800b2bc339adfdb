"""Encoders that others have trained, as they are typed: trained, tested, and asked from the checkpoint alone."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.commands import only_run, run_command
from tests.encoders.tiny_models import save_bert, save_model

pytest.importorskip("transformers")

SHORT = (
    *("task=classification", "encoder=pretrained", "encoder.path=model", "trainer.max_steps=2", "validation.every=2"),
    *("trainer.threads=1", "batch.rows=4", "validation.samples=1"),
)


def train(folder: Path, *words: str) -> Path:
    """The run folder; what it was trained from is gone."""
    outcome = run_command("train", *SHORT, *words, cwd=folder)
    assert outcome.code == 0, outcome.err
    shutil.rmtree(folder / "model")
    return only_run(folder)


def predict(folder: Path, *words: str, input: str | None = None) -> list[list[str]]:
    """The table without its heading."""
    outcome = run_command("predict", *words, "output=out.csv", cwd=folder, input=input)
    assert outcome.code == 0, outcome.err
    assert "sees the beginning" in outcome.err or input is None
    return list(csv.reader((folder / "out.csv").read_text(encoding="utf-8").splitlines()))[1:]


def test_texts_some_of_them_longer_than_the_model_reads(tmp_path: Path) -> None:
    save_bert(tmp_path / "model")
    long = "the cat sat on the mat " * 4
    rows = ["the cat,yes", "a dog,no", "a cat sat,yes", "unhappy dogs,no", f"{long},yes"]
    (tmp_path / "rows.csv").write_text("\n".join(["source,target", *rows, ""]), encoding="utf-8")
    run = train(
        tmp_path,
        *("data=table", "data.train=rows.csv", "data.validation=rows.csv", "data.test=rows.csv"),
        *("tokenizer=pretrained", "tokenizer.path=model", "decoder.pooling=attention", "validation.maps=5"),
    )
    assert len(list((run / "maps").iterdir())) == 5
    found = predict(tmp_path, f"run={run}", "input=-", input=f"the dog\n{long}\n")
    assert [row[1] for row in found] == ["the dog", long.strip()]
    assert all(row[2] in ("yes", "no") for row in found)


def test_images(tmp_path: Path) -> None:
    kernels = {"kernel_sizes": [3, 3], "strides": [1, 2], "expand_ratios": [1, 2], "num_block_repeats": [1, 1]}
    channels = {"in_channels": [8, 8], "out_channels": [8, 16], "depthwise_padding": [], "width_coefficient": 0.025}
    whole = {"depth_coefficient": 1.0, "image_size": 32, "hidden_dim": 32, "depth_divisor": 8}
    save_model("EfficientNet", tmp_path / "model", **kernels, **channels, **whole)
    run = train(
        tmp_path,
        *("data=digits", "image.size=32"),
        *("image.channels=3", "validation.maps=0"),
    )
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    ((_, name, label, *_),) = predict(tmp_path, f"run={run}", "input=a.png")
    assert (Path(name).name, label in "0123456789") == ("a.png", True)
