"""Right answers as metrics take them: one text for each output, or several."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["References", "answers_of"]

#: One right answer for each output, or a list of them; lists may differ in length.
References = Sequence[str] | Sequence[Sequence[str]]


def answers_of(hypotheses: Sequence[str], references: References) -> list[list[str]]:
    """The right answers of each output, as lists.

    Args:
        hypotheses: n outputs as plain text.
        references: n right answers, or n lists of right answers.

    Raises:
        ValueError: the two differ in number, or an output has no right answer.
    """
    answers = [[one] if isinstance(one, str) else list(one) for one in references]
    if len(answers) != len(hypotheses):
        raise ValueError(f"{len(hypotheses)} hypotheses but references for {len(answers)}")
    for number, one in enumerate(answers):
        if not one:
            raise ValueError(f"hypothesis {number} has no reference")
    return answers
