"""``attnbuild train -m``: many jobs from one command."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from attnbuild import registry
from attnbuild.cli.check import check_sweep, require_right
from attnbuild.cli.compose import compose, resolve
from attnbuild.cli.names import check_names
from attnbuild.cli.origin import Origins, located
from attnbuild.cli.overrides import COMMAND_LINE, as_typed, read_overrides
from attnbuild.cli.translate import translated
from attnbuild.errors import ConfigError, Problem
from attnbuild.sections import OF_SWEEPS
from attnbuild.sections import Sweep as Settings
from attnbuild.sweeps.launchers.base import LauncherPlace
from attnbuild.sweeps.plan import Planner, config_hash, sweep_name
from attnbuild.sweeps.run import Sweep
from attnbuild.sweeps.space import (
    Dimension,
    as_words,
    conditions_in,
    dimension,
    narrowed,
    require_possible,
    text_of,
)
from attnbuild.sweeps.sweepers.base import SweeperPlace

__all__ = ["run_sweep"]

#: Hydra's own way to start jobs, which attnbuild does not use: why, and what to write instead.
_NOT_OURS = {
    "hydra/launcher": "jobs are started by attnbuild itself: launcher=local launcher.jobs=2, or launcher=slurm",
    "hydra/sweeper": "jobs are chosen by attnbuild itself: sweeper=grid, random or optuna",
    "hydra.launcher": "jobs are started by attnbuild itself: launcher=local launcher.jobs=2, or launcher=slurm",
    "hydra.sweeper": "what is swept over is typed after -m, or stands in a file for sweep=NAME",
    "hydra.sweep": "a sweep lies in <paths.outputs>/sweeps/<sweep.name>, a job in a folder of its own there",
}

#: Keys that are the same for all jobs, and make no other sweep.
_ABOUT_ALL_JOBS = ("paths", "hydra", *OF_SWEEPS)


def run_sweep(loader: ConfigLoader, typed: Sequence[str]) -> int:
    """Run the jobs of a command; returns the exit code.

    Args:
        loader: what composes the configs.
        typed: the overrides as typed.

    Raises:
        ConfigError: the sweep itself cannot work, or some of its jobs cannot.
    """
    fixed, swept = _split(loader, typed)
    checked = check_names(loader, fixed, multirun=True)
    base = compose(loader, checked, multirun=True)
    sections = _sections(base)
    settings = Settings(**sections["sweep"])
    origin = (Origins(loader, checked).of("sweep.space") if settings.space else "") or "sweep.space"
    dimensions = _dimensions(loader, fixed, swept, settings, base, origin)
    _require_free(dimensions)
    own = [word for word in fixed if not _is_about(word, _ABOUT_ALL_JOBS)]
    name = settings.name or sweep_name(sections["task"], own, [each.key for each in dimensions])
    folder = Path(os.path.abspath(sections["outputs"])) / "sweeps" / _require_name(name)
    words = check_names(loader, [word for word in fixed if not _is_about(word, OF_SWEEPS)])
    planner = Planner(folder, words, dimensions, partial(_compose_job, loader))
    shared: Any = OmegaConf.to_container(OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"]))
    place = SweeperPlace(dimensions, folder, planner.works, config_hash(shared))
    sweeper = registry.build("sweeper", place, sections["sweeper"], "sweeper")
    launcher = registry.build("launcher", LauncherPlace(folder, name), sections["launcher"], "launcher")
    return Sweep(folder, settings, planner, sweeper, launcher, as_typed(typed)).run()


def _split(loader: ConfigLoader, typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that all jobs share, and those with several values.

    Raises:
        ConfigError: a word cannot be read, or is about Hydra's own sweeps.
    """
    overrides, problems = read_overrides(typed, loader)
    for override in overrides:
        for key, message in _NOT_OURS.items():
            if override.key_or_group == key or override.key_or_group.startswith(f"{key}."):
                problems.append(Problem(override.key_or_group, message, COMMAND_LINE))
    if problems:
        raise ConfigError(problems)
    swept = [override.input_line or "" for override in overrides if override.is_sweep_override()]
    return [word for word in typed if word not in swept], swept


