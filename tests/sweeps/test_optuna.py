"""sweeper=optuna: choices that follow from results, pruning, and studies that survive whatever ends a sweep."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="optuna is not installed: pip install 'attnbuild[sweeps]'")

import optuna

from attnbuild.cli.main import main
from attnbuild.errors import ConfigError, Problem
from attnbuild.sections import Sweep as Settings
from attnbuild.sweeps import run as sweeps_run
from attnbuild.sweeps.plan import Planner
from attnbuild.sweeps.run import Sweep
from attnbuild.sweeps.space import Dimension, Interval, combinations
from attnbuild.sweeps.status import Status
from attnbuild.sweeps.sweepers.base import SweeperPlace
from attnbuild.sweeps.sweepers.optuna import STUDY, Optuna
from attnbuild.sweeps.sweepers.random import Random
from attnbuild.training.run import RunFolder

RATE = Dimension("optimizer.lr", Interval(1e-4, 1e-1, log=True))
DROPOUT = Dimension("model.dropout", Interval(0, 0.5))
ATTENTION = Dimension("attention", ("multihead", "window", "topk"))
WINDOW = Dimension("attention.window", ("4", "8", "12"), when={"attention": ("window",)})
WIDTH = Dimension("model.dim", Interval(1, 64, integer=True, log=True))

SPACE = [ATTENTION, WINDOW, RATE, WIDTH]
STEPS = 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Studies of tests need not survive a power cut, nor do their sweeps wait."""
    connect = sqlite3.connect

    def without_sync(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", without_sync)
    monkeypatch.setattr(sweeps_run, "_LOOK_EVERY", 0.0)


def parabola(chosen) -> float:
    return -((math.log10(float(chosen["optimizer.lr"])) + 2.3) ** 2) - 10 * (float(chosen["model.dropout"]) - 0.15) ** 2


def followed(sweeper, score=parabola, status="ok") -> list[dict[str, str]]:
    """All proposals of a sweeper whose jobs end with that score."""
    found = []
    while proposals := sweeper.ask(1):
        (proposal,) = proposals
        found.append(dict(proposal.chosen))
        sweeper.tell(proposal, status, score(proposal.chosen))
    return found


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{folder / STUDY}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in trials_of(folder)]


# Choosing


def test_it_finds_the_top_of_a_parabola(tmp_path):
    """Better than chance with as many trials, and nearer and nearer."""
    place = SweeperPlace([RATE, DROPOUT], tmp_path)
    scores = [parabola(chosen) for chosen in followed(Optuna(place, trials=40, seed=1))]
    by_chance = [parabola(proposal.chosen) for proposal in Random(place, trials=40, seed=1).ask(0)]
    assert len(scores) == 40
    assert max(scores) > -0.02
    assert sum(scores[20:]) / 20 > sum(by_chance) / 40 / 2, "half as far below the top, on average"


def test_the_study_holds_what_was_typed(tmp_path):
    """Values are rounded once, for the command and for the study."""
    floats = Dimension("a", Interval(0.123456789, 0.987654321))
    even, names = Dimension("b", ("4", "8", "12")), Dimension("c", ("4", "8", "64"))
    followed(
        Optuna(SweeperPlace([floats, even, names, WIDTH], tmp_path), trials=6, startup_trials=2), lambda chosen: 1.0
    )
    for trial in trials_of(tmp_path):
        chosen = trial.user_attrs["chosen"]
        assert {key: str(value) for key, value in trial.params.items()} == chosen
        assert 0.123456789 <= trial.params["a"] <= 0.987654321
        assert len(chosen["a"]) <= 11
        assert isinstance(trial.params["b"], int)
        assert isinstance(trial.params["c"], str)


def test_conditions_hold(tmp_path):
    found = followed(Optuna(SweeperPlace(SPACE, tmp_path), trials=20, startup_trials=4), lambda chosen: len(chosen))
    assert all(("attention.window" in chosen) == (chosen["attention"] == "window") for chosen in found)
    assert sum("attention.window" in chosen for chosen in found) > 8, (
        "it is what scores, and by chance comes once in three"
    )


