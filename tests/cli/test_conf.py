"""The shipped files of the groups that stand at the top: each composes, is right, and explains itself."""

from __future__ import annotations

import pytest

from attnbuild.cli.check import check_config
from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.names import check_names
from attnbuild.paths import conf_dir
from tests.companions import companions

FILES = sorted(path.relative_to(conf_dir()) for path in conf_dir().rglob("*.yaml") if "hydra" not in path.parts)
#: What names a model of the user's: tests/encoders/test_pretrained.py.
ELSEWHERE = {"encoder/pretrained", "tokenizer/pretrained"}
CHOICES = [
    path.with_suffix("") for path in FILES if len(path.parts) == 2 and str(path.with_suffix("")) not in ELSEWHERE
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice_composes_and_is_right(choice):
    group, name = choice.parts
    with open_loader() as loader:
        overrides = check_names(loader, [f"{group}={name}", *companions(group, name)])
        config = compose(loader, overrides)
        assert check_config(resolve(config, config.hydra.runtime.choices)) == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_key_is_explained(file):
    lines = (conf_dir() / file).read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("# ") and "@package" not in line for line in lines[:2]), "says what it is for"
    assert not any("_target_" in line for line in lines)
