"""Classification: importing this package registers its task and its embedded data."""

from attnbuild.tasks.classification import cldr_languages, digits, task

__all__ = ["cldr_languages", "digits", "task"]