def test_the_same_command_chooses_the_same(tmp_path):
    whole = followed(Optuna(SweeperPlace([RATE, DROPOUT], tmp_path / "a"), trials=8, startup_trials=3))
    for trials in (4, 5, 8):  # in three calls
        parts = followed(Optuna(SweeperPlace([RATE, DROPOUT], tmp_path / "b"), trials=trials, startup_trials=3))
        assert parts == whole[-len(parts) :] or parts == whole[:4] or parts == whole[4:5]
    assert followed(Optuna(SweeperPlace([RATE, DROPOUT], tmp_path / "b"), trials=8)) == []
    other = followed(Optuna(SweeperPlace([RATE, DROPOUT], tmp_path / "c"), trials=3, seed=1))
    assert other[0] != whole[0]


def test_a_finite_space_is_tried_once_and_then_it_ends(tmp_path):
    sweeper = Optuna(SweeperPlace([ATTENTION, WINDOW], tmp_path), trials=50, startup_trials=1)
    found = followed(sweeper, lambda chosen: 1.0)
    assert len(found) == 5
    assert all(chosen in found for chosen in combinations([ATTENTION, WINDOW]))
    assert "all of the 5 combinations were tried" in sweeper.remark


def test_what_cannot_work_is_never_proposed(tmp_path):
    place = SweeperPlace([ATTENTION, RATE], tmp_path, lambda chosen: chosen["attention"] == "topk")
    found = followed(Optuna(place, trials=4, startup_trials=2), lambda chosen: 1.0)
    assert [chosen["attention"] for chosen in found] == ["topk"] * 4
    assert states(tmp_path).count("COMPLETE") == 4
    assert {trial.user_attrs["dropped"] for trial in trials_of(tmp_path) if trial.state.name == "FAIL"} == {"invalid"}


def test_where_nothing_works_the_search_ends(tmp_path):
    built = []
    sweeper = Optuna(SweeperPlace([RATE], tmp_path, lambda chosen: built.append(chosen) is not None), trials=5)
    assert sweeper.ask(1) == []
    assert len(built) <= 28
    assert "cannot work" in sweeper.remark
    # And where it is the machine that cannot.
    sweeper = Optuna(SweeperPlace([RATE], tmp_path), trials=5)
    assert len(followed(sweeper, lambda chosen: None, "invalid")) == 20
    assert "came to nothing" in sweeper.remark


def test_failed_jobs_use_up_the_call_and_not_the_study(tmp_path):
    place = SweeperPlace([ATTENTION, WINDOW], tmp_path)
    assert len(followed(Optuna(place, trials=3), lambda chosen: None, "failed")) == 3
    assert len(followed(Optuna(place, trials=3), lambda chosen: math.nan)) == 3
    failed = [trial for trial in trials_of(tmp_path) if "dropped" not in trial.user_attrs]
    assert [trial.state.name for trial in failed] == ["FAIL"] * 6
    assert len(followed(Optuna(place, trials=5), lambda chosen: 1.0)) == 5, "failed ones may come again"


def test_jobs_side_by_side_differ(tmp_path):
    sweeper = Optuna(SweeperPlace([RATE, DROPOUT], tmp_path), trials=6, startup_trials=0)
    proposals = sweeper.ask(4)
    assert len({tuple(proposal.chosen.items()) for proposal in proposals}) == 4
    assert len(sweeper.ask(4)) == 2, "and there are no more than trials"


def test_a_wider_space_keeps_what_is_known(tmp_path):
    few = Dimension("attention", ("multihead", "window"))
    known = followed(Optuna(SweeperPlace([few], tmp_path, about="same"), trials=9), lambda chosen: 1.0)
    assert len(known) == 2
    half_done = Optuna(SweeperPlace([RATE], tmp_path, about="other"), trials=9).ask(1)
    wider = followed(Optuna(SweeperPlace([ATTENTION], tmp_path, about="same"), trials=9), lambda chosen: 1.0)
    assert wider == [{"attention": "topk"}]
    narrow = Dimension("optimizer.lr", Interval(1e-5, 1e-0, log=True))
    (again,) = Optuna(SweeperPlace([narrow], tmp_path, about="other"), trials=9).ask(1)
    assert again.chosen == half_done[0].chosen, "half done jobs are taken over too"
    other = followed(Optuna(SweeperPlace([ATTENTION], tmp_path, about="else"), trials=9), lambda chosen: 1.0)
    assert len(other) == 3, "jobs that share something else are not compared"


