"""Captioning: importing this package registers its task and its embedded data."""

from attnbuild.tasks.captioning import digit_scenes, task

__all__ = ["digit_scenes", "task"]
