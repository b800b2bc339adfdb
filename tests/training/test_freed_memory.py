"""Memory that a training frees is used again, where the C library can be told so."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from attnbuild.training import fit, module
from attnbuild.training.freed_memory import give_back_freed_memory, keep_freed_memory
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


#: Prints the megabytes that are resident of 200 that were freed, in pieces with small things between, and after that.
RESIDENT = """
import numpy
from attnbuild.training.freed_memory import give_back_freed_memory, keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 1_000_000
keep_freed_memory()
before = resident()
pieces = [(numpy.ones(2_500_000, dtype="int8"), bytearray(40)) for _ in range(80)]
pieces = [small for large, small in pieces]
freed = resident()
give_back_freed_memory()
print(freed - before, resident() - before)
"""


@glibc
def test_memory_is_given_back_when_asked_to() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    told = subprocess.check_output([sys.executable, "-c", RESIDENT], text=True, env=environment)
    freed, given_back = map(int, told.split())
    assert freed > 150
    assert given_back < 50


@glibc
def test_who_has_told_the_library_before_is_not_overruled() -> None:
    told, _ = faults(tell=True, MALLOC_TOP_PAD_="131072")
    assert not told


def test_another_library_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
    give_back_freed_memory()


def test_every_training_tells_it(config: dict[str, Any], run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(fit, "keep_freed_memory", lambda: told.append("keep"))
    monkeypatch.setattr(module, "give_back_freed_memory", lambda: told.append("give back"))
    fit.train(config, run, [])
    validations = config["trainer"]["max_steps"] // config["validation"]["every"]
    assert told == ["keep"] + ["give back"] * validations
