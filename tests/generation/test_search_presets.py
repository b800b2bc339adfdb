"""The search presets hold every option of their search, with the constructor's defaults, each explained."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import attnbuild
from attnbuild.registry import lookup, names, options_of

FILES = sorted((Path(attnbuild.__file__).parent / "conf" / "search").glob("*.yaml"))


def test_every_search_has_a_preset():
    assert [file.stem for file in FILES] == names("search")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_preset_is_the_constructor_written_down(file):
    preset = yaml.safe_load(file.read_text())
    options = options_of(lookup("search", preset.pop("type")))
    assert preset == {name: option.default for name, option in options.items()}
    assert all(option.help for option in options.values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_option_is_commented(file):
    options = [line for line in file.read_text().splitlines() if line[0] != "#" and not line.startswith("type:")]
    assert all("  # " in line for line in options)
