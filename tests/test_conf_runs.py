"""Every shipped YAML trains a step, is validated, tested and leaves a summary.

Files of different groups share a run: run k takes the k-th file of each group, over and over, so that
as many runs as the largest group has files cover them all.
"""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

from attnbuild.cli.main import main
from attnbuild.paths import conf_dir
from tests.companions import companions

TINY = [
    "trainer.max_steps=1",
    "trainer.limit_eval_batches=1",
    "validation.every=1",
    "validation.maps=1",
    "model.dim=16",
    "batch.tokens=256",
    "batch.rows=8",
]
CLDR = ["data.train=200", "data.validation=6", "data.test=6"]
#: What makes embedded data of other tasks small.
SMALL_DATA = {
    "digits": [],
    "digit_scenes": ["data.train=20", "data.validation=6", "data.test=6"],
    "cldr_languages": ["data.train=400", "data.validation=6", "data.test=6"],
}

#: Groups whose files can be combined freely; the others have a test of their own below.
FREE = ["attention", "optimizer", "scheduler", "tokenizer", "search", "callbacks", "debug"]
#: Groups whose files each make a run of their own, where they are of another task than the default.
ALONE = ["data", "encoder", "decoder", "augmentation"]
REAL = ("ag_news", "cifar10", "sst2", "trec", "ucm_captions")
#: What cannot run here, and why.
ELSEWHERE = {
    "trainer/gpu": "needs a GPU: tests/test_gpu.py",
    "trainer/ddp": "needs a GPU: tests/test_gpu.py",
    **dict.fromkeys(("sweeper/grid", "sweeper/random", "sweeper/optuna", "launcher/local"), "sweeps: tests/sweeps"),
    "launcher/slurm": "a cluster: tests/slurm",
    **{f"sweep/{path.stem}": "sweeps: tests/sweeps" for path in (conf_dir() / "sweep").glob("*.yaml")},
    "trainer/fsdp": "several processes: tests/training/test_sharding.py",
    "trainer/ddp_sim": "two processes: tests/e2e",
    "data/text": "needs the user's files: tests/test_docs.py",
    "data/table": "needs the user's files: tests/test_docs.py",
    "data/hf": "needs the user's files: tests/data/test_hf.py",
    "data/caption_table": "needs the user's files: tests/data/test_caption_table.py",
    "data/coco": "needs the user's files: tests/data/test_coco.py",
    "data/image_folder": "needs the user's files: tests/data/test_image_folder.py",
    **{f"data/{name}": "real data: tests/data/test_presets.py" for name in REAL},
    "encoder/pretrained": "needs a model: tests/encoders/test_pretrained.py",
    "tokenizer/pretrained": "needs a model: tests/encoders/test_pretrained.py",
    "logger/wandb": "needs an extra: tests/training/test_loggers.py",
    "logger/mlflow": "needs an extra: tests/training/test_loggers.py",
}


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def has_own_task(group: str, name: str) -> bool:
    """Whether a choice is of no use in the default run, which translates."""
    return any(word.startswith("task=") and word != "task=translation" for word in companions(group, name))


def runs() -> list[list[str]]:
    free = {group: [name for name in names(group) if not has_own_task(group, name)] for group in FREE}
    free = {group: [name for name in chosen if f"{group}/{name}" not in ELSEWHERE] for group, chosen in free.items()}
    rounds = max(map(len, free.values()))
    columns = [
        [f"{group}={name}" for name in itertools.islice(itertools.cycle(chosen), rounds)]
        for group, chosen in free.items()
    ]
    together = [
        [*row, *companions("attention", row[0].removeprefix("attention=")), *CLDR, "validation.maps=0"]
        for row in zip(*columns, strict=True)
    ]
    recipes = [[f"recipe={name}", *recipe_data(name)] for name in names("recipe")]
    others = [
        [f"{group}={name}", *companions(group, name), *SMALL_DATA.get(name, [])]
        for group in (*FREE, *ALONE)
        for name in names(group)
        if has_own_task(group, name) and f"{group}/{name}" not in ELSEWHERE
    ]
    return [*together, *recipes, ["experiment=demo", "logger=csv", *CLDR], *others]


def recipe_data(recipe: str) -> list[str]:
    """Recipes of other tasks bring their task, and read its embedded data, or such as fits their encoder."""
    text = (conf_dir() / "recipe" / f"{recipe}.yaml").read_text(encoding="utf-8")
    if "override /task: captioning" in text:
        return SMALL_DATA["digit_scenes"]
    if "override /task: classification" in text:
        beside = companions("recipe", recipe) or ["image.size=8"]
        return [*beside, *(SMALL_DATA["cldr_languages"] if "data=cldr_languages" in beside else [])]
    return CLDR


