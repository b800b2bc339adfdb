"""Scores of captions are those of the papers' formulas, written out here once more, however examples are split."""

from __future__ import annotations

import csv
import math
import random
from collections import Counter

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.training.metrics import CaptionBLEU, CIDEr, RougeL, caption_metrics, caption_tokens

IMAGES = [
    ("a man rides a brown horse", ["A man is riding a horse.", "a man on a brown horse", "Someone rides, fast!"]),
    ("two dogs play in the snow", ["Two dogs are playing in snow", "dogs in the snow", "Two dogs play in the snow."]),
    ("", ["a cat sleeps", "the cat's asleep on a mat"]),
    ("a a a a a a a a a a a a a a a a", ["a red bus", "a bus on a street", "the street", "a bus", "one bus"]),
    ("kitchen", ["A kitchen with a stove", "kitchen"]),
    ("the man isn't here", ["the man isn't here"]),
    ("zebra giraffe elephant quagga", ["a field", "a green field with nobody"]),
]
HYPOTHESES = [hypothesis for hypothesis, _ in IMAGES]
REFERENCES = [references for _, references in IMAGES]


#: What coco-caption gives for the captions of test_real_captions_score_as_coco_caption_scores_them, times 100.
COCO = {
    "bleu1": 82.11920847857206,
    "bleu2": 76.5839998482934,
    "bleu3": 71.82615472100692,
    "bleu4": 66.94844827431135,
    "rouge_l": 74.08883549931697,
    "cider": 347.7294895980035,
}


@pytest.fixture(params=sorted(caption_metrics()))
def name(request):
    return request.param


def score(metric, hypotheses, references):
    metric.update(hypotheses, references)
    return float(metric.compute())


def cider_by_the_paper(hypotheses, references, sigma=6.0):
    """Equations 1 to 4 and section 4 of Vedantam et al. 2015, over a vocabulary of all n-grams and dense vectors."""
    total = np.zeros(len(hypotheses))
    for n in range(1, 5):

        def grams(text, n=n):
            words = caption_tokens(text)
            return Counter(zip(*(words[k:] for k in range(n)), strict=False))

        vocabulary = sorted({gram for texts in references for text in texts for gram in grams(text)})
        seen = np.array(
            [sum(any(gram in grams(text) for text in texts) for texts in references) for gram in vocabulary]
        )
        idf = np.log(len(references) / seen) if len(vocabulary) else np.zeros(0)

        def vector(text, idf=idf, vocabulary=vocabulary, grams=grams):
            counts = grams(text)
            known = np.array([counts[gram] for gram in vocabulary]) * idf
            # What no reference has is in the norm alone, as rare as can be.
            unknown = [
                count * math.log(len(references)) for gram, count in counts.items() if gram not in set(vocabulary)
            ]
            return known, math.sqrt((known**2).sum() + sum(weight**2 for weight in unknown))

        for image, (hypothesis, texts) in enumerate(zip(hypotheses, references, strict=True)):
            candidate, norm = vector(hypothesis)
            for text in texts:
                reference, reference_norm = vector(text)
                if norm * reference_norm > 0:
                    # In bigrams, as the authors' code counts.
                    lengths = [max(len(caption_tokens(one)) - 1, 0) for one in (hypothesis, text)]
                    penalty = math.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * sigma**2))
                    clipped = np.minimum(candidate, reference) @ reference
                    total[image] += 10 / 4 / len(texts) * penalty * clipped / (norm * reference_norm)
    return 100 * total.mean()


def rouge_by_the_paper(hypotheses, references, beta=1.2):
    """Section 3.1 of Lin 2004; the common subsequence by its recursive definition."""
    from functools import lru_cache

    scores = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        first = tuple(caption_tokens(hypothesis))
        precisions, recalls = [0.0], [0.0]
        for text in texts:
            second = tuple(caption_tokens(text))

            @lru_cache(None)
            def common(i, j, first=first, second=second):
                if i == 0 or j == 0:
                    return 0
                if first[i - 1] == second[j - 1]:
                    return common(i - 1, j - 1) + 1
                return max(common(i - 1, j), common(i, j - 1))

            length = common(len(first), len(second))
            precisions.append(length / len(first) if first else 0.0)
            recalls.append(length / len(second) if second else 0.0)
        p, r = max(precisions), max(recalls)
        scores.append((1 + beta**2) * p * r / (r + beta**2 * p) if p * r > 0 else 0.0)
    return 100 * sum(scores) / len(scores)


