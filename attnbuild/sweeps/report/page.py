"""report.html: one file that needs nothing else, drawn by plotly.js in whatever browser opens it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from datetime import datetime
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attnbuild.errors import ConfigError
from attnbuild.sweeps.report.collect import Collection, Job, collect
from attnbuild.sweeps.report.columns import Columns
from attnbuild.sweeps.report.csv_file import write_csv
from attnbuild.sweeps.report.curves import Curve, points_for, read_curves
from attnbuild.sweeps.report.pictures import read_examples
from attnbuild.sweeps.report.tables import cost_names, describe_counts, groups_table, jobs_table, link, shown_metrics
from attnbuild.sweeps.report.texts import cost_label, cost_unit, is_lower_better, metric_text
from attnbuild.training.run import atomic_writer

__all__ = ["PAGE", "TABLE", "write_report"]

PAGE, TABLE = "report.html", "report.csv"

_LOSS = "train/loss"

#: What a run is drawn by that does not tell what it was judged by.
_VALIDATION_LOSS = "validation/loss"

#: Digits of numbers that are only drawn.
_DIGITS = 6


#: What a job is called, where its folder lies as seen from the page, and the job.
_Named = tuple[str, str, Job]


def write_report(folder: Path, output: Path) -> list[str]:
    """Write report.html and report.csv.

    Args:
        folder: of a sweep, or one with runs under it.
        output: where to, made where it is missing.

    Returns:
        What is most worth knowing of it, in lines: the best runs, and how many did not end well.

    Raises:
        ConfigError: the folder is neither, the output cannot be written, or a package is not installed.
    """
    require_packages()
    collection = collect(folder)
    columns = Columns(collection)
    try:
        output.mkdir(parents=True, exist_ok=True)
        page = render(collection, columns, output)
        with atomic_writer(output / PAGE) as file:
            file.write(page)
        write_csv(output / TABLE, collection, columns)
    except OSError as error:
        where = error.filename or output
        raise ConfigError(f"cannot write to {where}: {error.strerror}; choose a folder by output=DIR") from error
    lines = [f"best by {monitor}: {title} with {value}" for monitor, title, value in _best(collection, columns)]
    lines += [] if lines else [f"best: {_no_best(collection)}"]
    if collection.broken:
        lines.append(f"{len(collection.broken)} of {len(collection.jobs)} did not end well: see the top of the report")
    return lines


def require_packages() -> None:
    """Refuse to begin without the packages that make the page.

    Raises:
        ConfigError: one is missing.
    """
    missing = [name for name in ("plotly", "jinja2") if find_spec(name) is None]
    if missing:
        needs = "the package" if len(missing) == 1 else "the packages"
        raise ConfigError(f"a report needs {needs} {' and '.join(missing)}: pip install 'attnbuild[sweeps]'")


def render(collection: Collection, columns: Columns, beside: Path) -> str:
    """The page as HTML.

    Nothing but this page's own two scripts can run in it, and nothing can be loaded from anywhere: a policy in
    its head says so to the browser, whatever an override or an error text may hold.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    own = files(__package__)
    script, style = (own.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    plotly, plotly_hash = _plotly()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(own.joinpath("page.html.j2").read_text(encoding="utf-8"))
    examples, left_out = read_examples(columns.groups, collection.notes)
    named = [(columns.title(place), link(job.folder, beside), job) for place, job in enumerate(collection.jobs)]
    data = plot_data(collection, columns)  # before the notes are shown, to which it adds
    return template.render(
        title=f"{'Sweep' if collection.is_sweep else 'Runs under'} {collection.folder.absolute().name}",
        collection=collection,
        counts=describe_counts([*collection.counts.items()]),
        written=datetime.now().isoformat(" ", "minutes"),
        failures=_failures(collection, named),
        under_way=[entry for entry in named if entry[2] in collection.under_way],
        best=_best(collection, columns),
        no_best=_no_best(collection),
        groups=groups_table(collection, columns),
        jobs=jobs_table(collection, columns, beside),
        metrics=[(name, is_lower_better(name)) for name in quality_names(collection)],
        costs=[(name, _axis_label(name)) for name in cost_names(collection)],
        has_seeds=any(len(group.finished) > 1 for group in columns.groups),
        has_time=any(curve["seconds"] for job in data["jobs"] for curve in job["curves"].values()),
        points=points_for(len(collection.jobs)),
        examples=examples,
        left_out=left_out,
        style=Markup(style),
        script=Markup(script),
        hashes=[_hash(script), plotly_hash],
        plotly=plotly,
        data=Markup(as_json(data)),
    )


@cache
def _plotly() -> tuple[str, str]:
    """plotly.js, compressed and as text, and its hash: 4.8 MB become 1.9."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode(), _hash(script)


def quality_names(collection: Collection) -> list[str]:
    """The metrics to choose from for the axis of quality: those of the tables, then the others."""
    first = shown_metrics(collection)
    names = dict.fromkeys(name for job in collection.jobs for name in job.metrics if not name.endswith("_averaged"))
    return [*first, *(name for name in names if name not in first)]


def plot_data(collection: Collection, columns: Columns) -> dict[str, Any]:
    """What the plots are drawn from."""
    place_of = {id(job): place for place, group in enumerate(columns.groups) for job in group.jobs}
    jobs = [
        {
            "title": columns.title(place),
            "group": place_of[id(job)],
            "ok": job.is_ok,
            "monitor": job.monitor or _VALIDATION_LOSS,
            "metrics": _rounded(job.metrics),
            "costs": _rounded(job.costs),
            "curves": {name: _drawn(curve) for name, curve in _curves(job, collection).items()},
        }
        for place, job in enumerate(collection.jobs)
    ]
    return {
        "jobs": jobs,
        "groups": [group.name for group in columns.groups],
        "lower": [name for name in quality_names(collection) if is_lower_better(name)],
        "costs": {name: [_axis_label(name), is_lower_better(name)] for name in cost_names(collection)},
    }


def _curves(job: Job, collection: Collection) -> dict[str, Curve]:
    """Score and loss of a run, named by what they are drawn as."""
    monitor = job.monitor or _VALIDATION_LOSS
    found = read_curves(
        job.folder / "metrics.csv", (monitor, _LOSS), collection.notes, points_for(len(collection.jobs))
    )
    return {{_LOSS: "loss"}.get(name, "score"): curve for name, curve in found.items()}


def _drawn(curve: Curve) -> dict[str, list[float]]:
    values = [float(f"{value:.{_DIGITS}g}") for value in curve.values]
    return {"steps": list(curve.steps), "values": values, "seconds": [round(second, 1) for second in curve.seconds]}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.{_DIGITS}g}") for name, value in figures.items()}


def _axis_label(name: str) -> str:
    unit = cost_unit(name)
    return f"{cost_label(name)} ({unit})" if unit else cost_label(name)


def as_json(data: object) -> str:
    """JSON that no HTML parser takes for markup, and no script for the end of a line."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"})