def test_what_is_tried_out_beforehand_stands_for_all(tmp_path):
    sweeper = Optuna(SweeperPlace(SPACE, tmp_path))
    found = [dict(proposal.chosen) for proposal in sweeper.sample_for_check()]
    assert found == list(combinations(SPACE))
    assert not (tmp_path / STUDY).exists(), "a sweep that is refused leaves nothing behind"
    assert (
        len(Optuna(SweeperPlace([Dimension(f"x{i}", ("1", "2")) for i in range(9)], tmp_path)).sample_for_check()) == 64
    )


# A study and its surroundings


def test_without_optuna_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'attnbuild\[sweeps\]'"):
        Optuna(SweeperPlace(SPACE, tmp_path))


def test_a_damaged_study_is_named(tmp_path):
    (tmp_path / STUDY).write_text("no database at all, but long enough to be read as one" * 40)
    with pytest.raises(ConfigError, match="move it away") as caught:
        Optuna(SweeperPlace(SPACE, tmp_path)).ask(1)
    assert str(tmp_path / STUDY) in str(caught.value)


def test_nothing_is_said_on_the_terminal(tmp_path, capfd, recwarn):
    folder = tmp_path / "a folder? with #signs %20"
    followed(Optuna(SweeperPlace([RATE, DROPOUT], folder), trials=4, startup_trials=1, pruner="hyperband"))
    assert (folder / STUDY).is_file()
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


# Whole sweeps, with jobs that only pretend to train


def compose(words: list[str], folder: Path) -> dict:
    """What the words say; a width of 13 and more, or window 12, cannot work."""
    config = dict(word.split("=", 1) for word in words)
    if config.get("attention.window") == "12":
        raise ConfigError([Problem("attention.window", "12 is too much")])
    return {**config, "paths": {"outputs": str(folder)}}


def score_at(config: dict, step: int) -> float:
    """Learning curves that do not cross: topk is best."""
    best = {"multihead": 1.0, "window": 2.0, "topk": 3.0}[config.get("attention", "topk")]
    return best * step / STEPS - (math.log10(float(config.get("optimizer.lr", 0.01))) + 2) ** 2 / 100


class Pretended:
    """Trains a validation at each look; a job that is started again goes on where its folder says it was."""

    waits, detaches, dry_run = True, False, False

    def __init__(self, jobs: int = 1, on_step=lambda job: None) -> None:
        self.jobs = jobs
        self.on_step = on_step
        self.under_way: dict[Path, bool] = {}
        self.trained: list[tuple[str, int]] = []

    def check(self, job):
        return []

    def room(self):
        return len(self.under_way) < self.jobs

    def ready(self, job):
        return self.room()

    def adopt(self, job):
        return False

    def start(self, job):
        assert job.folder not in self.under_way
        self.under_way[job.folder] = False
        self._settle(job, "running")

    def cancel(self, job):
        self.under_way[job.folder] = True

    def poll(self, job):
        self.on_step(job)
        done = self._validations(job)
        if self.under_way[job.folder]:
            status = "interrupted"
        elif len(done) < STEPS:
            done.append([len(done) + 1, score_at(job.config, len(done) + 1)])
            self.trained.append((job.name, len(done)))
            RunFolder(job.folder).write_text("progress.json", json.dumps({"validations": done}))
            return False
        else:
            status = "ok"
        del self.under_way[job.folder]
        self._settle(job, status, max((score for _, score in done), default=None))
        return True

    @staticmethod
    def _validations(job) -> list:
        file = job.folder / "progress.json"
        return json.loads(file.read_text())["validations"] if file.is_file() else []

    @staticmethod
    def _settle(job, name: str, score: float | None = None) -> None:
        status = Status.read(job.folder) or Status()
        status.status = name
        status.attempts += name == "running"
        status.figures = {"score": score} if score is not None else {}
        status.write(job.folder)