WORDS = st.lists(st.sampled_from(["a", "the", "dog", "cat", "runs", "sits", "red", ".", ","]), max_size=9).map(" ".join)
EXAMPLES = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=4)), min_size=1, max_size=6)


@settings(max_examples=60)
@given(EXAMPLES)
def test_cider_and_rouge_are_the_formulas_of_the_papers(examples):
    hypotheses, references = [one for one, _ in examples], [many for _, many in examples]
    assert score(CIDEr(), hypotheses, references) == pytest.approx(cider_by_the_paper(hypotheses, references), abs=1e-8)
    assert score(RougeL(), hypotheses, references) == pytest.approx(
        rouge_by_the_paper(hypotheses, references), abs=1e-9
    )


def test_the_hand_written_images_too():
    assert score(CIDEr(), HYPOTHESES, REFERENCES) == pytest.approx(cider_by_the_paper(HYPOTHESES, REFERENCES), abs=1e-8)
    assert score(RougeL(), HYPOTHESES, REFERENCES) == pytest.approx(
        rouge_by_the_paper(HYPOTHESES, REFERENCES), abs=1e-9
    )


def test_cider_of_captions_that_repeat_their_only_reference_is_full():
    captions = ["a man rides a horse", "two dogs play outside", "the red bus stops here"]
    assert score(CIDEr(), captions, captions) == pytest.approx(1000)
    # Three words hold no 4-gram: a quarter of the mean is 0.
    captions = ["man rides horse", "two dogs play", "red bus stops"]
    assert score(CIDEr(), captions, captions) == pytest.approx(750)


def test_cider_of_a_single_image_is_nothing_since_all_its_words_are_in_every_image():
    assert score(CIDEr(), ["a man rides a horse"], [["a man rides a horse"]]) == 0


def test_cider_by_hand():
    """Two images of one reference, single words: idf of each is log 2; the penalty sees bigrams, of which 0 and 1."""
    metric = CIDEr()
    metric.update(["dog dog", "bus"], ["dog", "bus"])
    # "dog dog": min(2, 1) * 1 / (2 * 1) = 1/2, times exp(-1/72); "bus": 1. Both in one of four orders.
    expected = 1000 / 4 * (0.5 * math.exp(-1 / 72) + 1) / 2
    assert float(metric.compute()) == pytest.approx(expected)


def test_cider_repeating_a_word_does_not_pay():
    references = [["a red dog runs home"], ["the bus stops here now"], ["blue sky over there tonight"]]
    honest = score(CIDEr(), ["a red dog runs home", "x", "y"], references)
    gamed = score(CIDEr(), ["dog dog dog dog dog", "x", "y"], references)
    assert gamed < 0.1 * honest


def test_rouge_by_hand():
    # lcs("a b c d", "a x c y z") = 2: P = 2/4, R = 2/5; the second reference gives R = 1/1.
    p, r = 0.5, 1.0
    expected = 100 * 2.44 * p * r / (r + 1.44 * p)
    assert score(RougeL(), ["a b c d"], [["a x c y z", "d"]]) == pytest.approx(expected)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_caption_bleu_is_that_of_sacrebleu_on_the_words_of_captions(order):
    metric = CaptionBLEU(order)
    ours = score(metric, HYPOTHESES, REFERENCES)
    most = max(map(len, REFERENCES))
    streams = [[" ".join(caption_tokens(one[k])) if k < len(one) else None for one in REFERENCES] for k in range(most)]
    oracle = sacrebleu.metrics.BLEU(tokenize="none", max_ngram_order=order, force=True)
    theirs = oracle.corpus_score([" ".join(caption_tokens(one)) for one in HYPOTHESES], streams).score
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert metric.signature.startswith("nrefs:var|case:lc|eff:no|tok:caption|smooth:exp|version:")
    assert metric.signature.endswith(f"|order:{order}")