def _hash(script: str) -> str:
    """A script as a policy of a page names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _failures(collection: Collection, named: list[_Named]) -> list[dict[str, Any]]:
    """Jobs that ended as nobody wanted; those of one reason together, the most frequent first."""
    together: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for title, href, job in named:
        if job in collection.broken:
            together.setdefault((job.status, job.reason), []).append((title, href))
    return [
        {"status": status, "reason": reason or "no reason is known", "jobs": jobs}
        for (status, reason), jobs in sorted(together.items(), key=lambda item: -len(item[1]))
    ]


def _best(collection: Collection, columns: Columns) -> list[tuple[str, str, str]]:
    """For each score: its name, the best job, and what that reached there and in the test."""
    found = []
    for headline in collection.headlines:
        job = collection.best(headline)
        if job is not None:
            title = columns.title(next(place for place, one in enumerate(collection.jobs) if one is job))
            found.append((headline.removeprefix("best "), title, reached(job)))
    return found


def _no_best(collection: Collection) -> str:
    """Why there is none."""
    if any(job.is_ok for job in collection.jobs) and not collection.headlines:
        return "the runs do not tell by which metric they were judged"
    return "no run has ended with a score yet"


def reached(job: Job) -> str:
    """What a job reached by its score, and in the test by the same metric."""
    monitor = job.monitor or ""
    test = f"test/{monitor.rpartition('/')[2]}"
    tested = f", {test} {metric_text(job.metrics[test])}" if test in job.metrics else ""
    return f"{metric_text(job.metrics[f'best {monitor}'])}{tested}"
