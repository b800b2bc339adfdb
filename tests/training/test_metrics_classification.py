"""The metrics of classifiers are the textbook's, counted here by hand, however examples are split over batches."""

from __future__ import annotations

import math

import pytest
import torch

from attnbuild.training.metrics import ConfusionMatrix, PerClass, classification_metrics

LABELS, EXAMPLES = 7, 120


def inputs(multi_label, labels=LABELS, examples=EXAMPLES, seed=0):
    """Probabilities that are somewhat right, and targets; with one label each, the last one never is."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(examples, labels, generator=generator)
    if multi_label:
        target = (torch.rand(examples, labels, generator=generator) > 0.7).long()
        return (logits + 2 * target - 1).sigmoid(), target
    target = torch.randint(0, max(labels - 1, 2), (examples,), generator=generator)
    return (logits + 2 * torch.nn.functional.one_hot(target, labels)).softmax(dim=1), target


def feed(metrics, probabilities, target, cuts):
    for metric in metrics.values():
        start = 0
        for stop in (*cuts, len(target)):
            if stop > start:
                metric.update(probabilities[start:stop], target[start:stop])
            start = stop


def values(metrics, probabilities, target):
    feed(metrics, probabilities, target, cuts=())
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def f1_of(predicted, right):
    """2 TP / (2 TP + FP + FN) of two sets of examples; None where both are empty."""
    total = len(predicted) + len(right)
    return 2 * len(predicted & right) / total if total else None


def mean(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def calibration_by_hand(pairs):
    """Of probabilities, and whether what they were given to was so."""
    bins = [[] for _ in range(15)]
    for probability, hit in pairs:
        bins[min(int(probability * 15), 14)].append((probability, hit))
    return sum(abs(sum(p for p, _ in one) - sum(hit for _, hit in one)) for one in bins) / len(pairs)


def single_by_hand(probabilities, target):
    rows = probabilities.tolist()
    guesses = [row.index(max(row)) for row in rows]
    right = target.tolist()
    ranks = [sorted(row, reverse=True).index(row[label]) for row, label in zip(rows, right, strict=True)]
    f1s = [
        f1_of(
            {i for i, guess in enumerate(guesses) if guess == label}, {i for i, one in enumerate(right) if one == label}
        )
        for label in range(probabilities.shape[1])
    ]
    return {
        "accuracy": mean(guess == label for guess, label in zip(guesses, right, strict=True)),
        "top5": mean(rank < 5 for rank in ranks),
        "f1_macro": mean(f1 for f1 in f1s if f1 is not None),
        "calibration_error": calibration_by_hand(
            [(max(row), guess == label) for row, guess, label in zip(rows, guesses, right, strict=True)]
        ),
    }


def multi_by_hand(probabilities, target):
    chosen = [{j for j, p in enumerate(row) if p > 0.5} for row in probabilities.tolist()]
    right = [{j for j, bit in enumerate(row) if bit} for row in target.tolist()]
    pairs = [{(i, j) for i, row in enumerate(rows) for j in row} for rows in (chosen, right)]
    labels = range(probabilities.shape[1])

    def average_precision(label):
        order = sorted(range(len(right)), key=lambda i: -float(probabilities[i, label]))
        hits = [label in right[i] for i in order]
        return mean(sum(hits[: k + 1]) / (k + 1) for k, hit in enumerate(hits) if hit)

    return {
        "f1_micro": f1_of(*pairs),
        "f1_macro": mean(f1_of(*({i for i, j in one if j == label} for one in pairs)) for label in labels),
        "map": mean(average_precision(label) for label in labels),
        "exact_match": mean(one == other for one, other in zip(chosen, right, strict=True)),
        "calibration_error": calibration_by_hand(
            list(zip(probabilities.flatten().tolist(), target.flatten().tolist(), strict=True))
        ),
    }


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_counted_by_hand(multi_label, seed):
    probabilities, target = inputs(multi_label, seed=seed)
    found = values(classification_metrics(LABELS, multi_label), probabilities, target)
    by_hand = multi_by_hand if multi_label else single_by_hand
    assert found == pytest.approx(by_hand(probabilities, target), abs=1e-5)
    assert all(0 < value < 1 for value in found.values())


@pytest.mark.parametrize("multi_label", [False, True])
def test_any_split_into_batches_and_ranks_gives_the_same_values(multi_label):
    probabilities, target = inputs(multi_label)
    whole = values(classification_metrics(LABELS, multi_label), probabilities, target)
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(1))
    shuffled = probabilities[order], target[order]
    first, second = classification_metrics(LABELS, multi_label), classification_metrics(LABELS, multi_label)
    feed(first, shuffled[0][:50], shuffled[1][:50], cuts=(1, 20))
    feed(second, shuffled[0][50:], shuffled[1][50:], cuts=(33,))
    for name, metric in first.items():
        metric.merge_state(second[name])
        assert float(metric.compute()) == pytest.approx(whole[name], abs=1e-6), name


@pytest.mark.parametrize("multi_label", [False, True])
def test_half_precision_is_counted_in_full(multi_label):
    """bf16 counts no further than 256; a calibration error summed in it would be far off."""
    probabilities, target = inputs(multi_label, examples=2000)
    half = values(classification_metrics(LABELS, multi_label), probabilities.bfloat16(), target)
    full = values(classification_metrics(LABELS, multi_label), probabilities.bfloat16().float(), target)
    assert half == pytest.approx(full, abs=1e-6)


def test_top_five_of_five_labels_would_say_nothing():
    assert "top5" not in classification_metrics(5, False)
    assert "top5" in classification_metrics(6, False)
    assert "top2" in classification_metrics(3, False, top=2)


def test_calibration_error_by_hand():
    """Sure of 80 % and right in half of the cases."""
    metric = classification_metrics(2, False)["calibration_error"]
    metric.update(torch.tensor([[0.8, 0.2]] * 10), torch.tensor([0, 1] * 5))
    assert float(metric.compute()) == pytest.approx(0.3, abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_label_that_no_example_has_is_left_out_of_the_mean():
    probabilities, target = inputs(True)
    target[:, 2] = 0
    found = values({"map": classification_metrics(LABELS, True)["map"]}, probabilities, target)
    others = [label for label in range(LABELS) if label != 2]
    expected = multi_by_hand(probabilities[:, others], target[:, others])["map"]
    assert found["map"] == pytest.approx(expected, abs=1e-5)
    metric = classification_metrics(LABELS, True)["map"]
    metric.update(probabilities, torch.zeros_like(target))
    assert math.isnan(metric.compute())


@pytest.mark.parametrize("multi_label", [False, True])
def test_one_label_is_no_choice(multi_label):
    with pytest.raises(ValueError, match="two labels or more, not 1"):
        classification_metrics(1, multi_label)


def test_confusion_matrix_counts_right_labels_down_and_predicted_ones_across():
    metric = ConfusionMatrix(3)
    metric.update(torch.eye(3)[[0, 0, 1, 2, 2]], torch.tensor([0, 1, 1, 1, 2]))
    assert metric.compute().tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]


def test_scores_of_each_label_by_hand():
    metric = PerClass(4)
    metric.update(torch.eye(4)[[0, 0, 1, 2, 2]], torch.tensor([0, 1, 1, 1, 2]))
    scores = metric.compute()
    assert scores.precision.tolist() == [1 / 2, 1, 1 / 2, 0]
    assert scores.recall.tolist() == [1, 1 / 3, 1, 0]
    assert scores.f1.tolist() == pytest.approx([2 / 3, 1 / 2, 2 / 3, 0])
    assert scores.support.tolist() == [1, 3, 1, 0]


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_of_each_label_agree_with_the_mean(multi_label):
    probabilities, target = inputs(multi_label)
    metric = PerClass(LABELS, multi_label)
    metric.update(probabilities[:40], target[:40])
    metric.update(probabilities[40:], target[40:])
    scores = metric.compute()
    macro = values(classification_metrics(LABELS, multi_label), probabilities, target)["f1_macro"]
    # The last label, which no example has, was predicted: it counts with 0.
    assert float(scores.f1.mean()) == pytest.approx(macro, abs=1e-6)
    counts = target.sum(dim=0) if multi_label else target.bincount(minlength=LABELS)
    assert torch.equal(scores.support, counts)


def test_probabilities_that_are_not_numbers_spoil_no_state():
    """A diverged model: the values are what they are, but nothing is raised and the shapes stay."""
    for multi_label in (False, True):
        target = inputs(multi_label)[1]
        for name, metric in classification_metrics(LABELS, multi_label).items():
            metric.update(torch.full((EXAMPLES, LABELS), math.nan), target)
            assert metric.compute().shape == (), name
