"""Pairs of sentences that say the same in two languages, drawn at random from the Unicode CLDR."""

from __future__ import annotations

import random
from collections.abc import Iterator

from babel import Locale

from attnbuild.data.phrases import Phrases

__all__ = ["draw_sentences"]


def draw_sentences(source: Locale, target: Locale, seed: int) -> Iterator[tuple[str, str]]:
    """An endless stream of pairs, the same for the same arguments. Pairs repeat.

    Left out are pairs without any letter whose sides are equal, such as the numeric forms of dates
    that two languages share.
    """
    phrases = Phrases((source, target), random.Random(seed))
    while True:
        phrase = phrases.sentence()
        pair = phrase(source), phrase(target)
        if all(pair) and (pair[0] != pair[1] or any(map(str.isalpha, pair[0]))):
            yield pair
