"""This machine's processor, as Linux tells it."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["amd_family", "processor_name"]


def processor_name() -> str:
    """What its maker calls it; what Python knows where the system does not tell."""
    return _told().get("model name") or platform.processor() or platform.machine()


def amd_family() -> int:
    """Its family as AMD counts them, 25 for Zen 3 and 4, 26 for Zen 5; 0 where it is not AMD's."""
    told = _told()
    return int(told.get("cpu family", 0)) if told.get("vendor_id") == "AuthenticAMD" else 0


def _told() -> dict[str, str]:
    """/proc/cpuinfo by its fields; empty where there is none. All processors of a machine are taken to be alike."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
