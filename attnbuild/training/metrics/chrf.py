"""chrF: the F-score of character n-grams (Popović 2015)."""

from __future__ import annotations

from sacrebleu.metrics import CHRF

from attnbuild.training.metrics.corpus_score import CorpusScore

__all__ = ["ChrF"]


class ChrF(CorpusScore):
    """chrF2 (Popović 2015): F-score of character n-grams; with ``word_order=2`` chrF++ (Popović 2017).

    Args:
        word_order: longest word n-grams counted beside the characters.
        lowercase: ignore case.
    """

    def __init__(self, word_order: int = 0, lowercase: bool = False) -> None:
        scorer = CHRF(word_order=word_order, lowercase=lowercase)
        super().__init__(scorer, statistics=3 * scorer.order)
