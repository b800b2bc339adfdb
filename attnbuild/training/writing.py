"""What all tasks share that answer with text: teacher forcing, a search, references."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from attnbuild.data.batching import Batch
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from attnbuild.decoders.base import Decoded
from attnbuild.errors import ConfigError, Problem
from attnbuild.generation.align import align
from attnbuild.generation.base import Search, SearchPlace
from attnbuild.memory import Memory
from attnbuild.model import EncoderDecoder
from attnbuild.training.cross_entropy import token_losses
from attnbuild.training.supervised import Answer, SupervisedTask
from attnbuild.training.task import Loss, TaskPlace

__all__ = ["WritingTask"]


class WritingTask(SupervisedTask):
    """Base of tasks whose decoder writes text, token by token.

    Args:
        place: the config and the cache folder.
        label_smoothing: share of the target probability spread over the vocabulary (Szegedy et al. 2016), in training.
    """

    writes: ClassVar[str] = "text"

    def __init__(self, place: TaskPlace, label_smoothing: float) -> None:
        super().__init__(place)
        self.label_smoothing = label_smoothing

    @property
    def vocabulary(self) -> Vocabulary:
        """Of what is written."""
        return self.target_side.vocabulary

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        assert isinstance(model, EncoderDecoder)
        decoded = self.decode(model, batch)
        expected = batch.target[:, 1:]
        real = expected != PAD
        correct = (_likeliest(decoded.logits.detach()) == expected) & real
        losses = token_losses(
            decoded.logits.flatten(0, 1),
            expected.flatten(),
            ignore=PAD,
            smoothing=self.label_smoothing if model.training else 0.0,
        ).view_as(expected)
        # What sampled attentions earn by their choices: the (smoothed) log probability of the whole target.
        terms = [choice.loss(-losses.sum(dim=1)) for choice in decoded.choices] + self.regularisers(decoded, real)
        return Loss(losses.sum(), real.sum(), correct.sum(), torch.stack(terms).sum() if terms else None)

    def decode(self, model: EncoderDecoder, batch: Batch) -> Decoded:
        """The batch under teacher forcing."""
        return model.decode(batch.source, batch.target[:, :-1])

    def regularisers(self, decoded: Decoded, real: Tensor) -> list[Tensor]:
        """Scalars trained beside the loss, summed over the batch; ``real`` (B, T) are the positions that count."""
        return []

    def longest_output(self, source: int) -> int:
        searches = map(self.search, self.searches().values())
        return max(int(source * search.max_length_ratio) + search.max_length_extra for search in searches)

    def answer(self, model: EncoderDecoder, source: Tensor, index: Tensor, search: Search) -> list[Answer]:
        generated = search(model.generator, model.encode(source), index)
        answers = []
        for hypotheses, scores in zip(generated.tokens, generated.scores, strict=True):
            n_best = tuple(zip(self.vocabulary.decode(hypotheses), scores, strict=True))
            answers.append(Answer(*n_best[0], n_best, tuple(hypotheses[0])))
        return answers

    def check(self) -> list[Problem]:
        problems = super().check()
        for path, section in self.searches().items():
            if section["type"] == "none":
                how = "search=greedy" if path == "search" else f"{path}.type=greedy"
                message = f"this task writes text, which must be searched for: set {how}"
                problems.append(Problem(f"{path}.type", message))
                continue
            try:
                self.search(section)
            except ConfigError as error:  # a search tells the name of its option, as it may be at either path
                problems += [replace(problem, path=f"{path}.{problem.path}") for problem in error.problems]
        return problems

    def attended(self, model: EncoderDecoder, memory: Memory, answers: list[Answer]) -> list[np.ndarray] | None:
        """What each answer looked at in the encoded sources: weights (heads, tokens + 1, S), the last of the end.

        None where the attention has no weights.
        """
        place = SearchPlace(BOS, EOS, PAD, UNK)
        weights = align(model.generator, memory, [answer.tokens for answer in answers], place)
        return None if weights is None else [row.float().cpu().numpy() for row in weights]


def _likeliest(logits: Tensor) -> Tensor:
    """(..., V) -> (...)."""
    if logits.device.type == "cpu":
        # Among numbers of half precision PyTorch looks for the highest four times as slowly.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.argmax(dim=-1)
