"""``attnbuild test`` and ``predict``: the words they need, and changes to the config of the run."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest


@pytest.fixture
def called(monkeypatch):
    """The calls of ``test_run`` and ``predict_run``, which do nothing."""
    calls = []
    evaluate = types.ModuleType("attnbuild.training.evaluate")
    evaluate.test_run = lambda *arguments: calls.append(arguments) or {"metrics": {"test/bleu": 41.25}}
    predict = types.ModuleType("attnbuild.training.predict")
    predict.predict_run = lambda *arguments: calls.append(arguments)
    monkeypatch.setitem(sys.modules, "attnbuild.training.evaluate", evaluate)
    monkeypatch.setitem(sys.modules, "attnbuild.training.predict", predict)
    return calls


def test_test(run, called):
    outcome = run("test", "run=outputs/x y", "search.beam=10")
    assert (outcome.code, outcome.out) == (0, "test/bleu  41.25\n")
    assert called == [(Path("outputs/x y"), {"search": {"beam": 10}})]


def test_a_group_brings_its_whole_section(run, called):
    assert run("test", "run=x", "search=greedy", "data=cldr").code == 0
    changes = called[0][1]
    assert changes["search"]["type"] == "greedy"
    assert changes["data"]["type"] == "cldr"


def test_no_changes(run, called):
    run("test", "run=x")
    assert called == [(Path("x"), {})]


def test_predict(run, called):
    outcome = run("predict", "run=x", "input=-", "output=ü=1.txt", "search.n_best=3")
    assert outcome.code == 0, outcome
    assert called == [(Path("x"), "-", "ü=1.txt", {"search": {"n_best": 3}}, None)]


@pytest.mark.parametrize(
    ("word", "folder"), [("true", "runs/1/explained"), ("pictures/now", "pictures/now"), ("false", None)]
)
def test_explain_names_a_folder(run, called, tmp_path, monkeypatch, word, folder):
    monkeypatch.chdir(tmp_path)
    Path("runs/1/checkpoints").mkdir(parents=True)
    assert run("predict", "run=runs/1", "input=a.png", f"explain={word}").code == 0
    assert called == [(Path("runs/1"), "a.png", "-", {}, folder and Path(folder))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("test",), "missing: run=..."),
        (("predict", "run=x"), "missing: input=..."),
        (("predict", "run=", "input=-", "output=-"), "missing: run=..."),
        (("test", "run=x", "serch=greedy"), "did you mean 'search'"),
        (("test", "run=x", "search=gredy"), "did you mean 'greedy'?"),
        (("test", "run=x", "search.beam=[1"), "cannot read"),
        (("test", "run=x", "-m"), "-m is for train"),
    ],
)
def test_what_is_refused(refused, called, words, message):
    assert message in refused(*words)
    assert not called
