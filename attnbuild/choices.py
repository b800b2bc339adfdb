"""Choices of config groups that plugins bring along, so that a plugin of one file needs no folder of configs."""

from __future__ import annotations

__all__ = ["CHOICES", "add_choice"]

#: group/name -> what a file conf/group/name.yaml would hold.
CHOICES: dict[str, str] = {}


def add_choice(group: str, name: str, content: str) -> None:
    """Let ``group=name`` be chosen wherever ``plugins=[...]`` names the module that calls this.

    Args:
        group: of the config, such as ``task`` or ``recipe``.
        name: what is typed after ``group=``; what was added under the name before goes.
        content: YAML, as in a file ``conf/group/name.yaml``, the line ``# @package _global_`` and defaults included.
    """
    CHOICES[f"{group}/{name}"] = content
