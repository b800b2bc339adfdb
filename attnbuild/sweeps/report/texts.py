"""Figures and names as people read them."""

from __future__ import annotations

import re

__all__ = ["cost_label", "cost_text", "cost_unit", "is_lower_better", "metric_text"]

#: Metrics of which less is better, by a word of their name.
_LOWER = re.compile(r"(^|[_/ ])(loss|perplexity|error|wer|cer|ter|mae|mse|rmse)($|_)")

_NARROW = "\u202f"  # a narrow space that does not break, between thousands


def is_lower_better(name: str) -> bool:
    """Whether less of a metric or cost is better, as far as its name tells."""
    return not name.endswith("_per_second") and ("/" not in name or _LOWER.search(name.lower()) is not None)


def metric_text(value: float, digits: int = 4) -> str:
    """A metric with so many digits, zeros at its end among them, so that columns line up."""
    if 1e4 <= abs(value) < 1e9:
        return _counted(value)
    return f"{value:#.{digits}g}".removesuffix(".")


def cost_label(name: str) -> str:
    """What a cost is called: ``tokens/s``."""
    if name.endswith("_per_second"):
        return f"{name.removesuffix('_per_second')}/s"
    return {"wall_seconds": "time", "peak_memory_mb": "peak memory"}.get(name, name)


def cost_unit(name: str) -> str:
    """What a cost is counted in, where its label does not say so."""
    return {"wall_seconds": "s", "peak_memory_mb": "MB"}.get(name, "")


def cost_text(name: str, value: float) -> str:
    """A cost with its unit where that is not in its label."""
    if name == "wall_seconds":
        return _duration(value)
    if name == "peak_memory_mb":
        return f"{_counted(value)}{_NARROW}MB"
    return _counted(value) if value >= 100 else f"{value:.3g}"


def _counted(value: float) -> str:
    return f"{value:,.0f}".replace(",", _NARROW)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g}{_NARROW}s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    if seconds < 3600:
        return f"{minutes}{_NARROW}min {int(seconds % 60):02d}{_NARROW}s"
    return f"{minutes // 60}{_NARROW}h {minutes % 60:02d}{_NARROW}min"
