"""Memory that a training frees is used again, where the C library can be told so."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from attnbuild.training import fit
from attnbuild.training.freed_memory import keep_freed_memory
from attnbuild.training.run import RunFolder

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")

#: Prints whether the library was told, and the page faults of a tensor of 40 MB that is made and freed 20 times, after
#: it was 20 times before: small things that come to lie in its place make it take another one at first.
FAULTS = """
import resource, torch
from attnbuild.training.freed_memory import keep_freed_memory
told = keep_freed_memory() if TELL else False
for turn in range(40):
    if turn == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(tell: bool, **variables: str) -> tuple[bool, int]:
    program = FAULTS.replace("TELL", str(tell))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    told, count = subprocess.check_output([sys.executable, "-c", program], text=True, env=environment).split()
    return told == "True", int(count)


@glibc
def test_memory_is_used_again_without_page_faults() -> None:
    (untold, before), (told, after) = faults(tell=False), faults(tell=True)
    assert not untold
    assert told
    assert after * 5 < before


@glibc
def test_who_has_told_the_library_before_is_not_overruled() -> None:
    told, _ = faults(tell=True, MALLOC_TOP_PAD_="131072")
    assert not told


def test_another_library_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False


def test_every_training_tells_it(config: dict[str, Any], run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(fit, "keep_freed_memory", lambda: told.append(True))
    fit.train(config, run, [])
    assert told == [True]
