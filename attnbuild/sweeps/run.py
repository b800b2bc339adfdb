"""A sweep from its jobs to its closing table: ``Sweep``."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from attnbuild.errors import AttnbuildError, ConfigError, Problem
from attnbuild.sections import Sweep as Settings
from attnbuild.sweeps.closing import closing_table, counted
from attnbuild.sweeps.launchers.base import Job, Launcher
from attnbuild.sweeps.plan import Planned, Planner
from attnbuild.sweeps.screen import Screen, open_screen, read_progress
from attnbuild.sweeps.status import BROKEN, FINISHED, Status
from attnbuild.sweeps.sweepers.base import Proposal, Sweeper
from attnbuild.training.lock import held
from attnbuild.training.run import RunFolder
from attnbuild.training.signals import sigterm_as_interrupt

__all__ = ["Sweep"]

#: Seconds between two looks at the jobs under way.
_LOOK_EVERY = 0.25

#: Proposals that are asked for at a time, where later ones depend on earlier ones.
_AHEAD = 1


@dataclass
class Sweep:
    """All jobs of one command.

    Args:
        folder: of the sweep.
        settings: its section of the config.
        planner: makes jobs of proposals.
        sweeper: proposes.
        launcher: starts.
        typed: what the user typed, for the record.
    """

    folder: Path
    settings: Settings
    planner: Planner
    sweeper: Sweeper
    launcher: Launcher
    typed: Sequence[str]
    waiting: deque[Planned] = field(default_factory=deque)
    under_way: list[Planned] = field(default_factory=list)
    seen: dict[Path, Planned] = field(default_factory=dict)
    finished_before: list[int] = field(default_factory=list)
    invalid: list[Planned] = field(default_factory=list)
    stopped: bool = False
    #: How many validations of each job under way the sweeper has heard of.
    _heard: dict[Path, int] = field(default_factory=dict)
    _pruned: set[Path] = field(default_factory=set)
    #: Of an adaptive sweep: how many combinations were tried out beforehand, and how many of them cannot work.
    _tried: tuple[int, int] = (0, 0)

    def run(self) -> int:
        """Run all jobs that are not finished; returns the exit code.

        Raises:
            ConfigError: some combinations cannot work, and ``sweep.invalid`` is refuse: before any job starts.
            KeyboardInterrupt: asked to stop; the jobs were asked to save, and have ended.
        """
        if self.sweeper.adaptive:
            self._require_results()
            self._try_out(self.sweeper.sample_for_check())
        else:
            self._take(self.sweeper.ask(0))
            self._refuse(self.invalid, len(self.invalid) + len(self.seen))
        if self.launcher.dry_run:
            self._describe()
            return 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(RunFolder(self.folder)):
            self._run_jobs()
        return AttnbuildError.exit_code if any(status.status in BROKEN for status in self._statuses()) else 0

    def _run_jobs(self) -> None:
        self._write_record()
        try:
            with sigterm_as_interrupt(), open_screen() as screen:
                self._announce(screen)
                self._loop(screen)
        finally:
            self._close()

    # Before the first job

    def _require_results(self) -> None:
        """Refuse to choose by results where nobody waits for them, or nothing gives any.

        Raises:
            ConfigError: the launcher leaves its jobs alone, or starts none.
        """
        message = "the sweeper chooses jobs by the results of others: leave it at {}, or take sweeper=random"
        if not self.launcher.waits:
            raise ConfigError(message.format("true"), "launcher.wait")
        if self.launcher.dry_run:
            raise ConfigError(message.format("false"), "launcher.dry_run")

    def _take(self, proposals: Sequence[Proposal]) -> None:
        """Plan proposals: those that can work wait to be started, unless they are finished or known."""
        for proposal in proposals:
            planned = self.planner.plan(proposal)
            problems = self._problems(planned)
            if planned.job is None or problems:
                self.invalid.append(Planned(proposal, planned.words, problems=problems))
                self.sweeper.tell(proposal, "invalid", None)
            elif planned.job.folder in self.seen:
                self.sweeper.tell(proposal, *_outcome(planned.job.folder))
            else:
                self.seen[planned.job.folder] = planned
                self._queue(planned, planned.job)

    def _queue(self, planned: Planned, job: Job) -> None:
        status = Status.read(job.folder)
        if status and status.status in FINISHED:
            self.finished_before.append(status.number)
            self.sweeper.tell(planned.proposal, *_outcome(job.folder))
        else:
            self.waiting.append(planned)

    def _problems(self, planned: Planned) -> tuple[Problem, ...]:
        return planned.problems or tuple(self.launcher.check(planned.job) if planned.job else ())

    def _try_out(self, proposals: Sequence[Proposal]) -> None:
        """Say which combinations cannot work where jobs are only chosen as results come.

        Raises:
            ConfigError: there are such combinations, and they are not to be skipped.
        """
        tried = [self.planner.try_out(proposal) for proposal in proposals]
        invalid = [replace(planned, problems=found) for planned in tried if (found := self._problems(planned))]
        self._refuse(invalid, len(tried))
        self._tried = len(tried), len(invalid)

    def _refuse(self, invalid: Sequence[Planned], total: int) -> None:
        """Say what cannot work, all together.

        Raises:
            ConfigError: there is something, and it is not to be skipped.
        """
        if not invalid or (self.settings.invalid == "skip" and len(invalid) < total):
            return
        problems = [
            Problem(" ".join(_plain(planned.words)), _told(planned.problems), "this combination") for planned in invalid
        ]
        advice = "" if len(invalid) == total else "; sweep.invalid=skip leaves them out"
        problems.append(Problem("sweep", f"{len(problems)} of {total} combinations cannot work{advice}"))
        raise ConfigError(problems)

    def _describe(self) -> None:
        """Print what would be started."""
        for planned in self.waiting:
            print(f"# {_job(planned).name}: {' '.join(_plain(planned.words))}\n{self.launcher.describe(_job(planned))}")

    def _write_record(self) -> None:
        """sweep.json: what was typed, and what differs between the jobs."""
        dimensions = {
            each.key: list(each.values) if isinstance(each.values, tuple) else vars(each.values)
            for each in self.planner.dimensions
        }
        record = {
            "name": self.folder.name,
            "typed": list(self.typed),
            "fixed": _plain(self.planner.fixed),
            "dimensions": dimensions,
            "invalid": [
                {"overrides": _plain(planned.words), "reason": _told(planned.problems)} for planned in self.invalid
            ],
        }
        RunFolder(self.folder).write_text("sweep.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def _announce(self, screen: Screen) -> None:
        jobs = f"{len(self.seen)} jobs" if not self.sweeper.adaptive else "jobs are chosen as results come"
        before = f", {len(self.finished_before)} of them finished before" if self.finished_before else ""
        skipped = f", {len(self.invalid)} combinations that cannot work left out" if self.invalid else ""
        tried, wrong = self._tried
        never = (
            f", {wrong} of {tried} combinations that were tried out cannot work and are never chosen" if wrong else ""
        )
        remark = f"; {self.sweeper.remark}" if self.sweeper.remark else ""
        screen.say(f"sweep: {self.folder} ({jobs}{before}{skipped}{never}{remark})")

    # While jobs run

    def _loop(self, screen: Screen) -> None:
        while True:
            for planned in list(self.under_way):
                self._look(planned, screen)
            self._fill(screen)
            if not self.under_way and (not self.waiting or self.stopped):
                if self.sweeper.adaptive and self.sweeper.remark:
                    screen.say(self.sweeper.remark)
                return
            if not self.launcher.waits and not self.waiting:
                screen.say("the jobs are on their way; the same command again tells how they stand")
                return
            screen.show([self._shown(planned) for planned in self.under_way], len(self.waiting))
            time.sleep(_LOOK_EVERY)

    def _fill(self, screen: Screen) -> None:
        """Start what can be started now."""
        while not self.stopped:
            if self.sweeper.adaptive:
                self._choose()
            if not self.waiting:
                return
            job = _job(self.waiting[0])
            if self.launcher.adopt(job):
                self.under_way.append(self.waiting.popleft())
            elif self.launcher.ready(job):
                self._start(self.waiting.popleft(), job, screen)
            else:
                return

    def _choose(self) -> None:
        """Ask for one more job when there is room for it, as late as can be: results may come in the meantime."""
        while self.launcher.room() and not self.waiting and (proposals := self.sweeper.ask(_AHEAD)):
            self._take(proposals)  # some cannot work, or are done

    def _start(self, planned: Planned, job: Job, screen: Screen) -> None:
        """Write the job's folder as it stands before it runs, and start it."""
        run = RunFolder(job.folder)
        resumed = run.last_checkpoint.is_file()
        if not resumed:
            run.create()
            run.write_config(job.config, _plain([*self.planner.fixed, *planned.words]))
        self._status_before(planned, job).write(job.folder)
        self.launcher.start(job)
        self.under_way.append(planned)
        if screen.live is None:
            screen.say(f"{_clock()} {job.name}: {'resumed' if resumed else 'started'}")

    def _status_before(self, planned: Planned, job: Job) -> Status:
        status = Status.read(job.folder) or Status(number=planned.number, slug=planned.slug, hash=planned.hash)
        status.status, status.reason = "waiting", None
        status.overrides = _plain(planned.words)
        status.trial = planned.proposal.trial
        return status

    def _look(self, planned: Planned, screen: Screen) -> None:
        """Hear of a job's validations, and of its end."""
        job = _job(planned)
        self._hear(planned, job)
        if not self.launcher.poll(job):
            return
        self._hear(planned, job, ended=True)
        self.under_way.remove(planned)
        if job.folder in self._pruned:
            _mark_pruned(job.folder)
        status, score = _outcome(job.folder)
        self.sweeper.tell(planned.proposal, status, score)
        self.stopped = self.stopped or (status in BROKEN and self.settings.on_failure == "stop")
        reason = (Status.read(job.folder) or Status()).reason
        shown = f" {score:.3f}" if score is not None else ""
        screen.say(f"{_clock()} {job.name}: {status}{shown}{f': {reason}' if reason else ''}")

    def _hear(self, planned: Planned, job: Job, ended: bool = False) -> None:
        if not self.sweeper.adaptive or job.folder in self._pruned:
            return
        validations = read_progress(job.folder).get("validations", [])
        for step, score in validations[self._heard.get(job.folder, 0) :]:
            if self.sweeper.watch(planned.proposal, step, score) and not ended:
                self._pruned.add(job.folder)
                self.launcher.cancel(job)
                break
        self._heard[job.folder] = len(validations)

    def _shown(self, planned: Planned) -> tuple[Path, Status]:
        folder = _job(planned).folder
        return folder, Status.read(folder) or Status()

    # At the end

    def _close(self) -> None:
        """End what still runs, and print the table."""
        if self.launcher.waits and not self.launcher.detaches:
            self._end_jobs()
        from rich.console import Console

        statuses = self._statuses()
        out = Console(soft_wrap=not os.isatty(1))
        out.print(closing_table(statuses, self.finished_before))
        out.print(f"{counted(statuses)}; {self.folder}", markup=False, highlight=False)

    def _end_jobs(self) -> None:
        for planned in self.under_way:
            self.launcher.cancel(_job(planned))
        while self.under_way:
            self.under_way = [planned for planned in self.under_way if not self.launcher.poll(_job(planned))]
            time.sleep(_LOOK_EVERY)

    def _statuses(self) -> list[Status]:
        """Of all jobs of this command, and of the combinations that cannot work."""
        jobs = [Status.read(folder) or Status(overrides=_plain(planned.words)) for folder, planned in self.seen.items()]
        left_out = [
            Status("invalid", _told(planned.problems), -1, overrides=_plain(planned.words)) for planned in self.invalid
        ]
        return sorted(jobs, key=lambda status: status.number) + left_out


def _job(planned: Planned) -> Job:
    assert planned.job is not None
    return planned.job


def _outcome(folder: Path) -> tuple[str, float | None]:
    """How a job stands, and its best validation score so far."""
    status = Status.read(folder) or Status()
    score = status.figures.get("score")
    if score is None:
        score = max((value for _, value in read_progress(folder).get("validations", [])), default=None)
    return status.status, score


def _mark_pruned(folder: Path) -> None:
    status = Status.read(folder)
    if status is not None and status.status != "ok":
        status.status, status.reason = "pruned", "others did better at this step"
        status.write(folder)


def _told(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{problem.path}: {problem.message}" if problem.path else problem.message for problem in problems)


def _plain(words: Sequence[str]) -> list[str]:
    """Words as typed: without what is put before them for Hydra."""
    return [word.lstrip("+") for word in words]


def _clock() -> str:
    return time.strftime("%H:%M:%S")
