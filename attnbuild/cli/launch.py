"""``attnbuild train launcher=slurm``: one run, started elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnbuild import registry
from attnbuild.errors import ConfigError
from attnbuild.sections import of_one_run
from attnbuild.sweeps.launchers.base import Job, Launcher, LauncherPlace
from attnbuild.sweeps.plan import config_hash
from attnbuild.sweeps.status import Status
from attnbuild.training.resume import resumed_config
from attnbuild.training.run import RunFolder

__all__ = ["launch_one"]


def launch_one(config: dict[str, Any], folder: Path, typed: Sequence[str]) -> int:
    """Hand one run to a launcher, and leave; its folder tells how it stands.

    Args:
        config: resolved and checked.
        folder: the run folder; with ``resume`` set, that folder is used instead.
        typed: the overrides as typed.

    Raises:
        ConfigError: the launcher cannot start such a run.
    """
    run = RunFolder(folder.absolute())
    own = of_one_run(config)
    if config["resume"]:
        run = RunFolder.open(config["resume"])
        resumed = resumed_config(run.read_config(), list(typed), str(run.path), config.get("plugins") or [])
        own = {**resumed, "resume": None}
    own["paths"] = {**own["paths"], "run": str(run.path)}
    place = LauncherPlace(run.path, f"{own['task']['type']}-{run.path.name}")
    launcher: Launcher = registry.build("launcher", place, config["launcher"], "launcher")
    job = Job(run.path, own, place.name)
    problems = launcher.check(job)
    if problems:
        raise ConfigError(problems)
    if launcher.dry_run:
        print(launcher.describe(job))
        return 0
    run.create()
    run.write_config(own, [word for word in typed if not word.startswith("launcher")])
    Status(overrides=list(typed), hash=config_hash(own)).write(run.path)
    launcher.start(job)
    print(f"on its way: {run.path}", file=sys.stderr)
    return 0
