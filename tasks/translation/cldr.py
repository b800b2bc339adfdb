"""Embedded data: what the Unicode CLDR says in two languages, rendered by babel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

from annotated_types import Ge

from attnbuild.data.cache import content_hash
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import SPLITS, Reader, Row
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["CldrReader", "words"]

#: Part of the fingerprint: raise it when the sentences change.
_VERSION = "cldr-1"

#: Draws for each sentence wanted after which a pair of locales counts as having too little to say.
_PATIENCE = 50

_WORD = re.compile(r"\d+|[^\W\d_]+")

Pair = tuple[str, str]


@register("data", "cldr")
class CldrReader(Reader):
    """Dates, times, durations, amounts, territories and lists of them in two languages, by babel.

    Real text of the Unicode CLDR for any two locales, from one word to some 25, made in a second or
    two and the same for the same options. All source sentences differ, so none of validation or test
    is in train; their every word is, on both sides.

    Args:
        place: what the builder knows.
        source: locale to translate from, such as en, pt_BR or ja.
        target: locale to translate into.
        train: number of training sentences.
        validation: number of validation sentences.
        test: number of test sentences.
        seed: what the sentences are drawn from; apart from the run's seed, so that runs share the data.
    """

    def __init__(
        self,
        place: DataPlace,
        *,
        source: str = "en",
        target: str = "de",
        train: Annotated[int, Ge(1)] = 12000,
        validation: Annotated[int, Ge(1)] = 400,
        test: Annotated[int, Ge(1)] = 400,
        seed: int = 1,
    ) -> None:
        from attnbuild.data.phrases import parse_locale

        super().__init__(f"cldr {source}-{target}")
        self._locales = parse_locale(source, "data.source"), parse_locale(target, "data.target")
        if source == target:
            raise ConfigError(f"{target!r} is the source too; choose two different locales", "data.target")
        self._sizes = dict(zip(SPLITS, (train, validation, test), strict=True))
        self._seed = seed
        self._made: dict[str, list[Pair]] | None = None

    def splits(self) -> tuple[str, ...]:
        return SPLITS

    def rows(self, split: str) -> Iterator[Row]:
        if self._made is None:
            self._made = self._make()
        yield from self._made[split]

    def fingerprint(self, split: str) -> str:
        import babel

        self._require(split)
        locales = map(str, self._locales)
        return content_hash(_VERSION, babel.__version__, *locales, repr(self._sizes), str(self._seed), split)

    def _make(self) -> dict[str, list[Pair]]:
        """All splits: distinct sentences to train on, then others of known words to hold out."""
        from attnbuild.data.phrases import fewer
        from attnbuild.tasks.translation.cldr_sentences import draw_sentences

        limit = _PATIENCE * sum(self._sizes.values())
        fresh = _distinct(islice(draw_sentences(*self._locales, self._seed), limit))
        train = list(islice(fresh, self._sizes["train"]))
        known = [words(side) for side in zip(*train, strict=True)]
        familiar = (
            pair
            for pair in fresh
            if all(words([side]) <= vocabulary for side, vocabulary in zip(pair, known, strict=True))
        )
        made = {"train": train}
        for split in SPLITS[1:]:
            made[split] = list(islice(familiar, self._sizes[split]))
        for split, pairs in made.items():
            if len(pairs) < self._sizes[split]:
                raise ConfigError(
                    f"{self.name} has no more than {len(pairs)} such sentences to say: {fewer(split, len(pairs))}",
                    f"data.{split}",
                )
        return made


def words(texts: Iterable[str]) -> set[str]:
    """The runs of letters and the runs of digits in some texts."""
    return {word for text in texts for word in _WORD.findall(text)}


def _distinct(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """The pairs whose source sentence has not come before."""
    seen = set()
    for pair in pairs:
        if pair[0] not in seen:
            seen.add(pair[0])
            yield pair
