"""CIDEr-D: do captions use the words on which people agree? (Vedantam et al. 2015)"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnbuild.training.metrics.gathered import Gathered
from attnbuild.training.metrics.references import References, answers_of
from attnbuild.training.metrics.tokens import caption_tokens

__all__ = ["CIDEr"]

#: Longest n-grams, and how fast a difference in length costs (section 4 of the paper).
_ORDER, _SIGMA = 4, 6.0

NGram = tuple[str, ...]


class CIDEr(Gathered):
    """CIDEr-D, 100 times what coco-caption's ``CiderScorer`` gives, as papers print it: 0 to 1000.

    With g(c) the vector of the n-grams of a caption, each its count times log(images / images that have it in a
    reference), and l the length,

        CIDEr-D_n(c, S) = 10 / |S| · Σ_s exp(-(l(c) - l(s))² / 2σ²) · min(g(c), g(s)) · g(s) / (|g(c)| |g(s)|)

    is averaged over n = 1 to 4 and over the images. The references of the images that are scored give the document
    frequencies, so scores of different splits, and of a part of a split, do not compare; with one image all are 0.
    As in coco-caption words are not stemmed, and the length is counted in bigrams.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    examples: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        # Text as bytes, since only tensors are gathered: a line of JSON for each image.
        self.add_state("examples", [], dist_reduce_fx="cat")

    def empty_states(self) -> dict[str, Tensor]:
        return {"examples": torch.empty(0, dtype=torch.uint8)}

    def update(self, hypotheses: Sequence[str], references: References) -> None:
        """Add captions.

        Args:
            hypotheses: n captions as plain text.
            references: n right answers, or n lists of right answers; lists may differ in length.

        Raises:
            ValueError: the two differ in number, or a caption has no right answer.
        """
        answers = answers_of(hypotheses, references)
        if not answers:
            return
        lines = [
            json.dumps([caption_tokens(hypothesis), [caption_tokens(one) for one in answer]])
            for hypothesis, answer in zip(hypotheses, answers, strict=True)
        ]
        data = bytearray("".join(f"{line}\n" for line in lines), "ascii")
        assert isinstance(self.examples, list)
        self.examples.append(torch.frombuffer(data, dtype=torch.uint8).to(self.device))

    def compute(self) -> Tensor:
        """The mean over the images, fp64; 0 where there are none."""
        states = self.examples if isinstance(self.examples, list) else [self.examples]
        lines = b"".join(state.cpu().numpy().tobytes() for state in states).splitlines()
        scores = _scores([json.loads(line) for line in lines])
        mean = math.fsum(scores) / len(scores) if scores else 0.0
        return torch.tensor(100.0 * mean, dtype=torch.float64, device=self.device)

    @property
    def signature(self) -> str:
        """How the score was made."""
        return f"cider-d|n:{_ORDER}|sigma:{_SIGMA:g}|idf:references|tok:caption|stem:no|times:100"


@dataclass(frozen=True)
class _Vector:
    """A caption as tf-idf weights of its n-grams.

    Attributes:
        weights: for n = 1 to 4, n-gram -> weight.
        norms: their Euclidean lengths.
        length: in bigrams.
    """

    weights: list[dict[NGram, float]]
    norms: list[float]
    length: int


def _scores(examples: Sequence[tuple[list[str], list[list[str]]]]) -> list[float]:
    """CIDEr-D of each image, 0 to 10, from the words of its caption and of its references."""
    counted = [(_ngrams(caption), [_ngrams(one) for one in references]) for caption, references in examples]
    frequency = Counter(ngram for _, references in counted for ngram in set().union(*references))

    def vector(counts: Counter[NGram]) -> _Vector:
        weights: list[dict[NGram, float]] = [{} for _ in range(_ORDER)]
        for ngram, count in counts.items():
            # An n-gram that no reference has counts as one that a single image has.
            weights[len(ngram) - 1][ngram] = count * (math.log(len(counted)) - math.log(max(1, frequency[ngram])))
        norms = [math.sqrt(math.fsum(weight * weight for weight in part.values())) for part in weights]
        return _Vector(weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2))

    return [_score(vector(caption), (vector(one) for one in references)) for caption, references in counted]


def _ngrams(words: Sequence[str]) -> Counter[NGram]:
    return Counter(tuple(words[start : start + n]) for n in range(1, _ORDER + 1) for start in range(len(words) - n + 1))


def _score(caption: _Vector, references: Iterable[_Vector]) -> float:
    """The mean over references and orders."""
    likenesses = [_likeness(caption, reference, n) for reference in references for n in range(_ORDER)]
    return 10.0 * math.fsum(likenesses) / len(likenesses)


def _likeness(caption: _Vector, reference: _Vector, n: int) -> float:
    """One term of the sum: clipped cosine times the penalty on length."""
    norms = caption.norms[n] * reference.norms[n]
    if norms == 0.0:
        return 0.0
    theirs = reference.weights[n]
    shared = [(weight, theirs[ngram]) for ngram, weight in caption.weights[n].items() if ngram in theirs]
    product = math.fsum(min(weight, other) * other for weight, other in shared)
    penalty = math.exp(-((caption.length - reference.length) ** 2) / (2 * _SIGMA**2))
    return penalty * product / norms