def test_shorter_orders_are_the_first_counts_of_the_longest():
    metrics = [CaptionBLEU(order) for order in (1, 2, 3, 4)]
    for metric in metrics:
        metric.update(HYPOTHESES, REFERENCES)
    longest = metrics[-1].statistics
    for order, metric in enumerate(metrics, start=1):
        expected = torch.cat([longest[:2], longest[2 : 2 + order], longest[6 : 6 + order]])
        assert torch.equal(metric.statistics, expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "A man's dog isn't black-and-white, it's 3.5 years old.",
            "a man 's dog is n't black-and-white it 's 3.5 years old",
        ),
        ('He said: "Cannot -- (ever)" ...', "he said can not ever"),
        ("Two men\u2019s hats; they\u2019ll go!?", "two men 's hats they 'll go"),
        ("a dog 's tail", "a dog 's tail"),
        ("10:30 a.m. in the U.S., 50% of $5", "10:30 a.m. in the u.s. 50 % of $ 5"),
        ("red,white and/or blue", "red white and/or blue"),
        ("नमस्ते दुनिया, यह है।", "नमस्ते दुनिया यह है"),
        ("مرحبا، بالعالم؟", "مرحبا بالعالم"),
        ("一只狗在草地上。", "一 只 狗 在 草 地 上"),
        ("naïve café", "naïve café"),
        ("", ""),
        (" ... !\n", ""),
        ("\ud800 x", "\ud800 x"),
    ],
    ids=ascii,
)
def test_words_of_captions(text, words):
    assert caption_tokens(text) == words.split()


@given(st.text(max_size=40))
def test_words_of_any_text_hold_no_space_and_no_capital_and_are_found_again(text):
    words = caption_tokens(text)
    assert all(word and not any(letter.isspace() for letter in word) and word == word.lower() for word in words)
    assert sum(map(len, words)) <= len(text.lower())


def test_any_split_and_order_gives_the_same_score(name):
    expected = score(caption_metrics()[name], HYPOTHESES, REFERENCES)
    for seed in range(5):
        rng = random.Random(seed)
        order = rng.sample(range(len(IMAGES)), len(IMAGES))
        cut = rng.randrange(1, len(IMAGES))
        first, second = caption_metrics()[name], caption_metrics()[name]
        for metric, part in ((first, order[:cut]), (second, order[cut:])):
            for image in part:
                metric.update([HYPOTHESES[image]], [REFERENCES[image]])
        first.merge_state(second)
        assert float(first.compute()) == pytest.approx(expected, abs=1e-9)


def test_one_text_is_a_list_of_one(name):
    single = [references[0] for references in REFERENCES]
    listed = [[text] for text in single]
    assert score(caption_metrics()[name], HYPOTHESES, single) == score(caption_metrics()[name], HYPOTHESES, listed)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_nothing_seen_scores_zero(name):
    metric = caption_metrics()[name]
    metric.update([], [])
    assert float(metric.compute()) == 0.0
    assert float(caption_metrics()[name].compute()) == 0.0


def test_resetting_forgets(name):
    metric = caption_metrics()[name]
    score(metric, ["something else"], ["a wrong sentence"])
    metric.reset()
    assert score(metric, HYPOTHESES, REFERENCES) == score(caption_metrics()[name], HYPOTHESES, REFERENCES)


def test_calling_scores_the_batch_and_adds_it(name):
    metric = caption_metrics()[name]
    metric.update(HYPOTHESES[:3], REFERENCES[:3])
    batch = float(metric(HYPOTHESES[3:], REFERENCES[3:]))
    assert batch == pytest.approx(score(caption_metrics()[name], HYPOTHESES[3:], REFERENCES[3:]))
    assert float(metric.compute()) == pytest.approx(score(caption_metrics()[name], HYPOTHESES, REFERENCES))


def test_what_does_not_fit_is_refused_and_leaves_no_trace(name):
    metric = caption_metrics()[name]
    with pytest.raises(ValueError, match="2 hypotheses but references for 1"):
        metric.update(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="hypothesis 1 has no reference"):
        metric.update(["a", "b"], [["a"], []])
    assert score(metric, HYPOTHESES, REFERENCES) == score(caption_metrics()[name], HYPOTHESES, REFERENCES)


def test_each_says_how_it_was_made(name):
    assert "tok:caption" in caption_metrics()[name].signature


def test_real_captions_score_as_coco_caption_scores_them(real_data):
    """The first caption of each test image against its others; the numbers are of coco-caption, with its own Java."""
    path = real_data / "ucm_captions" / "captions.tsv"
    if not path.is_file():
        pytest.skip(f"no captions: {path} is absent")
    captions: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            captions.setdefault(row["image"], []).append(row["caption"])
    images = sorted((path.parent / "test_images.txt").read_text().split())
    hypotheses, references = [captions[image][0] for image in images], [captions[image][1:] for image in images]
    scores = {name: score(metric, hypotheses, references) for name, metric in caption_metrics().items()}
    assert scores == pytest.approx(COCO, abs=1e-6)
