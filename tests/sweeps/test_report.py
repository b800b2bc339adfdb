"""``attnbuild report``: what it reads, what it makes of it, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbuild.cli.main import main
from attnbuild.errors import ConfigError
from attnbuild.sweeps.report.collect import Collection, collect
from attnbuild.sweeps.report.columns import Columns, spread
from attnbuild.sweeps.report.curves import points_for, read_curves
from attnbuild.sweeps.report.page import as_json, write_report
from attnbuild.sweeps.report.reading import Notes, as_number
from attnbuild.sweeps.report.tables import groups_table, jobs_table
from attnbuild.sweeps.report.texts import cost_text, is_lower_better, metric_text
from tests.sweeps.report_runs import write_job, write_run, write_sweep

SCRIPT = "</script><script>window.harmed = true</script><img src=x onerror='window.harmed=true'>{{ 7 * 7 }}"


class Markup(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def with_id(self, name: str) -> bool:
        return any(attributes.get("id") == name for _, attributes in self.elements)


def page_of(folder: Path) -> Markup:
    return Markup((folder / "report.html").read_text(encoding="utf-8"))


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two attentions with three seeds each; one job ran out of memory, one was killed."""
    folder = write_sweep(tmp_path / "attentions", dimensions={"attention": ["multihead", "window"], "seed": [1, 2, 3]})
    scores = {"multihead": (30.0, 31.0, 32.0), "window": (29.0, None, 28.0)}
    number = 0
    for attention, reached in scores.items():
        for seed, score in enumerate(reached, start=1):
            words = [f"attention={attention}", f"seed={seed}", "trainer.max_steps=7"]
            status, reason = ("ok", None) if score else ("oom", "OutOfMemory: lower batch.tokens")
            speed = 1000.0 if attention == "multihead" else 2000.0
            write_job(folder, number, words, status, reason, score, speed=speed)
            number += 1
    write_job(folder, number, ["attention=window", "seed=4", "trainer.max_steps=7"], "killed", "by SIGKILL", 40.0)
    return folder


# What is read


def test_jobs_come_with_status_reason_and_figures(sweep: Path) -> None:
    found = collect(sweep)
    assert found.is_sweep
    assert [job.number for job in found.jobs] == list(range(7))
    assert found.counts == {"ok": 5, "killed": 1, "oom": 1}
    assert [(job.status, job.reason) for job in found.broken] == [
        ("oom", "OutOfMemory: lower batch.tokens"),
        ("killed", "by SIGKILL"),
    ]
    first = found.jobs[0]
    assert first.metrics["best validation/bleu"] == 30.0
    assert first.costs == {
        "wall_seconds": 60.0,
        "tokens_per_second": 1000.0,
        "parameters": 100_000.0,
        "peak_memory_mb": 800.0,
    }
    assert found.best("best validation/bleu") is found.jobs[2], "the killed job had more, and does not count"


