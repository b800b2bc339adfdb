"""Every shipped file of a registered group is held to the constructor it drives."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from attnbuild.registry import check_options, lookup, names, options_of
from attnbuild.sections import SECTIONS

CONF = Path(__file__).parents[2] / "conf"


def files(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("path", files("optimizer") + files("scheduler"), ids=lambda path: path.stem)
def test_part(path: Path) -> None:
    kind, values = path.parent.name, yaml.safe_load(path.read_text())
    name = values.pop("type")
    assert name == path.stem
    assert check_options(lookup(kind, name), values, kind, name) == []
    assert list(values) == list(options_of(lookup(kind, name))), "every option is there, in order"


@pytest.mark.parametrize("path", files("logger") + files("callbacks"), ids=lambda path: path.stem)
def test_parts_by_name(path: Path) -> None:
    kind = {"logger": "logger", "callbacks": "callback"}[path.parent.name]
    for name, values in yaml.safe_load(path.read_text()).items():
        if values is not None:
            assert check_options(lookup(kind, name), values, kind, name) == []
            assert list(values) == list(options_of(lookup(kind, name)))


@pytest.mark.parametrize("path", files("trainer"), ids=lambda path: path.stem)
def test_trainer(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    for base in values.pop("defaults", []):
        values = {**yaml.safe_load(path.with_stem(base).read_text()), **values}
    assert check_options(SECTIONS["trainer"], values, "trainer", "trainer") == []


@pytest.mark.parametrize("group", ["optimizer", "scheduler"])
def test_every_part_has_a_file(group: str) -> None:
    assert {path.stem for path in files(group)} >= set(names(group)) - {"fake"}


ALL = [path for group in ("optimizer", "scheduler", "trainer", "callbacks", "logger") for path in files(group)]


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_value_is_explained(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    for line in lines:
        key, _, value = line.partition(":")
        if value.strip() and key.strip() != "type" and not line.startswith("#"):
            assert "#" in value, f"{path.name}: {line}"


@pytest.mark.parametrize("kind", ["optimizer", "scheduler", "callback", "logger"])
def test_every_option_has_help(kind: str) -> None:
    for name in names(kind):
        for option in options_of(lookup(kind, name)).values():
            assert option.help, f"{kind} {name}: {option.name}"
