"""``trainer.precision``: what auto is, and who is warned."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from attnbuild.training.precision import has_bf16, precision_of
from attnbuild.training.run import RunFolder

Config = dict[str, Any]


@pytest.fixture(params=[True, False], ids=["with bf16", "without"])
def bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A CPU with or without bf16 arithmetic."""
    known = {"avx512_bf16": request.param, "amx_bf16": False, "avx512_f": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    return bool(request.param)


def test_auto_is_bf16_only_where_the_cpu_has_it(bf16: bool) -> None:
    assert has_bf16("cpu") is bf16
    assert precision_of({"accelerator": "cpu", "precision": "auto"}) == ("bf16-mixed" if bf16 else "32-true")


@pytest.mark.parametrize("asked", ["bf16-mixed", "bf16-true"])
def test_imitated_bf16_is_warned_of(asked: str, bf16: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert precision_of({"accelerator": "cpu", "precision": asked}) == asked
    assert ("trainer.precision=auto" in caplog.text) is not bf16


@pytest.mark.parametrize("asked", ["32-true", "16-mixed", "64-true"])
def test_what_does_not_need_bf16_stays_as_it_is(asked: str, bf16: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert precision_of({"accelerator": "cpu", "precision": asked}) == asked
    assert not caplog.text


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_a_device_is_asked_and_answers(accelerator: str) -> None:
    assert has_bf16(accelerator) in (True, False)


def test_before_torch_told_of_all_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_bf16("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert not has_bf16("cpu")


def test_the_summary_names_the_precision_used(config: Config, run: RunFolder, bf16: bool) -> None:
    from attnbuild.training.fit import train

    config["trainer"] |= {"precision": "auto", "max_steps": 2}
    assert train(config, run, [])["precision"] == ("bf16-mixed" if bf16 else "32-true")
    assert run.read_config()["trainer"]["precision"] == "auto"