def test_what_runs_tells_how_far_it_is(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    job = write_job(folder, 0, ["seed=1"], "running", score=None)
    (job / "progress.json").write_text('{"step": 30, "max_steps": 90}')
    ended = write_job(folder, 1, ["seed=2"], "running", score=3.0)
    summary = json.loads((ended / "summary.json").read_text())
    (ended / "summary.json").write_text(json.dumps(summary | {"status": "ok"}))
    first, second = collect(folder).jobs
    assert first.status == "running"
    assert re.fullmatch(r"step 30 of 90; last sign of life: \d{4}-\d\d-\d\d \d\d:\d\d", first.reason)
    assert (second.status, second.reason) == ("ok", ""), "it ended when nobody was there to note it"


def test_a_folder_of_runs_by_dates(tmp_path: Path) -> None:
    runs = ["translation/2026-01-02/10-00-00-aa", "translation/2026-01-03/09-00-00-bb", "captioning/2026-01-03/x"]
    for place, name in enumerate(runs):
        words = [f"attention.heads={2 ** (place + 1)}", f"paths.outputs=/{place}", "task=translation"]
        write_run(tmp_path / "outputs" / name, words, score=10.0 + place)
    (tmp_path / "outputs" / runs[0] / "checkpoints").mkdir()
    found = collect(tmp_path / "outputs")
    assert not found.is_sweep
    assert [job.name for job in found.jobs] == sorted(runs)
    assert Columns(found).keys == ["attention.heads"], "where a run is written is no choice"
    assert [job.name for job in collect(tmp_path / "outputs" / "translation").jobs] == [name[12:] for name in runs[:2]]
    (alone,) = collect(tmp_path / "outputs" / runs[0]).jobs
    assert alone.name == "10-00-00-aa"
    lines = write_report(tmp_path / "outputs", tmp_path / "out")
    text = page_of(tmp_path / "out").text
    assert "A folder of single runs, not a sweep" in text
    assert all(name in text for name in runs)
    assert lines == ["best by validation/bleu: 0: captioning/2026-01-03/x with 12.00, test/bleu 10.50"]


def test_single_runs_that_differ_in_much_are_called_by_their_folder(tmp_path: Path) -> None:
    for number in range(2):
        words = [f"{key}={number}" for key in ("model.dim", "model.dropout", "optimizer.lr", "batch.rows")]
        write_run(tmp_path / "2026-01-02" / f"run-{number}", words, score=1.0)
    columns = Columns(collect(tmp_path))
    assert [group.name for group in columns.groups] == ["2026-01-02/run-0", "2026-01-02/run-1"]
    assert columns.title(1) == "1: 2026-01-02/run-1"
    assert columns.name(columns.choices[1]) == "dim=1, dropout=1, lr=1, rows=1"


def test_figures_of_several_tasks_have_no_best(tmp_path: Path) -> None:
    for number, task in enumerate(("captioning", "translation")):
        write_run(tmp_path / f"run-{number}", [f"seed={number}"], task=task, score=1.0 + number)
    found = collect(tmp_path)
    table = jobs_table(found, Columns(found), tmp_path)
    assert not [cell for row in table.rows for cell in row if cell.looks == "best"]
    assert ("task", False) in table.head


def test_runs_that_tell_no_monitor(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["seed=1"], metrics={"test/bleu": 3.0})
    summary = json.loads((run / "summary.json").read_text())
    del summary["monitor"]
    (run / "summary.json").write_text(json.dumps(summary))
    assert write_report(tmp_path, tmp_path) == ["best: the runs do not tell by which metric they were judged"]
    assert "The runs do not tell by which metric they were judged." in page_of(tmp_path).text
    assert rows_of(tmp_path)[0]["test/bleu"] == "3"


def test_jobs_of_an_inner_sweep_show_all_that_was_typed(tmp_path: Path) -> None:
    """In a folder of several sweeps, what one of them fixed is a difference."""
    for name, heads in (("a", 2), ("b", 4)):
        inner = write_sweep(tmp_path / name)
        job = write_job(inner, 0, ["seed=1"], score=1.0)
        summary = json.loads((job / "summary.json").read_text())
        (job / "summary.json").write_text(json.dumps(summary | {"overrides": ["seed=1", f"attention.heads={heads}"]}))
    assert Columns(collect(tmp_path)).keys == ["attention.heads"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", "{"),
        ("status.json", "[1, 2]"),
        ("status.json", "[" * 100_000),
        ("status.json", '{"status": ["ok"], "number": "x", "overrides": {"a": 1}, "figures": [1]}'),
        ("status.json", '{"status": "ok", "number": 1e999, "figures": {"score": "high", "test/bleu": NaN}}'),
        ("summary.json", "\udcff"),
        ("summary.json", '{"status": "ok", "metrics": [], "overrides": 3, "parameters": "many", "task": {"a": 1}}'),
        ("summary.json", '{"status": "ok", "metrics": {"test/bleu": ' + "9" * 400 + "}}"),
        ("metrics.csv", "step,metric,value\n1,train/loss,0.5\nx,train/loss,1\n2,train/loss,\n3,train"),
        ("metrics.csv", "\x00\xff\n"),
        ("overrides.yaml", "{a: ["),
        ("config.yaml", "- a"),
        ("config.yaml", "{a: ["),
        ("sweep.json", '{"fixed": 3, "dimensions": ["a"]}'),
        ("sweep.json", "nothing"),
        ("maps/sentence-0.png", "no picture"),
        ("progress.json", "3"),
        ("samples/step-000001.txt", "\udcff\n\n\n\nx"),
    ],
)
def test_a_damaged_file_spoils_nothing_else(tmp_path: Path, name: str, content: str) -> None:
    folder = write_sweep(tmp_path / "s")
    write_job(folder, 0, ["seed=1", "model.dim=3"], score=11.0, maps={"sentence-0": "red"})
    job = write_job(folder, 1, ["seed=2"], score=12.0, maps={"sentence-0": "red"})
    path = (folder if name == "sweep.json" else job) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    write_report(folder, folder)
    rows = rows_of(folder)
    assert len(rows) == 2
    assert (rows[0]["number"], rows[0]["status"], rows[0]["best validation/bleu"]) == ("0", "ok", "11")
    assert page_of(folder).with_id("jobs")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    job = write_job(folder, 0, ["seed=1"], score=11.0)
    (job / "status.json").write_text("{")
    (job / "summary.json").write_text("{")
    write_report(folder, folder)
    page = page_of(folder)
    assert page.with_id("notes")
    assert f"{job / 'status.json'}: cannot be read" in page.text
    assert "neither status.json nor summary.json can be read" in page.text
    assert [row["status"] for row in rows_of(folder)] == ["unreadable"]


def test_a_sweep_without_a_finished_job_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "s", dimensions={"attention.heads": [5, 7]})
    for number, heads in enumerate((5, 7)):
        write_job(folder, number, [f"attention.heads={heads}"], "invalid", "heads do not divide 32")
    write_job(folder, 2, ["attention.heads=4"], "waiting")
    assert main(["report", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "best: no run has ended with a score yet" in said
    assert "2 of 3 did not end well" in said
    page = page_of(folder)
    assert page.with_id("failures")
    assert page.with_id("under-way")
    assert "heads do not divide 32" in page.text


def test_what_never_became_a_job_is_told(sweep: Path) -> None:
    reason = "attention.heads: 5 heads do not divide 32"
    write_sweep(sweep, invalid=[{"overrides": ["attention=window", "attention.heads=5"], "reason": reason}, "?"])
    write_report(sweep, sweep)
    head = " ".join(page_of(sweep).text.partition("Over seeds")[0].split())
    assert "3 of 8 did not end well" in head
    assert f"invalid 1 run: attention=window, heads=5 {reason}" in head
    assert [row["number"] for row in rows_of(sweep)] == [*map(str, range(7)), ""]


def test_an_empty_sweep_has_a_page(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    write_report(folder, folder)
    assert "0 jobs" in page_of(folder).text
    assert rows_of(folder) == []


def test_what_failed_comes_first_and_once_for_each_reason(sweep: Path) -> None:
    write_job(sweep, 7, ["attention=window", "seed=5"], "oom", "OutOfMemory: lower batch.tokens")
    write_report(sweep, sweep)
    page = page_of(sweep)
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["failures", "groups", "jobs", "quality", "curves"]
    head = page.text[: page.text.index("Over seeds")]
    assert "3 of 8 did not end well" in head
    assert head.count("OutOfMemory: lower batch.tokens") == 1
    assert "oom 2 runs" in " ".join(head.split())


# What differs, and what is equal but for the seed


def test_columns_are_what_differs(sweep: Path) -> None:
    columns = Columns(collect(sweep))
    assert columns.keys == ["attention", "seed"]
    assert columns.title(4) == "4: attention=window, seed=2"


def test_what_was_not_typed_is_what_the_config_has(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    for number, words in enumerate((["optimizer.lr=0.01"], ["attention=window"], ["optimizer.lr=0.002", "seed=2"])):
        write_job(folder, number, words, score=1.0)
    columns = Columns(collect(folder))
    assert columns.keys == ["optimizer.lr", "attention", "seed"]
    typed = [[(choice.text, choice.typed) for choice in choices.values()] for choices in columns.choices]
    assert typed[1] == [("0.002", False), ("window", True), ("1", False)]
    assert typed[2] == [("0.002", True), ("multihead", False), ("2", True)]


def test_names_that_end_alike_stay_whole(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    for number, layers in enumerate((1, 2)):
        words = [f"encoder.layers={layers}", f"decoder.layers={layers}", f"++model.dim={layers}"]
        write_job(folder, number, words, score=1.0)
    assert Columns(collect(folder)).title(1) == "1: encoder.layers=2, decoder.layers=2, dim=2"


def test_groups_are_equal_but_for_the_seed(sweep: Path) -> None:
    found = collect(sweep)
    columns = Columns(found)
    assert [[job.number for job in group.jobs] for group in columns.groups] == [[0, 1, 2], [3, 4, 5, 6]]
    table = groups_table(found, columns)
    assert table is not None
    labels = [label for label, _ in table.head]
    first, second = (dict(zip(labels, row, strict=True)) for row in table.rows)
    assert first["best validation/bleu"].text == "31.00 ± 1.0"
    assert first["best validation/bleu"].looks == "best"
    assert first["n"].text == "3"
    assert (second["n"].text, second["best validation/bleu"].text) == ("2 of 4", f"28.50 ± {0.5**0.5:.2f}")
    assert second["tokens/s"].sort == 2000.0


def test_no_table_of_groups_without_seeds(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    for number in range(2):
        write_job(folder, number, [f"model.dim={number}"], score=1.0)
    found = collect(folder)
    assert groups_table(found, Columns(found)) is None


def test_a_job_that_never_began_is_in_its_group(sweep: Path) -> None:
    write_job(sweep, 7, ["attention=multihead", "seed=9", "trainer.max_steps=7"], "waiting")
    assert [len(group.jobs) for group in Columns(collect(sweep)).groups] == [4, 4]


@given(st.lists(st.floats(-1e6, 1e6), max_size=6))
def test_spread_is_mean_and_sample_deviation(values: list[float]) -> None:
    found = spread(iter(values))
    if not values:
        assert found is None
        return
    assert found is not None
    assert found.count == len(values)
    assert found.mean == pytest.approx(sum(values) / len(values))
    if len(values) == 1:
        assert found.deviation is None
    else:
        expected = (sum((value - found.mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
        assert found.deviation == pytest.approx(expected, abs=1e-6)
        assert found.deviation == pytest.approx(statistics.stdev(values))


def test_the_best_is_marked_by_the_direction_of_its_metric(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    for number, loss in enumerate((3.0, 2.0, 1.0)):
        status = "failed" if number == 2 else "ok"
        metrics = {"test/loss": loss, "test/bleu": 10 - loss, "test/same": 1.0}
        write_job(folder, number, [f"model.dim={number}"], status, score=10.0 - number, metrics=metrics)
    found = collect(folder)
    table = jobs_table(found, Columns(found), folder)
    best = {
        label: [place for place, row in enumerate(table.rows) if row[column].looks == "best"]
        for column, (label, _) in enumerate(table.head)
    }
    assert best["test/loss"] == [1]
    assert best["best validation/bleu"] == [0]
    assert best["test/same"] == []


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        *(("test/loss", True), ("validation/perplexity", True), ("test/calibration_error", True), ("test/wer", True)),
        *(("test/bleu", False), ("best validation/accuracy", False), ("test/closeness", False), ("test/terms", False)),
        *(("wall_seconds", True), ("parameters", True), ("tokens_per_second", False)),
    ],
)
def test_directions(name: str, lower: bool) -> None:
    assert is_lower_better(name) is lower


def test_figures_as_texts() -> None:
    assert [metric_text(value) for value in (31.0, 0.95, 2267.6, 123456.7, 0.0)] == [
        *("31.00", "0.9500", "2268", "123\u202f457", "0.000"),
    ]
    assert [cost_text("wall_seconds", value) for value in (8.91, 59.99, 725, 3600, 11220)] == [
        *("8.91\u202fs", "60\u202fs", "12\u202fmin 05\u202fs", "1\u202fh 00\u202fmin", "3\u202fh 07\u202fmin"),
    ]


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 10**400, [1]])
def test_no_number(value: object) -> None:
    assert as_number(value) is None


# Curves


def test_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = "".join(f"{step},train/loss,{1 / step}\n{step},train/accuracy,1\n" for step in range(1, 5001))
    path.write_text(f"step,metric,value\n{rows}5001,train/lo", encoding="utf-8")
    curve = read_curves(path, ["train/loss", "validation/bleu"], Notes())["train/loss"]
    assert len(curve.steps) == len(set(curve.steps)) == 400
    assert (curve.steps[0], curve.steps[-1]) == (1, 5000)
    assert curve.values == [1 / step for step in curve.steps]
    assert curve.seconds == []


def test_many_curves_have_few_points(tmp_path: Path) -> None:
    assert [points_for(curves) for curves in (0, 1, 75, 100, 300, 10_000)] == [400, 400, 400, 300, 100, 50]
    path = tmp_path / "metrics.csv"
    path.write_text("step,metric,value\n" + "".join(f"{step},train/loss,1\n" for step in range(51)))
    assert len(read_curves(path, ["train/loss"], Notes(), 50)["train/loss"].steps) == 50


def test_curves_have_time_where_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,metric,value,seconds\n1,train/loss,2,0.5\n2,train/loss,nan,0.75\n3,train/loss,1,1.5\n")
    curve = read_curves(path, ["train/loss"], Notes())["train/loss"]
    assert (curve.steps, curve.values, curve.seconds) == ([1, 3], [2.0, 1.0], [0.5, 1.5])


# The table for programs


def test_the_csv_has_every_figure_to_the_last_digit(sweep: Path) -> None:
    job = write_job(
        sweep, 7, ["attention=window", "seed=9"], score=27.123456789012345, metrics={"test/chrf": 0.1 + 0.2}
    )
    write_report(sweep, sweep)
    rows = rows_of(sweep)
    assert len(rows) == 8
    last = rows[-1]
    assert (last["run"], last["attention"], last["seed"], last["status"]) == (job.name, "window", "9", "ok")
    assert float(last["best validation/bleu"]) == 27.123456789012345
    assert float(last["test/chrf"]) == 0.1 + 0.2
    assert last["parameters"] == "100000"
    assert rows[0]["test/chrf"] == ""
    assert rows[4]["reason"] == "OutOfMemory: lower batch.tokens"


def test_a_spreadsheet_runs_nothing_of_the_csv(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    write_job(folder, 0, ["note==HYPERLINK(1)", "model.dim=-1.5"], "failed", "@SUM(1)\nand more")
    write_job(folder, 1, ["note=+1+cmd", "model.dim=2"], "failed", "-none")
    write_report(folder, folder)
    one, two = rows_of(folder)
    assert (one["note"], one["model.dim"], one["reason"]) == ("'=HYPERLINK(1)", "-1.5", "'@SUM(1)\nand more")
    assert (two["note"], two["reason"]) == ("'+1+cmd", "'-none")


# Strangers


def test_nothing_of_a_run_becomes_markup(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / f"s{SCRIPT.replace('/', '_')}", fixed=[SCRIPT], dimensions={SCRIPT: [1]})
    for number in range(2):
        words = [f"{SCRIPT[:40]}={number}", f"note={SCRIPT}{number}"]
        write_job(folder, number, words, score=1.0 + number, metrics={f"test/{SCRIPT}": 1.0}, maps={"<b>0": "red"})
    write_job(folder, 2, [f"note={SCRIPT}"], "failed", SCRIPT + "\x1b[31m\u2028\x00 end")
    write_job(folder, 3, [], f"bad{SCRIPT}")
    for job in folder.iterdir():
        if job.is_dir() and (job / "summary.json").is_file():
            summary = json.loads((job / "summary.json").read_text())
            changed = summary | {"task": SCRIPT, "monitor": f"validation/{SCRIPT}", f"{SCRIPT}_per_second": 1.0}
            (job / "summary.json").write_text(json.dumps(changed))
    write_report(folder, tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert [attributes.get("type") for tag, attributes in page.elements if tag == "script"] == [
        *("application/json", "text/plain", None),
    ]
    sources = [attributes["src"] or "" for tag, attributes in page.elements if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/") for source in sources)
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert "window.harmed" in page.text, "it is shown, as text"
    assert "{{ 7 * 7 }}" in page.text
    assert "\x1b" not in page.text
    assert "\x00" not in page.text


@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=5))
def test_json_in_a_page_is_what_it_was(data: object) -> None:
    text = as_json(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == data


def test_no_address_in_the_page_but_its_own(sweep: Path) -> None:
    write_job(sweep, 7, ["seed=1"], "failed", "see https://example.org/?x=1")
    write_report(sweep, sweep)
    elements = page_of(sweep).elements
    leading = [attributes[name] or "" for _, attributes in elements for name in ("href", "src") if name in attributes]
    assert len(leading) > 7
    assert all(address.startswith(("./", "data:")) for address in leading)
    policy = next(attributes for _, attributes in elements if attributes.get("http-equiv"))
    assert "default-src 'none'" in (policy["content"] or "")
    assert "unsafe-inline" not in (policy["content"] or "").partition("style-src")[0]


def test_lone_surrogates_and_undecodable_names(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    job = write_job(folder, 0, ["note=\ud800", "seed=1"], score=1.0)
    try:
        os.rename(os.fsencode(job), os.fsencode(folder) + b"/0_\xff'\"")
    except OSError:
        pytest.skip("this file system takes no such name")
    write_job(folder, 1, ["note=b"], score=2.0)
    write_report(folder, folder)
    links = [attributes["href"] or "" for tag, attributes in page_of(folder).elements if tag == "a"]
    assert "./0_%FF%27%22" in links
    assert rows_of(folder)[0]["note"] == "·"


def test_the_terminal_is_sent_no_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "s")
    for number in range(2):
        write_job(folder, number, [f"note=\x1b[2J{number}"], score=1.0 + number)
    assert main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "note=·[2J1" in out
    assert "\x1b" not in out


# The command


def test_the_command_says_where_and_what_is_best(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(sweep), f"output={tmp_path / 'else' / 'where'}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"report: {tmp_path}/else/where/report.html",
        f"table:  {tmp_path}/else/where/report.csv",
        "best by validation/bleu: 2: attention=multihead, seed=3 with 32.00, test/bleu 30.50",
        "2 of 7 did not end well: see the top of the report",
    ]
    assert not (sweep / "report.html").exists()
    links = {attributes["href"] for tag, attributes in page_of(tmp_path / "else" / "where").elements if tag == "a"}
    assert "./../../attentions/4_job" in links


def test_a_job_folder_has_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    write_run(tmp_path / "3_attention=window", ["attention=window"], score=1.0)
    assert main(["report", str(tmp_path / "3_attention=window")]) == 0
    assert "1 run: 1 ok" in " ".join(page_of(tmp_path / "3_attention=window").text.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no folder is given: attnbuild report outputs/sweeps/NAME"),
        (["s", "t"], "one folder at a time, not 2"),
        (["s", "outptu=x"], "unknown word 'outptu=x'; did you mean 'output'?"),
        (["s", "-m"], "unknown flag '-m'"),
        (["s", "output="], "output= takes one folder"),
        (["s", "output=a", "output=b"], "output= takes one folder"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["file"], "file: is no folder"),
        (["empty"], "empty: is neither a sweep nor a folder of runs"),
        (["s", "output=file/below"], "cannot write to file/below"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path / "s")
    Path("empty/below").mkdir(parents=True)
    Path("file").touch()
    assert main(["report", *words]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    assert "output=DIR" in capsys.readouterr().out


def test_missing_packages_are_named_with_the_cure(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbuild.sweeps.report.page.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the packages plotly and jinja2: pip install 'attnbuild\[sweeps\]'"):
        write_report(sweep, sweep)
    assert not (sweep / "report.html").exists()


def test_a_collection_is_not_changed_by_its_report(sweep: Path) -> None:
    before = sorted(path.relative_to(sweep) for path in sweep.rglob("*"))
    write_report(sweep, sweep)
    after = sorted(path.relative_to(sweep) for path in sweep.rglob("*"))
    assert {*map(str, {*after} - {*before})} == {"report.html", "report.csv"}
    again: Collection = collect(sweep)
    assert len(again.jobs) == 7
