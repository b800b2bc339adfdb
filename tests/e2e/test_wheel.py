"""The wheel, installed where nothing else of this checkout can be seen, used from an empty folder."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.e2e.commands import SMALL, Outcome, only_run, run_command, user_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would hand on, symbolic links as links."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    folder = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():  # else it was removed and that is not committed yet
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network, by the setuptools that is here."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("building the wheel without a network needs setuptools")
    folder = tmp_path_factory.mktemp("dist")
    pip("wheel", str(checkout), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The program of a new environment, which has the wheel of its own and sees the libraries of this one.

    A path in a .pth file is searched, but the .pth files that lie in it are not read: the editable
    install of the checkout stays out of sight.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries) + "\n")
    pip("--python", str(python), "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    return [str(folder / "bin" / "attnbuild")]


def pip(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *words, "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for folder, pattern in (("conf", "*.yaml"), ("tasks", "*.py")):
        here = {file.relative_to(ROOT).as_posix() for file in (ROOT / folder).rglob(pattern)}
        assert {name.removeprefix("attnbuild/") for name in names if name.startswith(f"attnbuild/{folder}/")} == here
    assert {name.split("/")[0].removesuffix(".dist-info") for name in names} == {"attnbuild", "attnbuild-0.1.0"}
    (entry_points,) = (name for name in names if name.endswith("/entry_points.txt"))
    lines = zipfile.ZipFile(wheel).read(entry_points).decode().splitlines()
    assert "attnbuild = attnbuild.cli.main:main" in lines
    assert "translation = attnbuild.tasks.translation" in lines


def test_it_works_in_an_empty_folder(installed: list[str], tmp_path: Path) -> None:
    def type_command(*words: str, input: str | None = None) -> Outcome:
        outcome = run_command(*words, cwd=tmp_path, input=input, start=installed)
        assert outcome.code == 0, outcome.err
        assert str(ROOT) not in outcome.err
        return outcome

    python = Path(installed[0]).with_name("python")
    words = [python, "-c", "import attnbuild; print(attnbuild.__file__)"]
    home = subprocess.run(words, cwd=tmp_path, env=user_environment(), capture_output=True, text=True)
    assert Path(home.stdout.strip()).is_relative_to(python.parents[1])

    listed = json.loads(type_command("list", "attention", "--json").out)
    assert {"bahdanau", "multihead", "window"} <= {entry["name"] for entry in listed}
    assert "cross_attention" in type_command("show", "attention=window").out
    type_command("train", "debug=fast", *SMALL)
    run = only_run(tmp_path)
    assert json.loads((run / "summary.json").read_text())["status"] == "ok"
    translated = type_command("predict", f"run={run}", "input=-", "output=-", input="3 weeks ago\n\n5 km\n").out
    assert translated.count("\n") == 3
