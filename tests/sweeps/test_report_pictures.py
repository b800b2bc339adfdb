"""Attention maps in ``attnbuild report``: matched by example, small, and never anybody's own bytes."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from attnbuild.sweeps.report import pictures
from attnbuild.sweeps.report.collect import collect
from attnbuild.sweeps.report.columns import Columns
from attnbuild.sweeps.report.pictures import Example, read_examples
from attnbuild.sweeps.report.reading import Notes
from tests.sweeps.report_runs import write_job, write_sweep

SENTENCES = [("two dogs", "zwei Hunde"), ("a man\n            who runs", "ein Mann")]


def examples_of(folder: Path) -> tuple[list[Example], int, list[str]]:
    notes = Notes()
    examples, left_out = read_examples(Columns(collect(folder)).groups, notes)
    return examples, left_out, notes.lines


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_same_example_stands_side_by_side(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    for number, colour in enumerate(("red", "blue")):
        maps = {"sentence-0": colour, "sentence-1": colour, "sentence-1_heads": colour, "sentence-10": colour}
        write_job(folder, number, [f"attention={colour}"], score=1.0, maps=maps, samples=SENTENCES)
    examples, left_out, notes = examples_of(folder)
    assert (left_out, notes) == (0, [])
    assert [example.title for example in examples] == [
        *("sentence-0: two dogs", "sentence-1: a man", "sentence-1_heads: a man", "sentence-10"),
    ]
    assert examples[1].text == "a man\nwho runs\nein Mann", "what was expected too; not what one run predicted"
    assert [[shown.group for shown in example.shown] for example in examples] == [
        ["attention=red", "attention=blue"]
    ] * 4
    red = decoded(examples[0].shown[0].uri).convert("RGB")
    assert red.getpixel((100, 100))[0] > 240
    assert red.getpixel((5, 5)) == pytest.approx((255, 255, 255), abs=4), "transparent becomes white"


def test_files_of_one_name_and_other_data_are_not_mixed(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    for number in range(3):
        samples = [(f"sentence {number // 2}", "Satz")]
        words = [f"data.seed={number}"]
        write_job(folder, number, words, score=1.0, maps={"sentence-0": "red"}, samples=samples)
    write_job(folder, 3, ["data.seed=3"], score=1.0, task="captioning", maps={"sentence-0": "red"}, samples=samples)
    examples, _, _ = examples_of(folder)
    assert [(example.title, len(example.shown)) for example in examples] == [
        *(("sentence-0: sentence 0", 2), ("sentence-0: sentence 1", 1), ("sentence-0: sentence 1", 1)),
    ]


def test_names_that_do_not_count_from_0_are_given_no_text(tmp_path: Path) -> None:
    """Text of another row under a picture would be worse than none."""
    folder = write_sweep(tmp_path / "s")
    write_job(folder, 0, ["seed=1"], score=1.0, maps={"sentence-1": "red"}, samples=SENTENCES)
    examples, _, _ = examples_of(folder)
    assert [example.title for example in examples] == ["sentence-1"]


def test_one_run_stands_for_its_seeds(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    write_job(folder, 0, ["seed=1"], "failed", score=1.0, maps={"image-0": "red"})
    write_job(folder, 1, ["seed=2"], score=1.0)
    write_job(folder, 2, ["seed=3"], score=1.0, maps={"image-0": "red"})
    (example,) = examples_of(folder)[0]
    assert [shown.job.number for shown in example.shown] == [2]


def test_large_pictures_become_small(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    job = write_job(folder, 0, ["seed=1"], score=1.0, maps={"sentence-0": "red"})
    Image.effect_noise((3000, 4000), 90).save(job / "maps" / "sentence-0.png")
    (example,) = examples_of(folder)[0]
    shown = example.shown[0]
    assert decoded(shown.uri).size == (shown.width, shown.height)
    assert shown.width <= 1000
    assert shown.height <= 1800
    assert shown.width / shown.height == pytest.approx(0.75, abs=0.01)


def test_the_page_stays_within_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sweep(tmp_path / "s")
    for number in range(4):
        write_job(folder, number, [f"model.dim={number}"], score=1.0, maps={"sentence-0": "red", "sentence-1": "red"})
    whole, _, _ = examples_of(folder)
    size = len(whole[0].shown[0].uri)
    monkeypatch.setattr(pictures, "BUDGET", 3 * size - 1)
    examples, left_out, _ = examples_of(folder)
    assert [len(example.shown) for example in examples] == [3]
    assert left_out == 5


def test_a_bomb_is_left_out(tmp_path: Path) -> None:
    """A header that claims 10^10 pixels: refused before any memory is taken."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    folder = write_sweep(tmp_path / "s")
    job = write_job(folder, 0, ["seed=1"], score=1.0, maps={"sentence-0": "red", "sentence-1": "red"})
    for name, side in (("sentence-0", 100_000), ("sentence-1", 8_500)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        (job / "maps" / f"{name}.png").write_bytes(bomb)
    examples, _, notes = examples_of(folder)
    assert examples == []
    assert len(notes) == 2
    assert "8500 x 8500 pixels are too many" in notes[1]


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    """A stranger's run may not fetch a picture from elsewhere into a page that is passed on."""
    Image.new("RGB", (9, 9)).save(tmp_path / "private.png")
    folder = write_sweep(tmp_path / "s")
    job = write_job(folder, 0, ["seed=1"], score=1.0, maps={"sentence-0": "red"})
    (job / "maps" / "sentence-0.png").unlink()
    (job / "maps" / "sentence-0.png").symlink_to(tmp_path / "private.png")
    assert examples_of(folder)[0] == []
