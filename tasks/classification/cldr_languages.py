"""Embedded data: in which language is this said?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from attnbuild.data.cache import content_hash
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import SPLITS, Reader, Row
from attnbuild.errors import ConfigError
from attnbuild.registry import register

if TYPE_CHECKING:
    from attnbuild.data.phrases import Phrase

__all__ = ["CldrLanguagesReader"]

#: Part of the fingerprint: raise it when the texts change.
_VERSION = "cldr-languages-1"

#: Languages of Europe, most of them with near relatives among the others.
LANGUAGES = (
    *("bg", "ca", "cs", "da", "de", "en", "es", "fi", "fr", "hr"),
    *("it", "nb", "nl", "pl", "pt", "ro", "ru", "sk", "sv", "uk"),
)

#: Texts that a phrase gives: a few of its languages, so that there are many different phrases.
_TEXTS_OF_A_PHRASE = 5

#: Texts drawn for each one wanted after which the locales count as having too little to say.
_PATIENCE = 10

#: Texts drawn for each one wanted, since some turn out to be another language's too.
_SPARE = 1.1


@register("data", "cldr_languages")
class CldrLanguagesReader(Reader):
    """Which language is a long date, an amount or the name of a territory in? By babel, from the Unicode CLDR.

    Real text, made in a few seconds and the same for the same options. What several of the languages would say
    in the same way is left out, and no text is in two splits.

    Args:
        place: what the builder knows.
        locales: the languages to tell apart, as babel names them; null takes twenty of Europe.
        train: number of training texts.
        validation: number of validation texts.
        test: number of test texts.
        seed: what the texts are drawn from; apart from the run's seed, so that runs share the data.
    """

    targets: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(
        self,
        place: DataPlace,
        *,
        locales: list[str] | None = None,
        train: Annotated[int, Ge(1)] = 8000,
        validation: Annotated[int, Ge(1)] = 500,
        test: Annotated[int, Ge(1)] = 1000,
        seed: int = 1,
    ) -> None:
        from attnbuild.data.phrases import parse_locale

        super().__init__("cldr_languages")
        self._locales = tuple(parse_locale(name, "data.locales") for name in locales or LANGUAGES)
        if len(set(map(str, self._locales))) < max(2, len(self._locales)):
            raise ConfigError(f"{locales}: name at least two locales, each once", "data.locales")
        self._sizes = dict(zip(SPLITS, (train, validation, test), strict=True))
        self._seed = seed
        self._made: dict[str, list[tuple[str, str]]] | None = None

    def splits(self) -> tuple[str, ...]:
        return SPLITS

    def rows(self, split: str) -> Iterator[Row]:
        if self._made is None:
            self._made = self._make()
        yield from self._made[split]

    def fingerprint(self, split: str) -> str:
        import babel

        self._require(split)
        locales = " ".join(map(str, self._locales))
        return content_hash(_VERSION, babel.__version__, locales, repr(self._sizes), str(self._seed), split)

    def _make(self) -> dict[str, list[tuple[str, str]]]:
        """All splits: distinct texts, each with the only language that says it so."""
        from attnbuild.data.phrases import Phrases

        draw = random.Random(self._seed)
        phrases = Phrases(self._locales, draw, unit_lengths=("long",))
        kinds = [lambda: phrases.date(("full", "long"))]
        kinds += [phrases.territory] if phrases.territories else []
        kinds += [phrases.amount] if phrases.units else []
        wanted = sum(self._sizes.values())
        said_by: dict[str, set[str]] = {}
        chosen: dict[str, None] = {}
        for _ in range(_PATIENCE * wanted // _TEXTS_OF_A_PHRASE):
            texts = self._say(draw.choice(kinds)())
            for language, text in texts.items():
                said_by.setdefault(text, set()).add(language)
            own = [text for text in texts.values() if len(said_by[text]) == 1]
            chosen.update(dict.fromkeys(draw.sample(own, min(len(own), _TEXTS_OF_A_PHRASE))))
            if len(chosen) >= _SPARE * wanted:
                break
        # Another phrase may have shown only later that a text is not one language's own.
        rows = [(text, min(said_by[text])) for text in chosen if len(said_by[text]) == 1]
        draw.shuffle(rows)
        return self._cut(rows)

    def _say(self, phrase: Phrase) -> dict[str, str]:
        """Language to text; a form without letters, such as a date in numbers, is nobody's."""
        texts = {str(locale): phrase(locale) for locale in self._locales}
        return {language: text for language, text in texts.items() if any(map(str.isalpha, text))}

    def _cut(self, rows: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
        from attnbuild.data.phrases import fewer

        left = iter(rows)
        made = {split: list(islice(left, size)) for split, size in self._sizes.items()}
        for split, texts in made.items():
            if len(texts) < self._sizes[split]:
                raise ConfigError(
                    f"these languages have no more than {len(texts)} such texts to say: {fewer(split, len(texts))}",
                    f"data.{split}",
                )
        return made
