"""``attnbuild report`` in a real browser: what is drawn, what a click does, and that nothing leaves the machine."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnbuild.sweeps.report.page import write_report
from tests.sweeps.browser import Browser, missing, open_browser
from tests.sweeps.report_runs import write_job, write_sweep

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "nothing")

HARM = "</script><script>window.harmed=1</script><img src=http://192.0.2.1/x onerror='window.harmed=2'>"
LINK = "<a href='javascript:window.harmed=3'>x</a><b>bold</b>%{x}"

#: attention -> test BLEU by seed, tokens/s, parameters.
RESULTS = {
    "multihead": ((30.0, 31.0), 1000.0, 900),
    "window": ((29.0, 27.0), 2000.0, 800),
    f"own{HARM}{LINK}": ((26.0, 26.0), 1500.0, 700),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as window:
        yield window


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with seeds, a failure, curves against time and maps; full of markup."""
    folder = write_sweep(tmp_path_factory.mktemp("sweeps") / "attentions")
    number = itertools.count()
    for attention, (scores, speed, parameters) in RESULTS.items():
        for seed, score in enumerate(scores):
            words = [f"attention={attention}", f"seed={seed}"]
            maps = {"sentence-0": "red", "sentence-1": "blue"}
            figures = {"speed": speed, "parameters": parameters, "seconds": 100 * score, "timed": True}
            samples = [("one", "eins"), ("two", "zwei")]
            write_job(folder, next(number), words, score=score, maps=maps, samples=samples, **figures)
    write_job(folder, next(number), ["attention=multihead", "seed=7"], "failed", HARM)
    write_report(folder, folder)
    return folder


@pytest.fixture
def page(browser: Browser, sweep: Path) -> Browser:
    """The page, opened where another test has not; each test sets what it depends on."""
    if browser.run("return location.href") != (sweep / "report.html").as_uri():
        browser.open(sweep / "report.html")
    return browser


def column(page: Browser, name: str) -> list[str]:
    """The texts of a column of the table of runs, from top to bottom."""
    script = """
        const table = document.querySelector("#jobs table");
        const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === NAME);
        return [...table.tBodies[0].rows].map((row) => row.cells[place].firstChild?.textContent ?? "");"""
    return page.run(script.replace("NAME", json.dumps(name)))


def click(page: Browser, name: str) -> str:
    """Click the head of a column; what it then says about its order."""
    script = """
        const heads = [...document.querySelectorAll("#jobs thead th")];
        const head = heads.find((cell) => cell.textContent === NAME);
        head.querySelector("button").click();
        return head.getAttribute("aria-sort");"""
    return page.run(script.replace("NAME", json.dumps(name)))


def choose(page: Browser, element: str, value: str | bool) -> None:
    kind = "checked" if isinstance(value, bool) else "value"
    script = f"const one = document.getElementById({element!r}); one.{kind} = {json.dumps(value)};"
    page.run(f"{script} one.dispatchEvent(new Event('change'));")


def drawn(page: Browser, plot: str) -> list[dict[str, object]]:
    """The traces of a plot."""
    wanted = "({name, x, y, mode}) => ({name, x: [...x], y: [...y], mode})"
    return page.run(f"return document.getElementById({plot!r}).data.map({wanted})")


def test_nothing_is_asked_for_and_nothing_complained_about(browser: Browser, sweep: Path) -> None:
    browser.requests()
    browser.console()
    browser.open(sweep / "report.html")
    browser.run("document.querySelectorAll('.modebar-btn').forEach((one) => one.dispatchEvent(new Event('mouseover')))")
    assert browser.requests() == [(sweep / "report.html").as_uri()]
    assert browser.console() == []


def test_the_page_may_ask_for_nothing(page: Browser) -> None:
    """Were something to slip through, the policy of the page would stop it."""
    page.run("""
        const picture = new Image();
        const script = document.createElement("script");
        picture.src = "http://192.0.2.1/one.png";
        script.textContent = "window.harmed = 9";
        document.body.append(picture, script);
        picture.remove();
        script.remove();""")
    assert page.run("return window.harmed ?? null") is None
    told = page.console()
    assert len(told) == 2, told
    assert all("Content Security Policy" in line for line in told)
    assert not [address for address in page.requests() if "192.0.2.1" in address]


def test_texts_of_runs_are_only_texts(page: Browser) -> None:
    assert page.run("return window.harmed ?? null") is None
    assert page.run("return document.querySelectorAll('img[src^=http], svg a, svg [style*=bold]').length") == 0
    assert HARM in page.run("return document.querySelector('#failures pre').textContent")
    names = page.run("return [...document.querySelectorAll('#curves-score .legendtext')].map((one) => one.textContent)")
    assert any("<script>" in name for name in names)


def test_plots_are_drawn(page: Browser) -> None:
    for plot in ("quality-plot", "curves-score", "curves-loss"):
        assert page.run(f"return document.querySelectorAll('#{plot} svg.main-svg .trace').length") > 0, plot
    assert page.run("return document.querySelectorAll('#curves-score .lines path.js-line').length") == 7
    # plotly's own choice of buttons has one that uploads the chart.
    titles = page.run("return [...document.querySelectorAll('.modebar-btn')].map((one) => one.dataset.title)")
    assert titles
    assert not [title for title in titles if "hare" in title or "loud" in title]


