"""What else a choice of the config needs beside it to be of use."""

from __future__ import annotations

from attnbuild.attention import describe
from attnbuild.paths import conf_dir
from attnbuild.registry import lookup

#: A task for what a reader's targets can serve as.
_TASKS = {"text": "translation", "captions": "captioning", "labels": "classification"}

_IMAGES = ["task=classification", "image.size=8", "image.channels=1"]
_BY_CHOICE = {
    "encoder/cnn": _IMAGES,
    "encoder/vit": _IMAGES,
    "decoder/classifier": _IMAGES,
    "search/none": _IMAGES,
    "augmentation/standard": _IMAGES,
    "recipe/word_attention": ["data=cldr_languages"],
}


def companions(group: str, name: str) -> list[str]:
    """Other words for the command line; none for most choices."""
    if group == "attention":
        return _beside_attention(name)
    if group == "data":
        return _beside_data(name)
    return _BY_CHOICE.get(f"{group}/{name}", [])


def _beside_attention(name: str) -> list[str]:
    can = describe(name)["capabilities"]
    if not can["parallel"]:
        return ["encoder=rnn", "decoder=rnn"]
    return [] if can["sequence"] else [*_IMAGES, "encoder=vit"]


def _beside_data(name: str) -> list[str]:
    options = load_options("data", name)
    reader = lookup("data", options["type"])
    task = _TASKS[reader.targets[0]]
    if "labels" in reader.targets and name not in ("table", "hf"):
        task = "classification"
    text = task == "classification" and reader.source_modality(options) == "text"
    return [f"task={task}", *(["encoder=transformer"] if text else [])]


def load_options(group: str, name: str) -> dict:
    """What a file of a group holds."""
    import yaml

    return yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8"))
