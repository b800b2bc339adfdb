"""What the scores of sacrebleu share: its statistics are summed, its formula is applied once to the sums.

Raw text goes in, and the signature says how it was scored (Post 2018, "A Call for Clarity in Reporting BLEU Scores").
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from sacrebleu.metrics import BLEU, CHRF
from torch import Tensor
from torchmetrics import Metric

from attnbuild.training.metrics.references import References, answers_of

__all__ = ["CorpusScore"]


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

    def update(self, hypotheses: Sequence[str], references: References) -> None:
        """Add sentences.

        Args:
            hypotheses: n outputs as plain text.
            references: n right answers, or n lists of right answers; lists may differ in length.

        Raises:
            ValueError: the two differ in number, or an output has no right answer.
        """
        answers = answers_of(hypotheses, references)
        if not answers:
            return
        counts = [len(one) for one in answers]
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
