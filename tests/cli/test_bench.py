"""``attnbuild bench``: time and memory of attentions against length."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

SMALL = ("lengths=32,64,128", "dim=16", "heads=2", "repeats=1", "threads=1", "output=out")


@pytest.fixture
def bench(run):
    """Run a small bench; returns the outcome and what it wrote."""

    def measure(*words: str):
        outcome = run("bench", *SMALL, *words)
        assert outcome.code == 0, outcome
        return outcome, json.loads(Path("out/bench.json").read_text(encoding="utf-8"))

    return measure


def test_table_picture_and_file(bench):
    outcome, record = bench("attention=window,multihead", "attention.window=4")
    assert outcome.out.split()[:6] == ["attention", "32", "64", "128", "exponent", "window"]
    assert Path("out/bench.png").read_bytes().startswith(b"\x89PNG")
    assert {"case", "system", "metric", "value", "unit"} == record["rows"][0].keys()
    found = {(row["case"], row["metric"]): row["value"] for row in record["rows"]}
    assert found["window 32", "time"] > 0
    assert found["multihead 128", "peak_memory"] > found["multihead 64", "peak_memory"]
    assert "multihead" in {case for case, metric in found if metric == "time_exponent"}
    assert record["versions"]["torch"]
    assert record["options"] == {"window": 4}


def test_a_preset_that_cannot_serve_is_named_with_the_reason(bench):
    outcome, record = bench("attention=none,multihead", "backward=false")
    assert "left out: none: 'none' cannot serve as self-attention: the fixed context" in outcome.out
    assert record["left_out"][0]["case"] == "none"
    outcome, _ = bench("attention=none,window", "cross=true", "lengths=[16]")
    assert "left out: window: 'window' cannot serve as cross-attention" in outcome.out


def test_what_would_take_too_long_is_not_begun(bench):
    outcome, record = bench("attention=multihead", "limit_s=0.000001", "lengths=32,64")
    assert "left out: multihead at 64: one call would take about" in outcome.out
    assert not any(row["case"] == "multihead 64" for row in record["rows"])


def test_presets_of_the_user(bench, user_dir):
    folder = user_dir("attention/narrow", "type: soft\npattern: window\nwindow: 3\n")
    outcome, _ = bench("--config-dir", folder, "attention=narrow", "lengths=32", "causal=true", "dtype=bfloat16")
    assert "narrow" in outcome.out


def test_a_longest_input_that_was_raised_is_told(bench):
    outcome, record = bench("attention=luong_location,multihead", "cross=true", "lengths=32,300", "backward=false")
    assert outcome.out.count("max_len was raised to 300: luong_location (256)\n") == 1
    assert record["raised"] == {"luong_location": {"max_len": [256, 300]}}
    outcome, record = bench("attention=luong_location", "cross=true", "lengths=16,32", "backward=false")
    assert "raised" not in outcome.out
    assert record["raised"] == {}


def test_a_longest_input_that_was_asked_for_stays(bench):
    outcome, _ = bench("attention=linformer", "attention.max_len=40", "lengths=32,64", "backward=false")
    assert "raised" not in outcome.out
    assert "left out: linformer at 64: attention: an input of 64 positions is longer than attention.max_len=40" in (
        outcome.out
    )


@pytest.mark.parametrize(
    ("lengths", "fitted", "told"),
    [
        ("32", "-", ""),
        ("32,64", "[-0-9.]+", "; exponents over two lengths"),
        ("32,48,64", "[-0-9.]+", "; exponents over the longest three lengths"),
    ],
)
def test_exponents_need_lengths(bench, lengths, fitted, told):
    outcome, record = bench("attention=multihead", f"lengths={lengths}", "backward=false")
    assert re.search(rf"multihead +ms( +[\d.]+){{{lengths.count(',') + 1}}} +{fitted}\s*\n", outcome.out)
    assert f"float32 on cpu{told}\n" in outcome.out
    assert any("exponent" in row["metric"] for row in record["rows"]) == ("," in lengths)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name the presets to measure"),
        (("attention=windw",), "there is no 'windw'; did you mean 'window'?"),
        (("attention=window", "lenghts=3"), "unknown option of bench; did you mean 'lengths'?"),
        (("attention=window", "lengths=0"), "greater than or equal to 1"),
        (("attention=window", "repeats=many"), "repeats"),
        (
            ("attention=window", "attention.windw=3"),
            "no preset that is measured has this option; did you mean 'window'?",
        ),
        (("attention=window", "attention.window=-1"), "greater than or equal to 0"),
        (("attention=window", "device=gpu"), "'gpu' cannot be used"),
        (("attention=multihead", "cross=true", "causal=true"), "no order of its own"),
        (("attention=window", "cross=true"), "cannot serve as cross-attention"),
        (("attention=multihead", "heads=3", "dim=16"), "3 heads do not divide the width 16"),
        (("attention=multihead", "-m"), "leave out -m"),
    ],
)
def test_what_is_wrong_is_said(refused, words, message):
    assert message in refused("bench", *words)


def test_help_names_every_word(run):
    from attnbuild.cli.bench import word_names

    told = run("bench", "--help").out
    assert all(word in told for word in word_names())
