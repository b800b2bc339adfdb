"""``attnbuild train``: check everything, then let Hydra run the job; sweeps are ``cli/sweep.py``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from attnbuild.cli.arguments import flag_words, parse_flags, typed_as
from attnbuild.cli.compose import CONFIG_NAME, VERSION_BASE, compose, open_loader, resolve
from attnbuild.cli.names import check_names
from attnbuild.cli.origin import located
from attnbuild.cli.overrides import as_typed
from attnbuild.cli.translate import translated
from attnbuild.errors import AttnbuildError
from attnbuild.paths import conf_dir
from attnbuild.sections import of_one_run
from attnbuild.training.distributed import check_started
from attnbuild.training.run import RunFolder
from attnbuild.training.world import World, current, require_one

__all__ = ["job", "run"]


def run(words: Sequence[str]) -> int:
    """Run the command; what Hydra users know (``--cfg``, ``--info``, ``-m``, ...) works as they know it.

    Raises:
        ConfigError: the overrides cannot work. This comes before any folder is made.
    """
    world = current()
    if world.size == 1:
        return _run(words, world)
    from attnbuild.training.handover import lead, leave

    if world.rank:
        from attnbuild.training.rank import follow

        leave(follow(world))
    with lead(world):
        return _run(words, world)


def _run(words: Sequence[str], world: World) -> int:
    """``run``, in the one process that decides."""
    flags = parse_flags(words)
    if flags.cfg or flags.info or flags.help or flags.hydra_help:
        return _show(flags)
    with open_loader(flags.config_dir, flags.overrides) as loader:
        many = _asks_for_many(flags)
        if not many:
            overrides = check_names(loader, flags.overrides)
            config = compose(loader, overrides)
            many = config.hydra.mode == RunMode.MULTIRUN  # so says a file
        if many:
            require_one(world)
            return _run_sweep(loader, flags.overrides)
        resolved = _checked(loader, config, overrides)
        if resolved["launcher"]["type"] != "local":
            require_one(world)
            from attnbuild.cli.launch import launch_one

            return launch_one(resolved, Path(str(config.hydra.run.dir)), as_typed(flags.overrides))
        if resolved["resume"]:
            config = compose(loader, overrides + _same_folder(resolved["resume"]))
        _run_one(loader, config)
    return 0


def _show(flags: argparse.Namespace) -> int:
    """What Hydra shows without running anything: ``--cfg``, ``--info``, ``--help``."""
    many = _asks_for_many(flags)
    with open_loader(flags.config_dir, flags.overrides) as loader:
        overrides = check_names(loader, flags.overrides, many)
        compose(loader, overrides, many)
    start = hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base=VERSION_BASE)
    with typed_as([*flag_words(flags), *overrides]), translated():
        start(job)()
    return 0


def _asks_for_many(flags: argparse.Namespace) -> bool:
    """Whether the command line asks for a sweep."""
    return flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides


def _checked(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of one run, which can be built, by as many processes as there are."""
    with located(loader, overrides):
        resolved = resolve(config, config.hydra.runtime.choices)
        _check(resolved, overrides)
        if resolved["launcher"]["type"] == "local" and not resolved["resume"]:
            check_started(resolved["trainer"])
    return resolved


def _run_sweep(loader: ConfigLoader, typed: Sequence[str]) -> int:
    from attnbuild.cli.sweep import run_sweep

    return run_sweep(loader, [word for word in typed if word != "hydra.mode=MULTIRUN"])


def job(composed: DictConfig) -> dict[str, Any]:
    """One run, in this process, of a config that was checked; returns its summary."""
    from attnbuild.training.fit import train

    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    config = resolve(composed, settings.runtime.choices, folder)
    return train(of_one_run(config), RunFolder(folder), as_typed(settings.overrides.task))


def _check(config: dict[str, Any], overrides: Sequence[str]) -> None:
    """Round 2, on the config that will train: that of the earlier run where one is resumed."""
    from attnbuild.cli.check import require_right

    if config.get("resume"):
        from attnbuild.training.resume import resumed_config

        folder = RunFolder.open(config["resume"])
        typed = [text for text in as_typed(overrides) if not text.startswith("hydra")]
        config = resumed_config(folder.read_config(), typed, str(folder.path), config.get("plugins") or [])
    require_right(config)


def _same_folder(run: str) -> list[str]:
    """A resumed run goes on in its folder, and keeps Hydra's notes of how it began."""
    quoted = os.path.abspath(run).replace("\\", "\\\\").replace("'", "\\'")
    return [f"hydra.run.dir='{quoted}'", "hydra.output_subdir=null"]


class _Composed(Hydra):
    """Runs a job of a config that is composed already; Hydra's own command would compose it two times more."""

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        super().__init__("train", loader)
        self.config = config

    def compose_config(self, *given: Any, **options: Any) -> DictConfig:
        return self.config


def _run_one(loader: ConfigLoader, config: DictConfig) -> None:
    """A single run. Its error is kept from Hydra, which would announce it with the overrides as passed on."""
    failed: list[AttnbuildError | OSError] = []

    def job_or_error(composed: DictConfig) -> dict[str, Any] | None:
        try:
            return job(composed)
        except (AttnbuildError, OSError) as error:
            failed.append(error)
            return None

    try:
        with translated():
            _Composed(loader, config).run(CONFIG_NAME, job_or_error, [])
    except OSError as error:  # those of the job are kept: this one is of making its folder
        where = f"cannot write to {error.filename}: {error.strerror}"
        raise AttnbuildError(f"{where}; choose a folder by paths.outputs=DIR") from error
    if failed:
        raise failed[0]
