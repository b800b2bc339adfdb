"""The attention maps of runs, matched by the example that they are of, and small enough for one page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbuild.sweeps.report.collect import Job
from attnbuild.sweeps.report.columns import Group
from attnbuild.sweeps.report.reading import Notes, as_text

__all__ = ["BUDGET", "Example", "Shown", "read_examples"]

#: What all pictures of a page may take, in bytes: a page is opened, sent and kept.
BUDGET = 24 * 2**20

#: Wide and high enough to read the words at the sides.
_WIDEST, _HIGHEST = 1000, 1800

#: A picture that claims more pixels was not drawn by a run.
_MOST_PIXELS = 60_000_000

_QUALITY = 80

_LARGEST_SAMPLES = 2**20


@dataclass(frozen=True)
class Shown:
    """One picture.

    Attributes:
        job: whose it is.
        group: what is chosen in that job.
        uri: the picture itself, as a data URI.
        width: in pixels.
        height: in pixels.
    """

    job: Job
    group: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Example:
    """One sentence or picture, as several runs attended to it.

    Attributes:
        name: of the files: ``sentence-0_heads``.
        text: the input, and what was expected; empty where the runs do not tell.
        shown: one for each group that has it.
    """

    name: str
    text: str
    shown: list[Shown]

    @property
    def title(self) -> str:
        """For a list to choose from."""
        first = self.text.partition("\n")[0]
        return f"{self.name}: {first}" if first else self.name


def read_examples(groups: Sequence[Group], notes: Notes) -> tuple[list[Example], int]:
    """The maps of one run of each group: the first finished one that has any, else the first.

    Files of one name show the same example only where the runs validated on the same data, so they are matched
    by name and by the text of the example.

    Returns:
        The examples, and how many pictures were left out to keep the page small.
    """
    found: dict[tuple[str | None, str, str], list[_File]] = {}
    for group in groups:
        for job in sorted(group.jobs, key=lambda job: not job.is_ok):
            paths = _map_files(job)
            if paths:
                texts = _texts(job, paths)
                for path in paths:
                    of = (job.task, as_text(path.stem, 100), texts.get(_row(path), ""))
                    found.setdefault(of, []).append(_File(job, group.name, path))
                break
    examples, spent, left_out = [], 0, 0
    for (_, name, text), files in sorted(found.items(), key=lambda item: _natural(item[0][1])):
        shown = []
        for file in files:
            if spent >= BUDGET:
                left_out += 1
            elif picture := _read(file, notes):
                spent += len(picture.uri)
                shown.append(picture)
        if shown:
            examples.append(Example(name, text, shown))
    return examples, left_out


@dataclass(frozen=True)
class _File:
    """A picture that was not read yet: whose it is, what is chosen in that job, and where it lies."""

    job: Job
    group: str
    path: Path


def _map_files(job: Job) -> list[Path]:
    """The pictures of a run; a link, which might lead anywhere, is none."""
    return sorted(path for path in job.folder.glob("maps/*.png") if path.is_file() and not path.is_symlink())


def _row(path: Path) -> int | None:
    """The row of the validation data that a picture is of: the first number in its name."""
    found = re.search(r"\d{1,9}", path.stem)
    return int(found[0]) if found else None


def _natural(name: str) -> tuple[str | int, ...]:
    """Sorts sentence-10 after sentence-9."""
    parts = re.split(r"(\d{1,9})", name)
    return tuple(part.zfill(9) if part.isdigit() else part for part in parts)


def _texts(job: Job, maps: Sequence[Path]) -> dict[int | None, str]:
    """Row of the validation data -> its text, for as many rows as the run keeps samples of."""
    samples = sorted(job.folder.glob("samples/step-*.txt"))
    if not samples or samples[-1].is_symlink() or samples[-1].stat().st_size > _LARGEST_SAMPLES:
        return {}
    if 0 not in map(_row, maps):
        return {}  # rows count from 0: these are counted in a way that is not known here
    paragraphs = samples[-1].read_text(encoding="utf-8", errors="replace").split("\n\n")
    return {row: as_text(_without_prediction(paragraph), 1000) for row, paragraph in enumerate(paragraphs)}


def _without_prediction(paragraph: str) -> str:
    """Input and reference of a sample, which all runs share; see ``attnbuild.training.samples.render``."""
    kept, name = [], ""
    for line in paragraph.strip("\n").split("\n"):
        name = line[:11].strip() or name
        if name != "prediction":
            kept.append(line[12:])
    return "\n".join(kept)


def _read(file: _File, notes: Notes) -> Shown | None:
    """A picture drawn anew, smaller where it is large: never the file's own bytes."""
    from PIL import Image, features

    try:
        with Image.open(file.path, formats=["PNG"]) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                notes.add(file.path, f"{opened.width} x {opened.height} pixels are too many: left out")
                return None
            picture = opened.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        notes.add(file.path, f"cannot be read: {error}")
        return None
    on_white = Image.new("RGB", picture.size, "white")
    on_white.paste(picture, mask=picture.getchannel("A"))
    on_white.thumbnail((_WIDEST, _HIGHEST))
    written = io.BytesIO()
    kind = "webp" if features.check("webp") else "png"
    on_white.save(written, kind.upper(), quality=_QUALITY, optimize=True)
    uri = f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"
    return Shown(file.job, file.group, uri, *on_white.size)
