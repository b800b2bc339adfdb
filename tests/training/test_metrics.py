"""The metrics give sacrebleu's own corpus scores, however sentences are split over batches and processes."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import sacrebleu
import torch

from attnbuild.training import metrics
from attnbuild.training.metrics import Accuracy, ChrF, SacreBLEU, WeightedMean

HYPOTHESES = [
    "Ein Mann spielt Gitarre .",
    "Zwei Hunde laufen durch den tiefen Schnee.",
    "",
    "Das ist die Katze, die auf der Matte saß!",
    "Eine Frau in einem roten Kleid singt.",
    "日本語の文です。",
    "Kinder spielen im Park im Park im Park",
]
REFERENCES = [
    "Ein Mann spielt eine Gitarre.",
    "Zwei Hunde rennen durch den tiefen Schnee.",
    "Niemand ist hier.",
    "Das ist die Katze, die auf der Matte saß!",
    "Eine Frau im roten Kleid singt laut.",
    "これは日本語の文です。",
    "Kinder spielen im Park.",
]


def test_bleu_over_batches_is_the_corpus_score():
    metric = SacreBLEU()
    for start in range(0, 7, 2):
        metric.update(HYPOTHESES[start : start + 2], REFERENCES[start : start + 2])
    oracle = sacrebleu.metrics.BLEU()
    assert abs(float(metric.compute()) - oracle.corpus_score(HYPOTHESES, [REFERENCES]).score) < 1e-9
    assert metric.signature == str(oracle.get_signature())
    assert "tok:13a" in metric.signature


@pytest.mark.parametrize("word_order", [0, 2])
def test_chrf_over_batches_is_the_corpus_score(word_order):
    metric = ChrF(word_order=word_order)
    for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True):
        metric.update([hypothesis], [reference])
    oracle = sacrebleu.metrics.CHRF(word_order=word_order)
    assert abs(float(metric.compute()) - oracle.corpus_score(HYPOTHESES, [REFERENCES]).score) < 1e-9
    assert metric.signature == str(oracle.get_signature())


def test_options_reach_sacrebleu():
    metric = SacreBLEU(tokenize="none", lowercase=True)
    metric.update(HYPOTHESES, REFERENCES)
    oracle = sacrebleu.metrics.BLEU(tokenize="none", lowercase=True)
    assert abs(float(metric.compute()) - oracle.corpus_score(HYPOTHESES, [REFERENCES]).score) < 1e-9
    assert "tok:none" in metric.signature
    assert "case:lc" in metric.signature


@pytest.mark.parametrize(("ours", "theirs"), [(SacreBLEU, sacrebleu.metrics.BLEU), (ChrF, sacrebleu.metrics.CHRF)])
def test_several_references_even_in_varying_number(ours, theirs):
    references = [[one, one.lower(), "Kinder im Park"] for one in REFERENCES]
    references[1] = references[1][:1]
    metric, oracle = ours(), theirs()
    metric.update(HYPOTHESES[:3], references[:3])
    metric.update(HYPOTHESES[3:], references[3:])
    streams = [[one[i] if i < len(one) else None for one in references] for i in range(3)]
    assert abs(float(metric.compute()) - oracle.corpus_score(HYPOTHESES, streams).score) < 1e-9
    assert metric.signature == str(oracle.get_signature())
    assert "nrefs:var" in metric.signature


def test_nothing_seen_scores_zero():
    metric = SacreBLEU()
    metric.update([], [])
    assert metric.statistics.sum() == 0
    assert "nrefs:1" in metric.signature


def test_resetting_forgets():
    metric = SacreBLEU()
    metric.update(["a wrong sentence"], ["something else"])
    metric.reset()
    metric.update(HYPOTHESES[3:4], REFERENCES[3:4])
    assert float(metric.compute()) == pytest.approx(100)


def test_calling_scores_the_batch_and_adds_it():
    metric = SacreBLEU()
    metric.update(HYPOTHESES[:3], REFERENCES[:3])
    assert float(metric(HYPOTHESES[3:4], REFERENCES[3:4])) == pytest.approx(100)
    expected = sacrebleu.corpus_bleu(HYPOTHESES[:4], [REFERENCES[:4]]).score
    assert abs(float(metric.compute()) - expected) < 1e-9


def test_a_copy_counts_on_its_own():
    metric = ChrF()
    copy = metric.clone()
    copy.update(HYPOTHESES, REFERENCES)
    assert metric.statistics.sum() == 0
    assert float(copy.compute()) > 0


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="2 hypotheses but references for 1"):
        SacreBLEU().update(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="hypothesis 1 has no reference"):
        SacreBLEU().update(["a", "b"], [["a"], []])


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_a_mean_of_nothing_is_not_a_number():
    assert math.isnan(Accuracy().compute())
    assert math.isnan(WeightedMean().compute())


def test_accuracy_is_the_share_of_all_tokens():
    metric = Accuracy()
    metric.update(torch.tensor(1), torch.tensor(1))
    metric.update(1, 3)
    assert float(metric.compute()) == 0.5


def test_weighted_mean_divides_sums():
    metric = WeightedMean()
    total = torch.tensor(6.0, requires_grad=True)
    metric.update(total, torch.tensor(2))
    metric.update(torch.tensor(2.0, dtype=torch.bfloat16), 2)
    assert float(metric.compute()) == 2.0
    assert not metric.total.requires_grad


def test_names_are_loaded_when_first_used():
    program = """
import sys
from attnbuild.training import metrics
assert not {"torch", "torchmetrics", "sacrebleu"} & set(sys.modules)
metrics.caption_tokens("a dog")
assert not {"torch", "torchmetrics", "sacrebleu"} & set(sys.modules)
from attnbuild.training.metrics import Accuracy
assert "sacrebleu" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_every_name_is_there():
    assert all(callable(getattr(metrics, name)) for name in metrics.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Meteor'"):
        _ = metrics.Meteor
