"""Translation: importing this package registers its task and its embedded data."""

from attnbuild.tasks.translation import cldr, multi30k, task

__all__ = ["cldr", "multi30k", "task"]
