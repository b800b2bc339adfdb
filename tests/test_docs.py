"""Every command in README and docs runs, in order, page by page, at a reduced size.

A fence ``bash`` is run; ``bash fails`` must end with exit code 2; ``bash WORD`` needs something (the hub,
a data set) and is composed and checked but not trained where that is not there. A fence after a line
that ends in "`path`:" is written to that path first. RUN stands for a finished run.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

import attnbuild
from attnbuild.cli.check import check_config
from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.main import main
from attnbuild.cli.names import check_names
from attnbuild.sweeps.launchers import local
from tests.encoders.tiny_models import save_bert, save_model
from tests.forked import fork_job

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"(?P<before>[^\n]*)\n\n?```(?P<info>[^\n]*)\n(?P<body>.*?)```", re.DOTALL)

#: What makes a command of the docs small. Sizes of the embedded data only where it is used.
SMALL = ["debug=fast", "model.dim=16", "batch.tokens=256", "batch.rows=8", "validation.maps=0"]
SMALL_LAYERS = ["encoder.layers=1", "decoder.layers=1"]
SMALL_DATA = ["data.train=200", "data.validation=8", "data.test=8"]
#: Where the embedded data of a task, or other data, has no such sizes, or others.
OTHER_SIZES = {"task=classification": [], "data=cldr_languages": ["data.train=400", *SMALL_DATA[1:]]}


@dataclass
class Fence:
    info: str
    body: str
    path: str

    @property
    def commands(self) -> list[list[str]]:
        lines = self.body.replace("\\\n", " ").splitlines()
        return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def fences(page: Path) -> list[Fence]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    paths = (re.findall(r"`([\w/.]+\.\w+)`:$", match["before"].strip()) for match in found)
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Fence(match["info"], match["body"], (path or [""])[-1]) for match, path in zip(found, paths, strict=True)]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run for the commands that use one."""
    folder = tmp_path_factory.mktemp("docs")
    assert main(["train", *SMALL, *SMALL_LAYERS, *SMALL_DATA, f"paths.outputs={folder}"]) == 0
    (summary,) = folder.rglob("summary.json")
    return summary.parent


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that the docs speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pairs = [(f"the {number} red houses", f"die {number} roten Häuser") for number in range(60)]
    (tmp_path / "my_text").mkdir()
    for split in ("train", "validation", "test"):
        for language, side in (("en", 0), ("de", 1)):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (tmp_path / "my_text" / f"{split}.{language}").write_text(text, encoding="utf-8")
    (tmp_path / "my_tables").mkdir()
    rows = "".join(f"{source},{target}\n" for source, target in pairs)
    (tmp_path / "my_tables" / "train.csv").write_text(f"english,german\n{rows}", encoding="utf-8")
    lines = "".join(f'{{"english": "{source}", "german": "{target}"}}\n' for source, target in pairs)
    (tmp_path / "my_tables" / "dev.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "sentences.txt").write_text("May 4\n\nJune 5, 2026\n", encoding="utf-8")
    return tmp_path


def made_small(words: list[str]) -> list[str]:
    """A training command that ends in seconds."""
    if words[0] != "train" or any(word.startswith("resume=") for word in words):
        return words  # a resumed run is as small as it was
    words = [word for word in words if not word.startswith("trainer.max_steps=")]
    small = [word for word in SMALL if not (word == "debug=fast" and any("debug=" in given for given in words))]
    if not any(word.startswith(("task=", "experiment=", "recipe=")) for word in words):
        small += SMALL_LAYERS
    if any(word.startswith("encoder.attention_by_layer") for word in words):
        small.remove("encoder.layers=1")
    return [*words, *small, *small_data(words)]


def small_data(words: list[str]) -> list[str]:
    """What makes embedded data small; none for data of one's own."""
    for word in reversed(words):
        if word in OTHER_SIZES:
            return OTHER_SIZES[word]
        if word.startswith(("data=", "data.root=", "experiment=")):
            return SMALL_DATA if word == "experiment=demo" else []
    return SMALL_DATA


def is_reachable(need: str) -> bool:
    root = Path(os.environ.get("ATTNBUILD_DATA") or ROOT.parent / "shared" / "data")
    return need == "multi30k" and (root / "multi30k").is_dir()


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run(
    page: Path, run_folder: Path, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The next page may bring a plugin of the same name.
    for plugin in ("my_scores", "my_tagging"):
        sys.modules.pop(plugin, None)
    monkeypatch.setattr(local, "start", fork_job)
    if "encoder=pretrained" in page.read_text(encoding="utf-8"):
        save_bert(workplace / "my_bert")
        save_model("ResNet", workplace / "my_resnet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    if "ATTNBUILD_DATA" not in os.environ and is_reachable("multi30k"):
        monkeypatch.setenv("ATTNBUILD_DATA", str(ROOT.parent / "shared" / "data"))
    said = ""
    for fence in fences(page):
        if fence.info == "text" and said:
            assert fence.body.strip() == said.strip(), "the page shows what is printed"
        said = ""
        if fence.path:
            target = workplace / fence.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(fence.body, encoding="utf-8")
        elif fence.info.startswith("bash"):
            _, _, need = fence.info.partition(" ")
            for command in fence.commands:
                error = run_command(command, need, run_folder, capsys)
                said = error if need == "fails" else ""
        elif fence.info == "python":
            exec(compile(fence.body.replace("RUN", str(run_folder)), str(page), "exec"), {"__name__": "docs"})


def run_command(words: list[str], need: str, run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a line of a page; returns what it wrote to standard error."""
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"the Makefile has no {words[1:]}"
        return ""
    if words[0] != "attnbuild":
        return ""
    words = [word.replace("RUN", str(run)) for word in words[1:]]
    words = words if need == "fails" else made_small(words)
    if need and need != "fails" and not is_reachable(need):
        words[0] = "show"  # composes and checks everything, reads no data
        words = [word for word in words if word != "-m"]
    code = main(words)
    output = capsys.readouterr()
    assert code == (2 if need == "fails" else 0), f"attnbuild {shlex.join(words)}\n{output.out}\n{output.err}"
    return output.err


@pytest.fixture
def docs_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The scripts of docs/, which are no package: they find each other beside themselves, as when they are run."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module


def test_readme_table_is_up_to_date(docs_script: Callable[[str], ModuleType]) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert docs_script("tables").with_tables(page) == page, "run: make tables"


def test_every_attention_has_its_page_and_picture(docs_script: Callable[[str], ModuleType]) -> None:
    pages = docs_script("attention_pages")
    folder, names = ROOT / "docs" / "attention", attnbuild.list_names("attention")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("md", "png")
    )
    for name in names:
        assert (folder / f"{name}.md").read_text(encoding="utf-8") == pages.page(name), "run: make tables"
    choosing = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert pages.choosing(choosing) == choosing, "run: make tables"


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "attention").glob("*.md")), ids=lambda page: page.stem)
def test_commands_of_an_attention_page_are_right(page: Path) -> None:
    """Composed and checked, not trained: tests/test_conf_runs.py trains each attention."""
    with open_loader() as loader:
        for fence in fences(page):
            if fence.info == "python":
                exec(compile(fence.body, str(page), "exec"), {"__name__": "docs"})
            for _, command, *words in fence.commands if fence.info == "bash" else ():
                assert command == "train"
                config = compose(loader, check_names(loader, words))
                assert check_config(resolve(config, config.hydra.runtime.choices)) == [], words


def test_pictures_show_what_is_seen(docs_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    pictures = docs_script("attention_pictures")
    (weights,) = pictures.seen("none", "cross-attention")
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / weights.shape[1]))
    for head in pictures.seen("window", "decoder, causal"):
        position = torch.arange(len(head))
        distance = position.unsqueeze(1) - position
        assert ((head > 0) == ((distance >= 0) & (distance <= pictures.SMALL["window"]))).all()
    for name in ("once.png", "again.png"):
        pictures.draw("bahdanau", tmp_path / name)
    assert (tmp_path / "once.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_what_was_measured_is_shown(
    docs_script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = docs_script("attention_pages")
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    assert "attnbuild bench attention=multihead,window" in pages.page("window")
    assert pages.measured_tables() == "Nothing yet."
    timed = {"case": "window on heads 8192", "system": "attnbuild", "metric": "time", "value": 0.5, "unit": "ms"}
    block = {**timed, "case": "window 8192", "value": 0.7}
    kept = {**timed, "metric": "peak_memory", "value": 3.0, "unit": "MB"}
    others = [kept, {**timed, "system": "peer", "value": 0.75}, {**timed, "case": "windowed 8192"}, {"case": "window"}]
    (tmp_path / "attention.json").write_text(json.dumps({"rows": [timed, block, *others]}), encoding="utf-8")
    scored = {"case": "a task", "system": "cosine", "metric": "bleu", "value": 31.25}
    (tmp_path / "attention_quality.json").write_text(json.dumps({"rows": [scored]}), encoding="utf-8")
    (tmp_path / "attention_quality.md").touch()
    measured = "| ms / MB at length | 8192 |\n| --- | --- |\n| window on heads | 0.5 / 3 |\n| window | 0.7 |\n\n"
    assert measured in pages.page("window")
    assert "| window | 0.7 |" in pages.measured_tables()
    assert "| system | bleu |\n| --- | --- |\n| cosine | 31.25 |" in pages.measured_tables()
    assert "(../benchmarks/results/attention_quality.md)" in pages.measured_tables()
