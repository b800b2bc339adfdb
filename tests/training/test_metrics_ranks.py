"""Two processes score as one does, also where one of them got nothing: with real gathering, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
from attnbuild.training.metrics import (
    Accuracy, ChrF, ConfusionMatrix, PerClass, SacreBLEU, WeightedMean, caption_metrics, classification_metrics
)

TEXTS = ["Ein Mann spielt Gitarre .", "two dogs run", "", "日本語の文です。", "a man's \\ud800 \\n dog", "x y z", "a dog"]
REFERENCES = [
    ["Ein Mann spielt eine Gitarre."], ["Two dogs are running.", "dogs run"], ["nobody", "no one", "none at all"],
    ["日本語の文です。", "これは文です。"], ["a man's \\ud800 dog"], ["x y z w"], ["the dog", "a dog barks at a car"],
]

def batch(multi_label, labels=6):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(len(TEXTS), labels, generator=generator)
    if multi_label:
        return logits.sigmoid(), (torch.rand(logits.shape, generator=generator) > 0.5).long()
    return logits.softmax(dim=1), torch.randint(0, labels, (len(TEXTS),), generator=generator)

def score(mine):
    values = {}
    text_metrics = {"bleu": SacreBLEU(), "chrf": ChrF()} | caption_metrics()
    for name, metric in text_metrics.items():
        for i in mine:
            # sacrebleu's chrF cannot read half a surrogate pair.
            metric.update([TEXTS[i].replace("\\ud800", "")] if name == "chrf" else [TEXTS[i]], [REFERENCES[i]])
        values[name] = float(metric.compute())
        values[name + " signature"] = getattr(metric, "signature", "")
    counted = {"tokens": Accuracy(), "loss": WeightedMean()}
    for name, metric in counted.items():
        for i in mine:
            metric.update(i, i + 2)
        values[name] = float(metric.compute())
    for multi_label in (False, True):
        probabilities, target = batch(multi_label)
        metrics = classification_metrics(6, multi_label) | {"per_class": PerClass(6, multi_label)}
        if not multi_label:
            metrics["confusion"] = ConfusionMatrix(6)
        for name, metric in metrics.items():
            for i in mine:
                metric.update(probabilities[i : i + 1], target[i : i + 1])
            value = metric.compute()
            parts = list(value) if isinstance(value, tuple) else [value]
            values[f"{name} {multi_label}"] = [float(x) for part in parts for x in part.flatten()]
            # What was gathered is given back: the rank goes on with its own.
            assert len(mine) == metric._update_count
    return values

if len(sys.argv) == 1:
    print(json.dumps([score(range(7))]))
else:
    rank = int(sys.argv[1])
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
    # All sentences on one rank, or an odd number over both.
    print(json.dumps([score(range(rank, 7, 2)), score(range(7) if rank == 0 else ()), score(range(7) if rank else ())]))
    dist.destroy_process_group()
"""


pytestmark = pytest.mark.slow  # by default test_ranks_equal.py holds the tasks' own metrics to this


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """What one process says, and what each of two says for three ways to share the examples."""
    store = str(tmp_path_factory.mktemp("ranks") / "store")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for words in ([], ["0", store], ["1", store])
    ]
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        outputs.append(json.loads(output))
    return outputs


@pytest.mark.parametrize("case", range(3), ids=["odd number", "none on rank 1", "none on rank 0"])
def test_two_processes_score_as_one(scores, case):
    (alone,), *ranks = scores
    for rank in ranks:
        assert rank[case].keys() == alone.keys()
        for name, value in alone.items():
            if not isinstance(value, str):
                assert rank[case][name] == pytest.approx(value, abs=1e-6), name


def test_the_examples_tell_right_from_wrong(scores):
    (alone,), *_ = scores
    for name in ("bleu", "chrf", "bleu1", "bleu4", "rouge_l", "cider"):
        assert 0 < alone[name] < 1000