def test_tables_sort_on_click(page: Browser) -> None:
    assert column(page, "seed") == ["0", "1", "0", "1", "0", "1", "7"]
    assert click(page, "test/bleu") == "ascending"
    assert column(page, "test/bleu") == ["24.50", "24.50", "25.50", "27.50", "28.50", "29.50", ""]
    assert click(page, "test/bleu") == "descending"
    assert column(page, "test/bleu") == ["29.50", "28.50", "27.50", "25.50", "24.50", "24.50", ""], "unknown stays last"
    assert click(page, "attention") == "ascending"
    assert [name[:3] for name in column(page, "attention")] == ["mul"] * 3 + ["own"] * 2 + ["win"] * 2
    assert page.run("return document.querySelectorAll('#jobs th[aria-sort]').length") == 1


def front(points: list[tuple[float, float]], lower_cost: bool, lower_quality: bool) -> set[tuple[float, float]]:
    """By definition: the points that no other is at least as good as in both, and better in one."""
    signed = {
        point: ((1 if lower_cost else -1) * point[0], (1 if lower_quality else -1) * -point[1]) for point in points
    }
    return {
        point
        for point, (cost, quality) in signed.items()
        if not any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in signed.values())
    }


@pytest.mark.parametrize("cost", ["wall_seconds", "tokens_per_second"])
@pytest.mark.parametrize("lower", [False, True])
def test_the_front_is_what_no_run_beats(page: Browser, cost: str, lower: bool) -> None:
    choose(page, "quality-metric", "test/bleu")
    choose(page, "quality-cost", cost)
    choose(page, "quality-lower", lower)
    choose(page, "quality-means", False)
    traces = drawn(page, "quality-plot")
    points = [point for trace in traces[:-1] for point in zip(trace["x"], trace["y"], strict=True)]
    assert len(points) == 6
    line = traces[-1]
    assert line["name"] == "Pareto front"
    assert set(zip(line["x"], line["y"], strict=True)) == front(points, cost != "tokens_per_second", lower)
    assert "On the front" in page.run("return document.getElementById('quality-front').textContent")


def test_means_over_seeds_with_their_deviation(page: Browser) -> None:
    choose(page, "quality-metric", "test/bleu")
    choose(page, "quality-cost", "parameters")
    choose(page, "quality-means", True)
    traces = drawn(page, "quality-plot")
    assert [(trace["x"], trace["y"]) for trace in traces[:2]] == [([900], [29]), ([800], [26.5])]
    bars = page.run(
        "return document.getElementById('quality-plot').data.slice(0, 2).map((one) => [...one.error_y.array])"
    )
    assert bars == [[pytest.approx(0.5**0.5)], [pytest.approx(2**0.5)]]


def test_the_direction_follows_the_metric(page: Browser) -> None:
    choose(page, "quality-metric", "test/loss")
    assert page.run("return document.getElementById('quality-lower').checked") is True
    choose(page, "quality-metric", "test/bleu")
    assert page.run("return document.getElementById('quality-lower').checked") is False


def test_curves_by_step_and_by_time(page: Browser) -> None:
    assert drawn(page, "curves-score")[0]["x"] == [*range(100, 1001, 100)]
    page.run("""
        const one = document.querySelector("input[value=seconds]");
        one.checked = true;
        one.dispatchEvent(new Event("change"));""")
    assert drawn(page, "curves-score")[0]["x"] == [*range(7, 71, 7)]
    assert len(drawn(page, "curves-loss")) == 6, "the job that failed has no time"


def test_one_example_at_a_time(page: Browser) -> None:
    shown = "return [...document.querySelectorAll('.example')].filter((one) => one.offsetParent).map((one) => one.id)"
    assert page.run(shown) == ["example-0"]
    assert page.run("return document.querySelectorAll('#example-0 img').length") == 3
    choose(page, "maps-example", "example-1")
    assert page.run(shown) == ["example-1"]
    assert page.run("return [...document.querySelectorAll('#example-1 img')].every((one) => one.naturalWidth === 240)")


def test_dark_and_light(page: Browser) -> None:
    def ink() -> str:
        return page.run("return document.getElementById('curves-score').layout.font.color")

    light = ink()
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    try:
        until = time.monotonic() + 20  # the browser tells the page in its own time
        while ink() == light and time.monotonic() < until:
            time.sleep(0.05)
        assert ink() != light
        page.run("window.dispatchEvent(new Event('beforeprint'))")
        assert ink() == light, "paper is white"
    finally:
        page.devtools("Emulation.setEmulatedMedia", features=[])


def test_a_sweep_without_a_finished_job(browser: Browser, tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    write_job(folder, 0, ["seed=1"], "waiting")
    write_report(folder, folder)
    browser.console()
    browser.open(folder / "report.html")
    assert browser.run("return document.getElementById('curves-score').textContent") == "Nothing yet."
    assert browser.console() == []
