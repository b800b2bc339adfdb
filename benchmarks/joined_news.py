"""Long texts to classify: AG News, four descriptions of one class joined."""

from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path

from runs import data_root

__all__ = ["join_news"]


def join_news(folder: Path) -> None:
    """Tables of texts, each four descriptions of one class drawn at random: 8,000 / 500 / 1,900."""
    if folder.is_dir():
        return
    draw = random.Random(0)
    train_rows, test_rows = (read_news(name) for name in ("agnews_desc_train10k.csv", "agnews_desc_test_official.csv"))
    draw.shuffle(train_rows)
    folder.mkdir(parents=True)
    write_table(folder / "train.csv", joined_at_random(train_rows[:-1000], 8000, draw))
    write_table(folder / "validation.csv", joined_at_random(train_rows[-1000:], 500, draw))
    write_table(folder / "test.csv", joined_once(test_rows, draw))


def read_news(name: str) -> list[tuple[str, str]]:
    """(label, text) of a file."""
    with gzip.open(data_root() / "textcls" / f"{name}.gz", "rt", encoding="utf-8", newline="") as file:
        return [(row["label"], row["text"]) for row in csv.DictReader(file)]


def by_label(rows: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {label: [text for other, text in rows if other == label] for label in sorted({row[0] for row in rows})}


def joined_at_random(rows: list[tuple[str, str]], count: int, draw: random.Random) -> list[tuple[str, str]]:
    texts = by_label(rows)
    labels = [draw.choice(list(texts)) for _ in range(count)]
    return [(label, " ".join(draw.sample(texts[label], 4))) for label in labels]


def joined_once(rows: list[tuple[str, str]], draw: random.Random) -> list[tuple[str, str]]:
    """Every text in one of the joined ones, those left over at the end apart."""
    joined = []
    for label, texts in by_label(rows).items():
        draw.shuffle(texts)
        joined += [(label, " ".join(texts[start : start + 4])) for start in range(0, len(texts) - 3, 4)]
    return joined


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
