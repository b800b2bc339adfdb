"""What a user reads of a mistake."""

from __future__ import annotations

import pytest

from attnbuild.errors import ConfigError, DataError, did_you_mean, listed, nearest_divisors, told

MANY = [f"preset_{number:02d}" for number in range(40)] + ["bahdanau", "window"]


def test_a_near_name_is_all_that_is_told() -> None:
    assert did_you_mean("windo", MANY) == "did you mean 'window'?"


def test_few_names_stand_on_the_line() -> None:
    assert did_you_mean("xyz", ["rnn", "transformer"]) == "one of: rnn, transformer"
    assert did_you_mean("xyz", []) == "there are none"
    assert did_you_mean("xyz", MANY, show=2) == "one of: bahdanau, preset_00, ..."


def test_many_names_are_wrapped_after_the_closest() -> None:
    first, *lines = did_you_mean("windmills", MANY).splitlines()
    assert first == "the closest: 'window'; one of:"
    assert ", ".join(line.rstrip(",") for line in lines).split(", ") == sorted(MANY)
    assert max(map(len, lines)) <= 72


def test_nothing_typed_is_close_to_nothing() -> None:
    assert did_you_mean("", MANY).startswith("one of:\n")


def test_listed() -> None:
    assert listed(["a", "b"]) == " a, b"
    assert listed(MANY).startswith("\n")


def test_lines_of_a_message_stand_below_each_other() -> None:
    error = ConfigError(f"no; one of:{listed(MANY)}", "attention")
    _, _, *rest = str(error).splitlines()
    assert len(rest) > 3
    assert all(line.startswith(" " * 13) and line[13] != " " for line in rest)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("train.de:21: has no partner"), "train.de:21: has no partner"),
        (PermissionError(13, "Permission denied", "/outputs"), "/outputs: Permission denied"),
        (OSError("no file concerned"), "no file concerned"),
    ],
)
def test_told(error: DataError | OSError, line: str) -> None:
    assert told(error) == line


@pytest.mark.parametrize(
    ("number", "whole", "near"), [(3, 16, "2 or 4"), (5, 16, "4 or 8"), (4, 2, "2"), (4, 1, "1"), (6, 7, "1 or 7")]
)
def test_the_nearest_divisors_are_those_on_either_side(number: int, whole: int, near: str) -> None:
    assert nearest_divisors(number, whole) == near
