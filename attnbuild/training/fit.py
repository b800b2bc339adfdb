"""One training from its config to its summary: ``train``."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbuild import registry
from attnbuild.errors import AttnbuildError, CheckpointError, ConfigError, DataError, OutOfMemory
from attnbuild.training import distributed, handover
from attnbuild.training.averaging import Average, MovingAverage, average_checkpoints, parse_average
from attnbuild.training.callbacks import CallbackPlace
from attnbuild.training.checkpoint import (
    build_task,
    chosen_file,
    load_checkpoint,
    load_matching,
    model_weights,
    save_checkpoint,
)
from attnbuild.training.evaluate import write_predictions
from attnbuild.training.freed_memory import keep_freed_memory
from attnbuild.training.full_disk import disk_error, remove_drafts, told_of_disk
from attnbuild.training.lock import held
from attnbuild.training.loggers import LoggerPlace
from attnbuild.training.logs import messages
from attnbuild.training.module import Module
from attnbuild.training.out_of_memory import out_of_memory_told
from attnbuild.training.probe import Probe
from attnbuild.training.progress import progress, render_values
from attnbuild.training.resume import resumed_config
from attnbuild.training.run import RunFolder
from attnbuild.training.samples import Samples
from attnbuild.training.saving import Checkpoints
from attnbuild.training.signals import interrupts_kept, sigterm_as_interrupt
from attnbuild.training.stopping import Stopping
from attnbuild.training.summary import Summary, parameter_count
from attnbuild.training.task import Task
from attnbuild.training.trainer import build_trainer
from attnbuild.training.training_log import TrainingLog
from attnbuild.training.world import current

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

__all__ = ["train", "train_rank"]

_log = logging.getLogger(__name__)


def train(config: dict[str, Any], run: RunFolder, typed: list[str]) -> dict[str, Any]:
    """Train, test, and leave a run folder that explains itself.

    Args:
        config: the resolved config. With ``resume`` set, the config of that run folder is used instead,
            with those of the ``typed`` overrides that a resumed run may change.
        run: the run folder; with ``resume`` set, that folder is used instead.
        typed: the overrides as the user typed them.

    Returns:
        What summary.json holds.

    Raises:
        AttnbuildError: the config, the data or a checkpoint cannot be used.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the last checkpoint is whole.
    """
    if config["resume"]:
        run = RunFolder.open(config["resume"])
    run.create()
    with _disk_told(run), held(run) as lock:
        return _train_alone(config, run, typed, lock)


def _train_alone(config: dict[str, Any], run: RunFolder, typed: list[str], lock: int | None) -> dict[str, Any]:
    """``train``, where nobody else does."""
    remove_drafts(run)
    if config["resume"]:
        config = resumed_config(run.read_config(), typed, str(run.path), config.get("plugins"))
        if run.last_checkpoint.is_file():
            load_checkpoint(run.last_checkpoint)  # a damaged one is refused before the folder changes
        typed = [*run.read_overrides(), *(item for item in typed if not item.startswith(("resume=", "plugins=")))]
    registry.load_plugins(config["plugins"])
    run.write_config(config, typed)
    with messages(run), sigterm_as_interrupt():
        _log.info("run folder: %s", run.path)
        distributed.check_started(config["trainer"])
        processes = distributed.process_count(config["trainer"])
        if current().size == processes == 1:
            return _Training(config, run, typed).run_to_end()
        _prepare_for_ranks(config)
        if current().size == 1:
            distributed.launch(run, processes, lock)
            return run.read_summary()
        handover.hand_out(config, run, typed)
        return _Training(config, run, typed).run_to_end()


def train_rank(run: RunFolder, config: dict[str, Any] | None = None, typed: list[str] | None = None) -> None:
    """Train as one of several processes; config and overrides come from the run folder unless they are given."""
    config = run.read_config() if config is None else config
    registry.load_plugins(config["plugins"])
    with _disk_told(run), messages(run, distributed.rank()), sigterm_as_interrupt():
        _Training(config, run, run.read_overrides() if typed is None else typed).run_to_end()


@contextmanager
def _disk_told(run: RunFolder) -> Iterator[None]:
    """Tell of a full disk what it spoilt and what stands."""
    try:
        yield
    except Exception as error:
        said = disk_error(error)
        if said is None or isinstance(error, AttnbuildError):
            raise
        raise told_of_disk(said, run) from error


def _prepare_for_ranks(config: dict[str, Any]) -> None:
    """Fill the caches once, so that the ranks find them; wrong data shows before they start."""
    task = build_task(config)
    last = RunFolder(config["resume"]).last_checkpoint if config["resume"] else None
    if last is not None and last.is_file():  # a run that was killed before its first has none
        task.restore(load_checkpoint(last)["attnbuild"]["artifacts"])
    task.prepare()


@dataclass(frozen=True)
class _Parts:
    """What watches over a training."""

    average: Average | None
    checkpoints: Checkpoints
    stopping: Stopping
    training_log: TrainingLog
    callbacks: list[Callback]


class _Training:
    """The steps of ``train`` in one process."""

    def __init__(self, config: dict[str, Any], run: RunFolder, typed: list[str]) -> None:
        self.config = config
        self.folder = run
        self.rank = distributed.rank()
        self.module: Module | None = None
        self.summary = Summary(run, config, typed, self.rank)

    def run_to_end(self) -> dict[str, Any]:
        """Do all steps; the summary says how it ended, whatever happened."""
        try:
            with _disk_told(self.folder), distributed.lost_peers_told(), out_of_memory_told(self._under_way):
                self._run()
        except KeyboardInterrupt:
            self._last_update(status="interrupted")
            raise
        except BaseException as error:
            status = "oom" if isinstance(error, OutOfMemory) else "failed"
            self._last_update(status=status, error=f"{type(error).__name__}: {error}")
            raise
        self.summary.update(status="ok")
        return self.summary.values

    def _last_update(self, **values: Any) -> None:
        """Note the end of a run that did not come to its end; where that cannot be written, what ended it is told."""
        try:
            self.summary.update(**values)
        except OSError as error:
            _log.warning("%s: cannot be written: %s", self.folder.summary_file, error.strerror)

    def _under_way(self) -> str:
        return self.module.under_way() if self.module else "while the model was made: make it smaller"

    def _run(self) -> None:
        config = self.config
        keep_freed_memory()
        if config["trainer"]["threads"]:
            torch.set_num_threads(config["trainer"]["threads"])
        self._announce_places()
        resumed = load_checkpoint(self.folder.last_checkpoint) if self._resumes() else None
        loggers = self._build_loggers(resumed["global_step"] if resumed else 0)
        task = self._build_task(resumed)
        torch.manual_seed(config["seed"])
        model = task.build_model()
        if config["init_from"] and resumed is None:
            self._init_from(model)
        misfits = task.misfits(model)
        if misfits:
            raise ConfigError(misfits)
        self.summary.update(parameters=parameter_count(model))
        module = self.module = Module(task, model, config)
        parts = self._build_parts(task)
        trainer = build_trainer(config, self.folder.path, callbacks=parts.callbacks, loggers=loggers)
        self.summary.update(precision=trainer.precision)
        del resumed  # the Trainer reads the file again; two copies of large weights are one too many
        self._fit(trainer, module, parts)
        self._choose_weights(trainer, module, parts)
        self._test(trainer, module)
        self._draw_maps(trainer, module)

    # Setting up

    def _announce_places(self) -> None:
        for place, choice in self.summary.values["places"].items():
            if choice["reason"]:
                _log.info("%s keeps %s: %s", place, choice["preset"], choice["reason"])

    def _resumes(self) -> bool:
        """Whether there is a state to go on from; a run that was killed before its first has none."""
        if not self.config["resume"]:
            return False
        if not self.folder.last_checkpoint.is_file():
            _log.warning("%s has no checkpoint yet: starting from the beginning", self.folder.path)
            return False
        return True

    def _build_loggers(self, step: int) -> list[Any]:
        place = LoggerPlace(self.folder, self.config, step)
        if self.rank:
            return []  # Lightning gives other ranks no logger to write with
        return [
            registry.build("logger", place, section, f"logger.{name}")
            for name, section in _named_parts(self.config["logger"])
        ]

    def _build_task(self, resumed: dict[str, Any] | None) -> Task:
        task = build_task(self.config)
        if resumed:
            task.restore(resumed["attnbuild"]["artifacts"])
        task.prepare()
        for split in ("train", "validation"):
            if split not in task.splits():
                there = ", ".join(task.splits())
                way = "; hold some of train out: data.validation=0.1" if split == "validation" else ""
                raise DataError(f"the data has no split {split!r}, which training needs; it has {there}{way}")
        if self.rank == 0:
            for name, text in task.artifacts().items():
                self.folder.write_text(name, text)
        return task

    def _init_from(self, model: torch.nn.Module) -> None:
        """Start from the weights of another run, as far as names and shapes match."""
        path = chosen_file(self.config["init_from"])
        missing = load_matching(model, model_weights(load_checkpoint(path)))
        if len(missing) == len(model.state_dict()):
            raise CheckpointError(f"{path}: no tensor matches this model in name and shape (init_from)")
        if missing:
            _log.warning("from %s; not in it or of another shape: %s", path, ", ".join(missing))
        self.summary.update(not_loaded=missing)

    def _build_parts(self, task: Task) -> _Parts:
        config, trainer = self.config, self.config["trainer"]
        monitor = f"validation/{task.monitor}"
        average = parse_average(config["average"])
        moving = MovingAverage() if average and average.over == "ema" else None
        checkpoints = Checkpoints(self.folder, monitor, average, moving)
        stopping = Stopping(
            checkpoints,
            every=config["validation"]["every"],
            max_steps=trainer["max_steps"],
            max_minutes=trainer["max_minutes"],
        )
        training_log = TrainingLog(trainer["log_every"])
        place = CallbackPlace(monitor, self.folder, config)
        callbacks: list[Callback] = [
            training_log,
            *([moving] if moving else []),
            *progress(trainer["max_steps"], training_log, checkpoints),
            Samples(self.folder, config["validation"]["samples"], config["validation"]["maps"]),
            *(
                registry.build("callback", place, section, f"callbacks.{name}")
                for name, section in _named_parts(config["callbacks"])
            ),
            Probe(),
            stopping,
            checkpoints,
        ]
        return _Parts(average, checkpoints, stopping, training_log, callbacks)

    # Training and what follows

    def _fit(self, trainer: Trainer, module: Module, parts: _Parts) -> None:
        last = self.folder.last_checkpoint if self._resumes() else None
        try:
            with interrupts_kept():
                trainer.fit(module, ckpt_path=last, weights_only=True)
        finally:
            log, unit = parts.training_log, module.task.unit
            self.summary.values[f"{unit}_per_second"] = round(log.tokens_per_second, 1)
            self.summary.values[f"{unit}_trained"] = round(log.tokens)
            self.summary.values["skipped_updates"] = module.guard.skipped

    def _choose_weights(self, trainer: Trainer, module: Module, parts: _Parts) -> None:
        """Leave in the model the better of the single best weights and the averaged ones."""
        best = parts.checkpoints.best
        self.summary.add("metrics", best["results"])
        self.summary.add("signatures", best["signatures"])
        self.summary.add("search", {"validation": best["search"]})
        monitor = parts.checkpoints.monitor
        chosen, score = self.folder.best_checkpoint, best["score"]
        if parts.average is not None:
            averaged = self._score_average(trainer, module, parts)
            if averaged > score:
                chosen, score = self.folder.averaged_checkpoint, averaged
        self.summary.update(checkpoint=chosen.name, monitor=monitor, score=score)
        _log.info("%s is used: %s %.3f (best.ckpt is of step %d)", chosen.name, monitor, score, best["step"])
        module.model.load_state_dict(model_weights(load_checkpoint(chosen)))

    def _score_average(self, trainer: Trainer, module: Module, parts: _Parts) -> float:
        checkpoint = average_checkpoints(parts.checkpoints.candidate_files())
        if self.rank == 0:
            save_checkpoint(checkpoint, self.folder.averaged_checkpoint)
        module.model.load_state_dict(model_weights(checkpoint))
        with interrupts_kept():
            trainer.validate(module, verbose=False)
        averaged = {f"{name}_averaged": value for name, value in module.results.items()}
        self.summary.add("metrics", averaged)
        module.record(averaged)
        score = module.results[parts.checkpoints.monitor]
        return -math.inf if math.isnan(score) else score

    def _test(self, trainer: Trainer, module: Module) -> None:
        if "test" not in module.task.splits():
            return
        with interrupts_kept():
            trainer.test(module, verbose=False)
        module.record(module.results)
        self.summary.add("metrics", module.results)
        self.summary.add("search", {"test": module.search_description})
        write_predictions(self.folder.path / "predictions-test.jsonl", module)
        if trainer.is_global_zero:
            module.task.report(module.tables, self.folder.path)
            self.summary.update(baselines=module.task.baselines("test"))
        _log.info("test (%s): %s", module.search_description, render_values(module.results))
        if self.summary.values["baselines"]:
            _log.info("the same answer for all: %s", render_values(self.summary.values["baselines"]))

    def _draw_maps(self, trainer: Trainer, module: Module) -> None:
        count = self.config["validation"]["maps"]
        if count and trainer.is_global_zero:
            module.eval()
            paths = module.task.maps(module.model, count, self.folder.maps)
            if paths:
                _log.info("attention maps: %s", self.folder.maps)


def _named_parts(section: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Parts of a dict by name: the name is the registered one unless ``type`` says otherwise; null is off."""
    return [(name, {"type": name, **options}) for name, options in section.items() if options is not None]
