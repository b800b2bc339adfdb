"""Where attnbuild's own files are."""

from __future__ import annotations

from pathlib import Path

from attnbuild.errors import AttnbuildError

__all__ = ["conf_dir"]


def conf_dir() -> Path:
    """The folder of shipped configs, in a checkout and in an installed wheel alike.

    Raises:
        AttnbuildError: the checkout was made without symbolic links.
    """
    folder = Path(__file__).parent / "conf"
    if not folder.is_dir():
        raise AttnbuildError(
            f"{folder} is not a folder: this checkout was made without symbolic links; "
            "run 'git config core.symlinks true && git checkout -- attnbuild', or install the wheel"
        )
    return folder