def _sections(base: DictConfig) -> dict[str, Any]:
    """What concerns the sweep in the config that its jobs share, held to its schema.

    The other sections may still lack what each job chooses, and are not resolved.
    """
    with translated():
        ours = OmegaConf.masked_copy(base, [*OF_SWEEPS, "paths"])
        plain: dict[str, Any] = OmegaConf.to_container(ours, resolve=True)  # type: ignore[assignment]
    problems = check_sweep(plain)
    if problems:
        raise ConfigError(problems)
    task = OmegaConf.select(base, "task.type", throw_on_missing=False) or "train"
    return {**plain, "task": str(task), "outputs": plain["paths"]["outputs"]}


def _dimensions(
    loader: ConfigLoader,
    fixed: Sequence[str],
    swept: Sequence[str],
    settings: Settings,
    base: DictConfig,
    origin: str,
) -> list[Dimension]:
    """What differs between the jobs: what ``sweep.space`` and ``hydra.sweeper.params`` say, and what is typed.

    What is typed comes first: it takes the place of what files say of the same key.

    Args:
        loader: what reads and checks words.
        fixed: the words typed with one value.
        swept: the words typed with several.
        settings: of the sweep.
        base: the config that its jobs share.
        origin: the file that holds the space.
    """
    params = OmegaConf.select(base, "hydra.sweeper.params") or {}
    given = {override.key_or_group: override.value() for override in read_overrides(fixed, loader)[0]}
    space, conditions = narrowed(
        {**settings.space, **{str(key): str(value) for key, value in params.items()}},
        conditions_in(settings.space, origin),
        {key: text_of(value) for key, value in given.items() if not isinstance(value, dict | list)},
    )
    typed = {override.key_or_group: override for override in _as_swept(loader, swept, COMMAND_LINE)}
    of_files = as_words({key: entry for key, entry in space.items() if key not in typed})
    overrides = {override.key_or_group: override for override in _as_swept(loader, of_files, origin)}
    order = [key for key in space if key in typed or key in overrides]
    order += [key for key in typed if key not in order]
    dimensions = [dimension(typed.get(key) or overrides[key], conditions.get(key, {})) for key in order]
    require_possible(dimensions, typed, origin)
    return dimensions


def _as_swept(loader: ConfigLoader, words: Sequence[str], origin: str) -> list[Any]:
    """Words with several values, as Hydra reads them; a single value is refused: it belongs before the space.

    Raises:
        ConfigError: a name is wrong, or a key has one value.
    """
    try:
        overrides, _ = read_overrides(check_names(loader, words, multirun=True), loader)
    except ConfigError as error:
        raise ConfigError([replace(problem, origin=origin) for problem in error.problems]) from error
    single = [override for override in overrides if not override.is_sweep_override()]
    if single:
        message = "one value is nothing to sweep over; give several: choice(1,2), range(1,5), interval(0.1,0.5)"
        raise ConfigError([Problem(override.key_or_group, message, origin) for override in single])
    return list(overrides)


def _require_free(dimensions: Sequence[Dimension]) -> None:
    """Refuse to sweep over what is the same for all jobs."""
    taken = [each.key for each in dimensions if _is_about(each.key, (*_ABOUT_ALL_JOBS, "resume"))]
    if taken:
        message = "is the same for all jobs of a sweep; a sweep that is run again resumes its jobs by itself"
        raise ConfigError([Problem(key, message, COMMAND_LINE) for key in taken])


def _is_about(word: str, keys: Sequence[str]) -> bool:
    """Whether an override, or a key, belongs to one of these sections or groups."""
    return re.split("[./=]", word.lstrip("+~"))[0] in keys


def _require_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        message = f"{name!r}: a sweep is a folder below sweeps/: letters, digits, '.', '_' and '-', no path"
        raise ConfigError(message, "sweep.name")
    return name


def _compose_job(loader: ConfigLoader, words: list[str], folder: Path) -> dict[str, Any]:
    """The resolved config of a job, held to every rule.

    Raises:
        ConfigError: it cannot work.
    """
    with located(loader, words):
        config = compose(loader, words)
        choices: Mapping[str, Any] = config.hydra.runtime.choices
        resolved = resolve(config, choices, folder)
        if resolved["resume"]:
            raise ConfigError("a sweep that is run again resumes its jobs by itself", "resume")
        require_right(resolved)
    return resolved