def sweep(folder: Path, launcher: Pretended, space=SPACE, invalid="skip", **options) -> Sweep:
    planner = Planner(folder, [], space, compose)
    sweeper = Optuna(SweeperPlace(space, folder, planner.works), **options)
    settings = Settings(name=None, on_failure="continue", invalid=invalid, space={})
    return Sweep(folder, settings, planner, sweeper, launcher, [])


def jobs_in(folder: Path) -> dict[str, Status]:
    return {path.name: Status.read(path) for path in folder.iterdir() if path.is_dir()}


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_what_falls_behind_is_pruned(tmp_path, capsys, pruner):
    launcher = Pretended()
    assert sweep(tmp_path, launcher, [ATTENTION, RATE], trials=14, startup_trials=4, pruner=pruner).run() == 0
    jobs = jobs_in(tmp_path)
    assert len(jobs) == 14
    pruned = {name for name, status in jobs.items() if status.status == "pruned"}
    assert {trial.state.name for trial in trials_of(tmp_path)} == {"COMPLETE"} | ({"PRUNED"} if pruned else set())
    assert len(pruned) == states(tmp_path).count("PRUNED")
    if pruner == "none":
        assert not pruned
        return
    assert pruned
    assert not any("topk" in name for name in pruned) or pruner == "hyperband"
    steps = {name: max(step for job, step in launcher.trained if job == name) for name in jobs}
    assert {steps[name] for name in jobs.keys() - pruned} == {STEPS}
    assert max(steps[name] for name in pruned) < STEPS, "pruned ones ended early"
    best = max(trials_of(tmp_path), key=lambda trial: trial.value if trial.state.name == "COMPLETE" else -9)
    assert best.user_attrs["chosen"]["attention"] == "topk"


def test_nothing_is_pruned_before_the_warm_up(tmp_path, capsys):
    launcher = Pretended()
    sweep(tmp_path, launcher, [ATTENTION, RATE], trials=12, startup_trials=3, warmup_steps=3).run()
    pruned = {name for name, status in jobs_in(tmp_path).items() if status.status == "pruned"}
    assert pruned
    assert {max(step for job, step in launcher.trained if job == name) for name in pruned} == {3}


def test_a_finished_sweep_does_nothing_more(tmp_path, capsys):
    sweep(tmp_path, Pretended(), trials=4).run()
    launcher = Pretended()
    assert sweep(tmp_path, launcher, trials=4).run() == 0
    assert launcher.trained == []
    launcher = Pretended()
    sweep(tmp_path, launcher, trials=6).run()
    assert len({name for name, _ in launcher.trained}) == 2


def test_jobs_that_are_done_are_recognised_without_the_study(tmp_path, capsys):
    sweep(tmp_path, Pretended(), trials=4, pruner="none").run()
    before = jobs_in(tmp_path).keys()
    (tmp_path / STUDY).unlink()
    launcher = Pretended()
    assert sweep(tmp_path, launcher, trials=4, pruner="none").run() == 0
    assert launcher.trained == []
    assert jobs_in(tmp_path).keys() == before
    assert states(tmp_path).count("COMPLETE") == 4


def test_what_cannot_work_is_told_before_the_first_job(tmp_path, capsys):
    launcher = Pretended()
    with pytest.raises(ConfigError) as caught:
        sweep(tmp_path / "new", launcher, invalid="refuse", trials=4).run()
    assert "attention=window attention.window=12 optimizer.lr=0.0001 model.dim=1 " in str(caught.value)
    assert "4 of 20 combinations cannot work; sweep.invalid=skip leaves them out" in str(caught.value)
    assert launcher.trained == []
    assert not (tmp_path / "new").exists()
    assert sweep(tmp_path, launcher, [ATTENTION, WINDOW], trials=9).run() == 0
    said = capsys.readouterr().err
    assert "1 of 5 combinations that were tried out cannot work and are never chosen" in said
    assert "all of the 5 combinations were tried" in said
    assert sorted(status.number for status in jobs_in(tmp_path).values()) == [0, 1, 2, 3]


