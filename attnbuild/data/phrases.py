"""Phrases that the Unicode CLDR knows how to say in many languages, drawn at random.

A drawn phrase is a function from a locale to text, so that all locales say the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from babel import Locale, UnknownLocaleError
from babel.dates import (
    format_date,
    format_interval,
    format_skeleton,
    format_time,
    format_timedelta,
    get_datetime_format,
)
from babel.lists import format_list
from babel.localedata import locale_identifiers
from babel.units import format_unit

from attnbuild.errors import ConfigError, did_you_mean

__all__ = ["Phrase", "Phrases", "fewer", "parse_locale"]

Phrase = Callable[[Locale], str]
Style = Literal["full", "long", "medium", "short"]
UnitLength = Literal["long", "short"]
Duration = Literal["year", "month", "week", "day", "hour", "minute", "second"]

# What phrases are drawn from; a value that stands twice is drawn twice as often.
_DATES: tuple[Style, ...] = ("full", "full", "long", "long", "medium", "short")
_TIMES: tuple[Style, ...] = ("short", "short", "medium")
_MOMENTS: tuple[Style, ...] = ("full", "long", "medium")
_PARTS_OF_DATES = ("MMMMd", "MMMMd", "yMMMM", "yMMMM", "yQQQQ")
_INTERVALS = ("yMMMd", "yMMMEd", "MMMd")
_LISTS: tuple[Literal["standard", "or"], ...] = ("standard", "standard", "or")
_UNIT_LENGTHS: tuple[UnitLength, ...] = ("long", "long", "long", "short")
_AMOUNTS = (*range(1, 21), 25, 30, 40, 50, 60, 75, 100, 150, 200, 250, 500, 1000, 2500, 0.5, 1.5, 2.5, 12.5)

_DAY = 86400
_SECONDS: dict[Duration, int] = {
    "year": 365 * _DAY,
    "month": 30 * _DAY,
    "week": 7 * _DAY,
    "day": _DAY,
    "hour": 3600,
    "minute": 60,
    "second": 1,
}
_FIRST_DAY = datetime(1990, 1, 1)
_DAYS = 40 * 365


def fewer(split: str, there_are: int) -> str:
    """What to do about a split that wants more than locales have to say, for a message."""
    if there_are:
        return f"set it to {there_are} or less"
    return "choose other locales" if split == "train" else "raise data.train"


def parse_locale(name: str, path: str) -> Locale:
    """The locale of a name such as ``pt_BR`` or ``pt-BR``.

    Args:
        name: as the user wrote it.
        path: the config path that gives it.

    Raises:
        ConfigError: babel knows no such locale; the message gives the nearest.
    """
    try:
        return Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        raise ConfigError(
            f"babel knows no locale {name!r}; {did_you_mean(name, locale_identifiers(), show=20)}", path
        ) from None


class Phrases:
    """Draws phrases that all locales have the words for.

    Attributes:
        territories: codes of those that all have a name for; none where one of them knows no territory.
        units: with the length of their names, likewise.

    Args:
        locales: who must be able to say them.
        draw: what they are drawn from.
        unit_lengths: lengths of the names of units; one that stands twice is drawn twice as often.
    """

    def __init__(
        self, locales: tuple[Locale, ...], draw: random.Random, unit_lengths: tuple[UnitLength, ...] = _UNIT_LENGTHS
    ) -> None:
        self._draw = draw
        self.territories = sorted(set.intersection(*(set(locale.territories) for locale in locales)))
        self.units = _common_units(locales, unit_lengths)
        # 0 for a locale without any: its dates are told all the same.
        named, measured = bool(self.territories), bool(self.units)
        days = (self.date, self._partial_date, self._moment)
        parts = (self.territory,) * named + (self.amount,) * measured + (self._duration, self._time, *days)
        kinds: dict[Callable[[], Phrase], int] = {
            self.territory: 2 * named,
            self.amount: 3 * measured,
            self.date: 3,
            self._partial_date: 2,
            self._time: 1,
            self._moment: 3,
            self._duration: 2,
            self._interval: 2,
            lambda: self._list(2, 6, (self.territory,)): 5 * named,
            lambda: self._list(2, 4, (self.amount,)): 4 * measured,
            lambda: self._list(2, 3, days): 2,
            lambda: self._list(2, 4, parts): 5,
        }
        self._kinds, self._weights = tuple(kinds), tuple(kinds.values())

    def sentence(self) -> Phrase:
        """A phrase of any kind."""
        return self._draw.choices(self._kinds, self._weights)[0]()

    def territory(self) -> Phrase:
        """Such as ``Switzerland``."""
        code = self._draw.choice(self.territories)
        return lambda locale: locale.territories[code]

    def amount(self) -> Phrase:
        """Such as ``12.5 kilometers per hour`` or ``3 km``."""
        unit, length = self._draw.choice(self.units)
        amount = self._draw.choice(_AMOUNTS)
        return lambda locale: format_unit(amount, unit, length, locale=locale)

    def date(self, styles: tuple[Style, ...] = _DATES) -> Phrase:
        """Such as ``Thursday, March 7, 2024``."""
        day, style = self._day(), self._draw.choice(styles)
        return lambda locale: format_date(day, style, locale)

    def _partial_date(self) -> Phrase:
        """Such as ``March 2024`` or ``1st quarter 2024``."""
        day, skeleton = self._day(), self._draw.choice(_PARTS_OF_DATES)
        return lambda locale: format_skeleton(skeleton, day, locale=locale)

    def _time(self) -> Phrase:
        """Such as ``3:45 PM``."""
        moment, style = self._day(), self._draw.choice(_TIMES)
        return lambda locale: format_time(moment, style, locale=locale)

    def _moment(self) -> Phrase:
        """Such as ``Thursday, March 7, 2024, 3:45 PM``."""
        moment, style = self._day(), self._draw.choice(_MOMENTS)

        def phrase(locale: Locale) -> str:
            pattern = str(get_datetime_format(style, locale=locale)).replace("'", "")
            time, date = format_time(moment, "short", locale=locale), format_date(moment, style, locale)
            return pattern.replace("{0}", time).replace("{1}", date)

        return phrase

    def _duration(self) -> Phrase:
        """Such as ``3 weeks ago``, ``in 5 hours`` or ``12 days``."""
        unit = self._draw.choice(tuple(_SECONDS))
        delta = timedelta(seconds=_SECONDS[unit] * self._draw.randint(1, 60) * self._draw.choice((-1, 1)))
        relative = self._draw.random() < 0.7
        # A threshold out of reach keeps babel to the drawn unit.
        return lambda locale: format_timedelta(
            delta, granularity=unit, threshold=1e9, add_direction=relative, locale=locale
        )

    def _interval(self) -> Phrase:
        """Such as ``Mar 7 – 10, 2024``."""
        first, skeleton = self._day(), self._draw.choice(_INTERVALS)
        last = first + timedelta(days=self._draw.randint(1, 60))
        return lambda locale: format_interval(first, last, skeleton, locale=locale)

    def _list(self, fewest: int, most: int, kinds: tuple[Callable[[], Phrase], ...]) -> Phrase:
        """Such as ``Germany, France, and Spain``."""
        items = [self._draw.choice(kinds)() for _ in range(self._draw.randint(fewest, most))]
        style = self._draw.choice(_LISTS)
        return lambda locale: format_list([item(locale) for item in items], style, locale)

    def _day(self) -> datetime:
        return _FIRST_DAY + timedelta(days=self._draw.randrange(_DAYS), seconds=self._draw.randrange(_DAY))


def _common_units(locales: tuple[Locale, ...], lengths: tuple[UnitLength, ...]) -> list[tuple[str, UnitLength]]:
    """Units and lengths of their names that all locales can say."""
    units = sorted(set.intersection(*(set(locale.unit_display_names) for locale in locales)))
    said = {
        (unit, length)
        for unit in units
        for length in set(lengths)
        if all(_has_words(locale, unit, length) for locale in locales)
    }
    return [(unit, length) for unit in units for length in lengths if (unit, length) in said]


def _has_words(locale: Locale, unit: str, length: UnitLength) -> bool:
    """Whether no amount falls back to the unit's identifier, as it does where a plural form lacks."""
    one_of_each_form = {locale.plural_form(amount): amount for amount in _AMOUNTS}.values()
    return all(unit not in format_unit(amount, unit, length, locale=locale) for amount in one_of_each_form)
