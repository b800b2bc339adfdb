"""BLEU: how many n-grams of the outputs are in the right answers (Papineni et al. 2002)."""

from __future__ import annotations

from sacrebleu.metrics import BLEU

from attnbuild.training.metrics.corpus_score import CorpusScore
from attnbuild.training.metrics.tokens import caption_tokens

__all__ = ["CaptionBLEU", "SacreBLEU"]


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


class CaptionBLEU(CorpusScore):
    """BLEU-1 to BLEU-4 as captions are scored: sacrebleu's counts and formula on :func:`caption_tokens`.

    This is coco-caption's BLEU times 100 (closest reference length, one brevity penalty for the corpus), but that
    where no n-gram of an order is right at all, sacrebleu's exponential smoothing (``smooth:exp``, and ``eff:no``:
    no order is left out) stands for its constant of 1e-15. The signature says ``tok:caption``, which is not among
    sacrebleu's own: to have the score from its command line, tokenize first and give it ``--tokenize none``.

    Args:
        order: longest n-grams that count.
    """

    def __init__(self, order: int = 4) -> None:
        scorer = BLEU(lowercase=True, force=True, max_ngram_order=order)
        scorer.tokenizer = _CaptionTokenizer()
        scorer.tokenizer_signature = scorer.tokenizer.signature()
        super().__init__(scorer, statistics=2 + 2 * order)
        self.order = order

    @property
    def signature(self) -> str:
        """sacrebleu's signature, and the order, which it leaves out."""
        return f"{super().signature}|order:{self.order}"


class _CaptionTokenizer:
    """:func:`caption_tokens` as sacrebleu calls a tokenizer."""

    def signature(self) -> str:
        return "caption"

    def __call__(self, line: str) -> str:
        return " ".join(caption_tokens(line))