def test_an_interrupted_sweep_goes_on_with_its_jobs(tmp_path, capsys):
    def interrupt(job):
        if len(launcher.trained) == 6:
            launcher.on_step = lambda job: None
            raise KeyboardInterrupt

    launcher = Pretended(jobs=2, on_step=interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, launcher, trials=5, pruner="none").run()
    open_jobs = {name for name, status in jobs_in(tmp_path).items() if status.status == "interrupted"}
    assert len(open_jobs) == 2
    assert states(tmp_path).count("RUNNING") == 2
    again = Pretended(jobs=2)
    assert sweep(tmp_path, again, trials=5, pruner="none").run() == 0
    assert {name for name, _ in again.trained} >= open_jobs
    assert states(tmp_path).count("COMPLETE") == len(jobs_in(tmp_path)) == 5
    trained = launcher.trained + again.trained
    assert len(trained) == len(set(trained)) == 5 * STEPS, "no step was trained twice"


def killed_after(folder: Path, count: int) -> bool:
    """A sweep in a process that is killed after so many writes, of the study or of a job; whether it came that far."""
    process = os.fork()
    if process == 0:
        left = count

        def tick() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        class Counting(sqlite3.Connection):
            def commit(self) -> None:
                super().commit()
                tick()

        write = RunFolder.write_text

        def counting(self, name, text):
            path = write(self, name, text)
            tick()
            return path

        try:
            RunFolder.write_text = counting
            connect = sqlite3.connect
            sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Counting, **options)
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            sweep(folder, Pretended(jobs=2), trials=4, startup_trials=1).run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("every", [40, pytest.param(3, marks=pytest.mark.slow)])
def test_a_study_survives_kill_9_at_any_point(tmp_path, capsys, every):
    count, points = 1, 0
    while killed_after(folder := tmp_path / str(count), count):
        launcher = Pretended(jobs=2)
        assert sweep(folder, launcher, trials=4, startup_trials=1).run() == 0, count
        jobs = jobs_in(folder)
        found = states(folder)
        assert "RUNNING" not in found
        assert "WAITING" not in found
        assert found.count("COMPLETE") + found.count("PRUNED") == 4, count
        assert sorted(status.status for status in jobs.values()).count("ok") == found.count("COMPLETE"), count
        assert {status.status for status in jobs.values()} <= {"ok", "pruned"}, count
        assert len(jobs) == 4, count
        chosen = [trial.user_attrs["chosen"] for trial in trials_of(folder) if trial.state.name != "FAIL"]
        assert len({tuple(sorted(one.items())) for one in chosen}) == 4, count
        count, points = count + every, points + 1
    assert points > 120 // every


@pytest.mark.slow
def test_a_real_sweep(tmp_path, monkeypatch, capsys):
    """Three jobs, each a process that trains; and the same command again."""
    monkeypatch.chdir(tmp_path)
    words = [
        *("train", "-m", "sweeper=optuna", "sweeper.trials=3", "sweeper.startup_trials=1", "sweep.name=mine"),
        *("optimizer.lr=tag(log,interval(1e-4,1e-2))", "decoder.layers=1,2", "encoder.layers=1", "logger=csv"),
        *("data.train=200", "data.validation=4", "data.test=4", "model.dim=16", "attention.heads=2", "search=greedy"),
        *("tokenizer=char", "validation.maps=0", "batch.tokens=256", "batch.max_length=40"),
        *("trainer.max_steps=2", "validation.every=1", "average=none", "callbacks=none"),
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "3 ok" in said.out
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    trials = trials_of(folder)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    for trial, status in zip(trials, sorted(jobs_in(folder).values(), key=lambda status: status.number), strict=True):
        assert status.trial == trial.number
        assert status.figures["score"] == trial.value
        assert status.overrides == [f"{key}={value}" for key, value in trial.user_attrs["chosen"].items()]
        assert set(trial.intermediate_values) == {1, 2}
    assert main(words) == 0
    assert len(jobs_in(folder)) == 3
