"""Run folders as trainings leave them, written by hand: what ``attnbuild report`` is tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

__all__ = ["CONFIG", "write_job", "write_run", "write_sweep"]

#: Of a resolved config, what a report looks into.
CONFIG: dict[str, Any] = {
    "task": {"type": "translation"},
    "attention": {"preset": "multihead", "type": "soft", "heads": 4},
    "optimizer": {"type": "adamw", "lr": 0.002},
    "model": {"dim": 128},
    "seed": 1,
}


def write_sweep(folder: Path, **values: Any) -> Path:
    """The file that makes a folder a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep = {"name": folder.name, "fixed": [], "dimensions": {}, "monitor": "validation/bleu", "typed": [], **values}
    (folder / "sweep.json").write_text(json.dumps(sweep), encoding="utf-8")
    return folder


def write_job(
    sweep: Path,
    number: int,
    overrides: Sequence[str],
    status: str = "ok",
    reason: str | None = None,
    score: float | None = None,
    **run: Any,
) -> Path:
    """One job of a sweep; ``run`` is for ``write_run``. One that never began has status.json alone."""
    folder = sweep / f"{number}_job"
    if status in ("waiting", "queued", "invalid"):
        folder.mkdir(parents=True)
    else:
        summary_status = status if status != "killed" else "running"
        write_run(folder, overrides, summary_status, score=score, error=reason, **run)
    summary = json.loads((folder / "summary.json").read_text()) if (folder / "summary.json").is_file() else {}
    figures = {name: summary[name] for name in ("monitor", "score", "parameters", "wall_seconds") if name in summary}
    about = {"status": status, "reason": reason, "number": number, "slug": "job", "overrides": list(overrides)}
    times = {"attempts": 1, "started": None, "ended": None, "seconds": 1.0}
    settled = {**about, **times, "hash": "", "figures": figures | summary.get("metrics", {}), "process": {}}
    (folder / "status.json").write_text(json.dumps(settled), encoding="utf-8")
    return folder


def write_run(
    folder: Path,
    overrides: Sequence[str],
    status: str = "ok",
    *,
    score: float | None = None,
    error: str | None = None,
    metrics: Mapping[str, float] | None = None,
    speed: float = 1000.0,
    parameters: int = 100_000,
    memory: float = 800.0,
    seconds: float = 60.0,
    steps: int = 10,
    task: str = "translation",
    timed: bool = False,
    maps: Mapping[str, str] | None = None,
    samples: Sequence[tuple[str, str]] = (),
) -> Path:
    """A run folder.

    Args:
        folder: the run folder.
        overrides: as typed.
        status: of summary.json.
        score: the best validation BLEU; the test has a little less.
        error: of a run that failed.
        metrics: more of them.
        speed: tokens a second.
        parameters: how many.
        memory: peak, in MB.
        seconds: wall time.
        steps: validations; a hundred updates lie between two.
        task: the kind of task.
        timed: whether metrics.csv has the column of wall time.
        maps: name of a picture -> its colour.
        samples: input and reference of the first examples.
    """
    folder.mkdir(parents=True)
    measured = {} if score is None else {"validation/bleu": score, "test/bleu": round(score - 1.5, 4), "test/loss": 3.0}
    summary = {
        "task": task,
        "status": status,
        "metrics": {**measured, **(metrics or {})},
        "parameters": parameters,
        "tokens_per_second": speed,
        "peak_memory_mb": memory,
        "wall_seconds": seconds,
        "overrides": list(overrides),
        "monitor": "validation/bleu",
        "score": score,
        **({"error": error} if error else {}),
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)), encoding="utf-8")
    _write_metrics(folder / "metrics.csv", score or 1.0, steps, timed)
    for name, colour in (maps or {}).items():
        _write_map(folder / "maps" / f"{name}.png", colour)
    if samples:
        (folder / "samples").mkdir()
        paragraphs = [f"input       {one}\nprediction  whatever\nreference   {other}\n" for one, other in samples]
        (folder / "samples" / "step-000100.txt").write_text("\n".join(paragraphs), encoding="utf-8")
    return folder


def _write_metrics(path: Path, score: float, steps: int, timed: bool) -> None:
    lines = ["step,metric,value,seconds" if timed else "step,metric,value"]
    for number in range(1, steps + 1):
        values = {"train/loss": 1 + 6 / number, "validation/bleu": score * (1 - 0.6**number)}
        lines += [f"{100 * number},{name},{v}{f',{7 * number}' if timed else ''}" for name, v in values.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_map(path: Path, colour: str) -> None:
    path.parent.mkdir(exist_ok=True)
    picture = Image.new("RGBA", (240, 320), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((40, 20, 220, 300), fill=colour)
    picture.save(path)
