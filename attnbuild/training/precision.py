"""The arithmetic of a run: what ``trainer.precision=auto`` is on this machine, and what is slow on it."""

from __future__ import annotations

import logging
from typing import Any

import torch

__all__ = ["has_bf16", "precision_of"]

_log = logging.getLogger(__name__)


def precision_of(section: dict[str, Any]) -> str:
    """The precision that the section ``trainer`` asks for, as Lightning names it.

    ``auto`` is bf16-mixed where the device has that arithmetic and 32-true elsewhere. A device that has not imitates
    it, on CPUs ten to a hundred times slower than single precision; whoever names bf16 there is warned.
    """
    asked = section["precision"]
    if asked == "auto":
        chosen = "bf16-mixed" if has_bf16(section["accelerator"]) else "32-true"
        _log.info("precision: %s", chosen)
        return chosen
    if asked.startswith("bf16") and not has_bf16(section["accelerator"]):
        _log.warning(
            "trainer.precision=%s: this device has no bf16 arithmetic and imitates it, many times slower than single "
            "precision; trainer.precision=auto takes bf16 only where it is fast",
            asked,
        )
    return asked


def has_bf16(accelerator: str) -> bool:
    """Whether the device that this ``trainer.accelerator`` means computes in bf16 rather than imitating it."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return True
    return _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # torch 2.11 and 2.12