def train(tmp_path: Path, words: list[str]) -> dict:
    assert main(["train", *TINY, *words, f"paths.outputs={tmp_path}"]) == 0
    (summary,) = tmp_path.rglob("summary.json")
    assert "test (" in (summary.parent / "log.txt").read_text(encoding="utf-8"), "every run in a process has its log"
    return json.loads(summary.read_text())


@pytest.mark.parametrize("words", runs(), ids=lambda words: words[0])
def test_every_choice_trains_a_step(tmp_path: Path, words: list[str]) -> None:
    summary = train(tmp_path, words)
    assert summary["status"] == "ok"
    assert any(f"test/{monitor}" in summary["metrics"] for monitor in ("bleu", "bleu4", "accuracy"))


@pytest.mark.parametrize("experiment", ["multi30k", "multi30k_best"])
def test_multi30k_trains_a_step(tmp_path: Path, real_data: Path, experiment: str) -> None:
    """On the first lines of the real files."""
    folder = tmp_path / "data" / "multi30k"
    folder.mkdir(parents=True)
    for path in (real_data / "multi30k").glob("*.*"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:200]), encoding="utf-8")
    summary = train(
        tmp_path / "runs", [f"experiment={experiment}", f"data.root={folder.parent}", "tokenizer.vocab_size=400"]
    )
    assert summary["status"] == "ok"


def first_lines(path: Path, target: Path, count: int) -> None:
    """The beginning of a text file, gzipped or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened(path, "rt", encoding="utf-8") as source, opened(target, "wt", encoding="utf-8") as part:
        part.writelines(itertools.islice(source, count))


def some_texts(real: Path, root: Path) -> None:
    for path in (real / "textcls").glob("*.csv.gz"):
        first_lines(path, root / "textcls" / path.name, 300)


def some_photos(real: Path, root: Path) -> None:
    for path in (real / "cifar10").glob("*.parquet"):
        (root / "cifar10").mkdir(parents=True, exist_ok=True)
        table = next(pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=200))
        pyarrow.parquet.write_table(pyarrow.Table.from_batches([table]), root / "cifar10" / path.name)


def some_aerial_photos(real: Path, root: Path) -> None:
    source, target = real / "ucm_captions", root / "ucm_captions"
    for path in source.glob("*_images.txt"):
        first_lines(path, target / path.name, 6)
        for name in (target / path.name).read_text(encoding="utf-8").split():
            (target / "images").mkdir(exist_ok=True)
            shutil.copy(source / "images" / name, target / "images" / name)
    shutil.copy(source / "captions.tsv", target / "captions.tsv")


#: Experiment -> what makes the beginning of its data, and other words.
EXPERIMENTS: dict[str, tuple[Callable[[Path, Path], None], list[str]]] = {
    "trec": (some_texts, ["data.validation=40"]),
    "sst2": (some_texts, []),
    "ag_news": (some_texts, ["data.validation=40"]),
    "cifar10": (some_photos, ["data.validation=40"]),
    "ucm_captions": (some_aerial_photos, ["image.size=32", "trainer.precision=32-true"]),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_trains_a_step(tmp_path: Path, real_data: Path, experiment: str) -> None:
    """On the first rows of the real files."""
    make, more = EXPERIMENTS[experiment]
    make(real_data, tmp_path / "data")
    root = f"data.root={tmp_path / 'data'}"
    assert train(tmp_path / "runs", [f"experiment={experiment}", root, *more])["status"] == "ok"


def test_every_file_is_covered() -> None:
    """A new file in a group runs here, or says where else."""
    covered = {word.replace("=", "/") for words in runs() for word in words}
    covered |= {
        "data/multi30k",
        "experiment/multi30k",
        "experiment/multi30k_best",
        "data/cldr",
        "task/translation",
        "trainer/cpu",
        "logger/default",
    }
    covered |= {"augmentation/none", "task/captioning", *(f"experiment/{name}" for name in EXPERIMENTS)}
    covered |= {
        f"{part}/{name}" for part in ("encoder", "decoder") for name in ("transformer", "rnn")
    }  # by the recipes
    shipped = {
        str(path.relative_to(conf_dir()).with_suffix(""))
        for path in conf_dir().rglob("*.yaml")
        if "hydra" not in path.parts and path.parent != conf_dir()
    }
    assert shipped - covered - set(ELSEWHERE) == set()
