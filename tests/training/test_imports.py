"""What a look at the registry, or a prediction, may cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = "{'lightning', 'torchmetrics', 'datasets', 'matplotlib', 'sacrebleu', 'pandas', 'tensorboard'}"


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("schedulers, callbacks, loggers, run, resume", HEAVY + " | {'torch'}"),
        ("optimizers, task, checkpoint, predict", HEAVY),
    ],
)
def test_no_heavy_import(modules: str, forbidden: str) -> None:
    program = f"from attnbuild.training import {modules}; import sys; print(({forbidden}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
