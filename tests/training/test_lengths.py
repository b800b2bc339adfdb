"""A model that the data outgrows is refused before it trains."""

from __future__ import annotations

from typing import Any

import pytest

from attnbuild import ConfigError
from attnbuild.cli.main import main

CLASSES = ["task=classification", "data=cldr_languages", "encoder=transformer", "decoder.pooling=cls"]
SMALL = ["data.train=200", "data.validation=8", "data.test=8", "debug=fast", "model.dim=16", "validation.maps=0"]


def train(tmp_path: Any, *words: str) -> int:
    return main(["train", *words, *SMALL, f"paths.outputs={tmp_path}"])


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["encoder/attention=cosformer", "encoder.attention.max_len=8"], "encoder.attention.max_len"),
        (["attention=linformer", "attention.max_len=8"], "attention.max_len"),
        ([*CLASSES, "encoder.class_token=true", "attention=linformer", "attention.max_len=8"], "attention.max_len"),
        (["encoder.positions=learned", "encoder.max_positions=9"], "encoder.max_positions"),
        (["decoder.positions=learned", "decoder.max_positions=30"], "decoder.max_positions"),
    ],
)
def test_the_length_that_is_needed_is_told(tmp_path: Any, capfd: Any, words: list[str], path: str) -> None:
    assert train(tmp_path, *words) == ConfigError.exit_code
    told = capfd.readouterr().err
    (line,) = (line for line in told.splitlines() if line.strip().startswith(path))
    needed = line.rpartition("=")[2].split()[0]
    assert f"set {path}={needed} or more" in line
    if path == "attention.max_len":  # the longest of three places decides
        assert train(tmp_path, *[word for word in words if path not in word], f"{path}={needed}") == 0
