"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tests are small and run side by side: more threads than one would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hubs may be out of reach, and a test that asks one hangs.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shell's background jobs ignore Ctrl-C, and would hand that on to the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The first of a law's cases imports and builds kernels, and the machine may be busy: how long one takes says nothing.
settings.register_profile("attnbuild", deadline=None)
settings.load_profile("attnbuild")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Encoded data and tokenizers of the tests stay out of the user's cache."""
    os.environ["ATTNBUILD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real data sets for tests: ``$ATTNBUILD_DATA``, or ``shared/data`` beside the checkout."""
    root = Path(os.environ.get("ATTNBUILD_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data: {root} is absent; set ATTNBUILD_DATA")
    return root


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers, and which plugins it loads, is forgotten after it."""
    from attnbuild import registry
    from attnbuild.choices import CHOICES

    for kind in registry.KINDS:
        registry.names(kind)  # what is built in registers once in a process: it must be there before the copy
    monkeypatch.setattr(registry, "_parts", {kind: dict(parts) for kind, parts in registry._parts.items()})
    monkeypatch.setattr(registry, "_loaded", set(registry._loaded))
    before = dict(CHOICES)
    yield
    CHOICES.clear()
    CHOICES.update(before)
