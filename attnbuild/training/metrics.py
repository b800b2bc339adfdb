"""Metrics whose states are sums, so that over any number of processes and batches they add up exactly.

Scores of text come from sacrebleu on raw text (Post 2018, "A Call for Clarity in Reporting BLEU Scores"):
its statistics are summed, its formula is applied once to the sums, and its signature says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from sacrebleu.metrics import BLEU, CHRF
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Accuracy", "ChrF", "SacreBLEU", "WeightedMean"]


class CorpusScore(Metric):
    """A corpus score of sacrebleu, 0 to 100.

    Args:
        scorer: the sacrebleu metric.
        statistics: how many numbers sacrebleu keeps for a sentence.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    statistics: Tensor
    fewest_references: Tensor
    most_references: Tensor

    def __init__(self, scorer: BLEU | CHRF, statistics: int) -> None:
        super().__init__()
        self._scorer = scorer
        self.add_state("statistics", torch.zeros(statistics, dtype=torch.int64), dist_reduce_fx="sum")
        # For the signature alone, which names the number of references.
        self.add_state("fewest_references", torch.tensor(torch.iinfo(torch.int64).max), dist_reduce_fx="min")
        self.add_state("most_references", torch.tensor(0), dist_reduce_fx="max")

    def update(self, hypotheses: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]) -> None:
        """Add sentences.

        Args:
            hypotheses: n outputs as plain text.
            references: n right answers, or n lists of right answers; lists may differ in length.

        Raises:
            ValueError: the two differ in number, or an output has no right answer.
        """
        answers = [[one] if isinstance(one, str) else list(one) for one in references]
        if len(answers) != len(hypotheses):
            raise ValueError(f"{len(hypotheses)} hypotheses but references for {len(answers)}")
        if not answers:
            return
        counts = [len(one) for one in answers]
        if min(counts) == 0:
            raise ValueError(f"hypothesis {counts.index(0)} has no reference")
        # sacrebleu wants all first references, all second ones, ..., with None where there is none.
        streams = list(zip_longest(*answers))
        # The statistics of a sentence have no public accessor; this is what sacrebleu's own scores sum.
        rows = self._scorer._extract_corpus_statistics(hypotheses, streams)
        self.statistics += torch.tensor(rows, device=self.device).sum(dim=0)
        self.fewest_references.clamp_(max=min(counts))
        self.most_references.clamp_(min=max(counts))

    def compute(self) -> Tensor:
        """The score of all sentences, fp64; 0 where there are none."""
        score = self._scorer._compute_score_from_stats(self.statistics.tolist()).score
        return torch.tensor(score, dtype=torch.float64, device=self.device)

    @property
    def signature(self) -> str:
        """How the score was made, in sacrebleu's notation: the number of references, tokenizer, version."""
        fewest, most = int(self.fewest_references), int(self.most_references)
        # sacrebleu writes -1 as "var"; before any sentence has been seen, one reference is assumed.
        self._scorer.num_refs = max(most, 1) if fewest >= most else -1
        return str(self._scorer.get_signature())


class SacreBLEU(CorpusScore):
    """BLEU (Papineni et al. 2002) on raw text.

    Args:
        tokenize: sacrebleu's tokenizer: ``13a``, ``intl``, ``zh``, ``char``, ``none``, ...
        lowercase: ignore case.
    """

    def __init__(self, tokenize: str = "13a", lowercase: bool = False) -> None:
        # force: outputs that end in a lone full stop are the model's, not a sign of tokenized input.
        scorer = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        super().__init__(scorer, statistics=2 + 2 * scorer.max_ngram_order)


class ChrF(CorpusScore):
    """chrF2 (Popović 2015): F-score of character n-grams; with ``word_order=2`` chrF++ (Popović 2017).

    Args:
        word_order: longest word n-grams counted beside the characters.
        lowercase: ignore case.
    """

    def __init__(self, word_order: int = 0, lowercase: bool = False) -> None:
        scorer = CHRF(word_order=word_order, lowercase=lowercase)
        super().__init__(scorer, statistics=3 * scorer.order)


class Accuracy(Metric):
    """Share of tokens (or examples) that are right, from counts; NaN before the first."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    correct: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, correct: Tensor | int, total: Tensor | int) -> None:
        """Add ``correct`` right ones of ``total``; padding is in neither."""
        self.correct += _as(self.correct, correct)
        self.total += _as(self.total, total)

    def compute(self) -> Tensor:
        """Between 0 and 1, fp64."""
        return self.correct.double() / self.total


class WeightedMean(Metric):
    """A mean from sums, such as the loss of all target tokens; NaN before the first."""

    is_differentiable = False
    full_state_update = False

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, total: Tensor | float, weight: Tensor | float) -> None:
        """Add a sum over things that weigh ``weight`` together (a loss summed over so many tokens)."""
        self.total += _as(self.total, total)
        self.weight += _as(self.weight, weight)

    def compute(self) -> Tensor:
        """The mean, fp64."""
        return self.total / self.weight


def _as(state: Tensor, value: Any) -> Tensor:
    return torch.as_tensor(value).detach().to(state)
