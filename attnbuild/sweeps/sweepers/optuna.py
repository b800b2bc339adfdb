"""Combinations that follow from the results of earlier ones, by Optuna."""

from __future__ import annotations

import hashlib
import json
import math
import random
import sqlite3
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from attnbuild.errors import ConfigError
from attnbuild.registry import register
from attnbuild.sweeps.space import Dimension, Interval, all_combinations, draw, some_combinations
from attnbuild.sweeps.sweepers.base import Proposal, SweeperPlace

if TYPE_CHECKING:
    import optuna

__all__ = ["STUDY", "Optuna"]

#: The study, in the folder of the sweep.
STUDY = "study.db"

#: Attributes of a trial: what is chosen in it as typed, and why it never became a job.
_CHOSEN, _DROPPED = "chosen", "dropped"

#: Choices in a row that repeat earlier ones or cannot work: of Optuna, and then by chance.
_TRIES, _TRIES_BY_CHANCE = 8, 20

#: Combinations that are tried out before the first job.
_CHECKED = 64

#: Seconds to wait for the study while something else writes to it.
_PATIENCE = 60.0


@register("sweeper", "optuna")
class Optuna:
    """Combinations that follow from earlier results: Optuna's Parzen estimators, and pruning of jobs that fall behind.

    The study is kept in the sweep's folder: the same command again continues it.

    Args:
        trials: jobs that end with a result, whether by this call or an earlier one.
        seed: of what is chosen by chance.
        startup_trials: results before choices follow from them, and before anything is pruned.
        pruner: what ends a job early: the median of the others at the same step, hyperband, or none.
        warmup_steps: training steps before which no job is ended early.
    """

    adaptive = True

    def __init__(
        self,
        place: SweeperPlace,
        *,
        trials: Annotated[int, Ge(1)] = 20,
        seed: int = 0,
        startup_trials: Annotated[int, Ge(0)] = 10,
        pruner: Literal["median", "hyperband", "none"] = "median",
        warmup_steps: Annotated[int, Ge(0)] = 0,
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            message = "optuna needs a package that is not installed: pip install 'attnbuild[sweeps]'"
            raise ConfigError(message, "sweeper.type") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.place = place
        self.trials = trials
        self.seed = seed
        self.startup_trials = startup_trials
        self.pruner = pruner
        self.warmup_steps = warmup_steps
        #: What there is to say of the proposals, for people.
        self.remark = ""
        self._distributions = {each.key: _distribution(each) for each in place.dimensions}
        #: Trials of this call that were proposed and not told of, by number.
        self._open: dict[int, optuna.Trial] = {}
        #: Jobs that this call proposed; failed ones are among them here, and not in the next call.
        self._jobs = 0
        #: Proposals in a row that came to nothing.
        self._in_vain = 0

    # The protocol of sweepers

    def sample_for_check(self) -> list[Proposal]:
        """Combinations that stand for all, to be tried out before the first job."""
        return [Proposal(chosen) for chosen in some_combinations(self.place.dimensions, _CHECKED)]

    def ask(self, count: int) -> list[Proposal]:
        """First what an earlier call left half done, then what Optuna chooses."""
        proposals: list[Proposal] = []
        with _quietly():
            while len(proposals) < count and self._done_before + self._jobs < self.trials:
                proposal = self._next()
                if proposal is None:
                    break
                self._jobs += 1
                proposals.append(proposal)
        return proposals

    def watch(self, proposal: Proposal, step: int, score: float) -> bool:
        """Report a validation to the study; returns whether its pruner wants the job to end."""
        trial = self._open.get(proposal.trial) if proposal.trial is not None else None
        if trial is None:
            return False
        with _quietly():
            reported = self._frozen(trial).intermediate_values
            if step not in reported:  # a job that goes on tells of its earlier validations again
                trial.report(score, step)
            if step < max([self.warmup_steps, *reported]):
                return False
            return self._make_pruner().prune(self._study, self._frozen(trial))

    def tell(self, proposal: Proposal, status: str, score: float | None) -> None:
        """Settle its trial; one that was interrupted stays open, and is proposed again by the next call."""
        from optuna.trial import TrialState

        trial = self._open.pop(proposal.trial, None) if proposal.trial is not None else None
        if trial is None or status == "interrupted":
            return
        with _quietly():
            if status == "ok" and score is not None and math.isfinite(score):
                self._study.tell(trial, score)
            elif status == "pruned":
                self._study.tell(trial, state=TrialState.PRUNED)
            elif status in ("ok", "failed", "oom", "killed"):
                self._study.tell(trial, state=TrialState.FAIL)
            else:  # it cannot start, or is the same job as another one that is not done yet
                self._drop(trial, status)
                self._jobs -= 1
                self._in_vain += 1
                return
        self._in_vain = 0

    # Choosing

    def _next(self) -> Proposal | None:
        if self._half_done:
            return self._propose(self._half_done.popleft())
        if self._in_vain >= _TRIES_BY_CHANCE:
            self._stop(f"{self._in_vain} choices in a row came to nothing")
            return None
        for attempt in range(_TRIES + _TRIES_BY_CHANCE):
            if self._all is not None and not self._left_of_all():
                self._stop(f"all of the {len(self._all)} combinations were tried")
                return None
            trial = self._trial(self._by_chance() if attempt >= _TRIES else None)
            chosen = self._choose(trial)
            if _key(chosen) in self._taken:
                self._drop(trial, "repeats another trial")
                continue
            self._taken.add(_key(chosen))
            if not self.place.works(chosen):
                self._drop(trial, "invalid")
                continue
            trial.set_user_attr(_CHOSEN, chosen)
            return self._propose(trial)
        self._stop(f"{_TRIES + _TRIES_BY_CHANCE} choices in a row repeated others or cannot work")
        return None

    def _stop(self, reason: str) -> None:
        self.remark = f"no more trials are chosen: {reason}"

    def _propose(self, trial: optuna.Trial) -> Proposal:
        self._open[trial.number] = trial
        return Proposal(trial.user_attrs[_CHOSEN], trial.number)

    def _trial(self, chosen: Mapping[str, str] | None) -> optuna.Trial:
        """A new trial of the study; with its choices where they are given."""
        if chosen is not None:
            self._study.enqueue_trial(self._values(chosen))
        self._study.sampler = self._make_sampler(len(self._study.get_trials(deepcopy=False)))
        return self._study.ask()

    def _choose(self, trial: optuna.Trial) -> dict[str, str]:
        chosen: dict[str, str] = {}
        for each in self.place.dimensions:
            if each.holds(chosen):
                chosen[each.key] = str(_suggest(trial, each.key, self._distributions[each.key]))
        return chosen

    def _by_chance(self) -> dict[str, str]:
        """What no trial has had, where there is still something."""
        number = len(self._study.get_trials(deepcopy=False))
        generator = random.Random(f"{self.seed}/{number}")
        left = self._left_of_all()
        return generator.choice(left) if left else draw(self.place.dimensions, generator)

    def _left_of_all(self) -> list[dict[str, str]]:
        return [chosen for chosen in self._all or () if _key(chosen) not in self._taken]

    @cached_property
    def _all(self) -> list[dict[str, str]] | None:
        return all_combinations(self.place.dimensions)

    def _drop(self, trial: optuna.Trial, reason: str) -> None:
        """Settle a trial that never was a job."""
        from optuna.trial import TrialState

        trial.set_user_attr(_DROPPED, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _values(self, chosen: Mapping[str, str]) -> dict[str, Any]:
        """What is chosen as the study has it."""
        return {key: _value(self._distributions[key], text) for key, text in chosen.items()}

    def _make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """What chooses for the trial of that number: a function of seed, number and results, in whatever process."""
        from optuna.samplers import TPESampler

        intervals = {each.key: each.values for each in self.place.dimensions if isinstance(each.values, Interval)}

        class Rounded(TPESampler):
            """Chooses numbers as they are typed, so that the study knows what was tried and not what was near it."""

            def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
                found = super().sample_relative(study, trial, search_space)
                return {name: _rounded(intervals, name, value) for name, value in found.items()}

            def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
                found = super().sample_independent(study, trial, param_name, param_distribution)
                return _rounded(intervals, param_name, found)

        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        return Rounded(
            n_startup_trials=self.startup_trials,
            seed=int.from_bytes(digest[:4], "big"),
            multivariate=True,
            group=True,  # a space for each set of keys that are there together
            constant_liar=True,  # jobs under way are not chosen again nearby
        )

    def _make_pruner(self) -> optuna.pruners.BasePruner:
        """What ends jobs early, as far as the study shows which steps there are."""
        from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

        if self.pruner == "none":
            return NopPruner()
        if self.pruner == "median":
            return MedianPruner(n_startup_trials=self.startup_trials, n_warmup_steps=self.warmup_steps)
        trials = self._study.get_trials(deepcopy=False)
        if sum(trial.state.name == "COMPLETE" for trial in trials) < self.startup_trials:
            return NopPruner()
        # The first rung is at the first validation: rungs before it would all judge by that one score.
        first = min((min(trial.intermediate_values) for trial in trials if trial.intermediate_values), default=1)
        return HyperbandPruner(min_resource=max(1, first, self.warmup_steps), reduction_factor=3)

    # The study

    @cached_property
    def _study(self) -> optuna.Study:
        """The study of this space and of what its jobs share, made or continued."""
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        path = self.place.folder / STUDY
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A path in a URL would need quoting, which SQLAlchemy and SQLite do not agree on.
            connect = {"creator": lambda: sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)}
            storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=connect)
            study = optuna.create_study(
                storage=storage,
                study_name=self._name,
                direction="maximize",
                pruner=optuna.pruners.NopPruner(),  # of the study itself; Hyperband would hide trials from the sampler
                load_if_exists=True,
            )
            self._carry_over(storage, study)
        except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            message = f"cannot be used: {reason}; move it away: jobs that are done are recognised without it"
            raise ConfigError(message, str(path)) from error
        return study

    @property
    def _name(self) -> str:
        """Of the study. Others in the same file are of other spaces, or of jobs that share something else."""
        space = [
            [each.key, vars(each.values) if isinstance(each.values, Interval) else each.values, dict(each.when)]
            for each in self.place.dimensions
        ]
        return f"{self.place.about}{hashlib.sha256(json.dumps(space).encode()).hexdigest()[:8]}"

    def _carry_over(self, storage: Any, study: optuna.Study) -> None:
        """Take over trials that were made for a wider or narrower space, where they are of this one too."""
        import optuna

        mine = {_key(trial.user_attrs.get(_CHOSEN, {})) for trial in study.get_trials(deepcopy=False)}
        for name in optuna.get_all_study_names(storage):
            if name == study.study_name or not name.startswith(self.place.about):
                continue
            for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False):
                chosen = trial.user_attrs.get(_CHOSEN, {})
                done = trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") and _DROPPED not in trial.user_attrs
                if done and _key(chosen) not in mine and _is_of(self.place.dimensions, chosen):
                    mine.add(_key(chosen))
                    study.add_trial(
                        optuna.trial.create_trial(
                            state=trial.state,
                            value=trial.value,
                            params=self._values(chosen),
                            distributions={key: self._distributions[key] for key in chosen},
                            user_attrs=trial.user_attrs,
                            intermediate_values=trial.intermediate_values,
                        )
                    )

    @cached_property
    def _half_done(self) -> deque[optuna.Trial]:
        """Trials that an earlier call left open; those that had not become jobs are closed."""
        import optuna
        from optuna.trial import TrialState

        opened = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._study.sampler = self._make_sampler(0)
        trials = [optuna.Trial(self._study, trial._trial_id) for trial in opened if trial.number not in self._open]
        for trial in trials:
            if _CHOSEN not in trial.user_attrs:
                self._drop(trial, "never started")
        return deque(trial for trial in trials if _CHOSEN in trial.user_attrs)

    @cached_property
    def _taken(self) -> set[tuple[tuple[str, str], ...]]:
        """Combinations that are not chosen again: those with a result, half done, or of no use; failed jobs may be."""
        trials = self._study.get_trials(deepcopy=False)
        return {
            _key(trial.user_attrs[_CHOSEN])
            for trial in trials
            if _CHOSEN in trial.user_attrs and trial.state.name in ("COMPLETE", "PRUNED", "RUNNING")
        }

    @cached_property
    def _done_before(self) -> int:
        """Trials that earlier calls ended with a result."""
        states = [trial.state.name for trial in self._study.get_trials(deepcopy=False)]
        return states.count("COMPLETE") + states.count("PRUNED")

    def _frozen(self, trial: optuna.Trial) -> optuna.trial.FrozenTrial:
        return next(each for each in self._study.get_trials(deepcopy=False) if each.number == trial.number)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """A dimension as Optuna knows it: whole numbers in even steps are numbers, all other values are names."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = dimension.values
    if isinstance(values, Interval):
        if values.integer:
            return IntDistribution(int(values.low), int(values.high), log=values.log)
        return FloatDistribution(values.low, values.high, log=values.log)
    if len(values) > 2 and all(value == str(_whole(value)) for value in values):
        numbers = [int(value) for value in values]
        step = numbers[1] - numbers[0]
        if step > 0 and numbers == list(range(numbers[0], numbers[-1] + 1, step)):
            return IntDistribution(numbers[0], numbers[-1], step=step)
    return CategoricalDistribution(values)


def _suggest(trial: optuna.Trial, key: str, distribution: Any) -> Any:
    """A value of that distribution, chosen for the trial."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    return trial.suggest_categorical(key, distribution.choices)


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _value(distribution: Any, text: str) -> Any:
    """A value as typed as the study has it."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(distribution, IntDistribution):
        return int(text)
    return float(text) if isinstance(distribution, FloatDistribution) else text


def _rounded(intervals: Mapping[str, Interval], name: str, value: Any) -> Any:
    return intervals[name].number(value) if name in intervals else value


def _is_of(dimensions: Sequence[Dimension], chosen: Mapping[str, str]) -> bool:
    """Whether a combination is one of a space."""
    there = {each.key: each for each in dimensions if each.holds(chosen)}
    return bool(chosen) and set(chosen) == set(there) and all(there[key].has(text) for key, text in chosen.items())


def _key(chosen: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(chosen.items()))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's warnings: they are about options of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
