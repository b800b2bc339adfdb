"""Checkpoints of strangers: nothing is run, no memory is taken for what is not in the file, one message."""

from __future__ import annotations

import io
import os
import pickle
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild import CheckpointError, load
from attnbuild.training.checkpoint import load_checkpoint
from attnbuild.training.checkpoint_file import check_file
from attnbuild.training.run import RunFolder
from tests.hostile_files import at_most, forged, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny_run(tmp_path_factory.mktemp("stranger"))


def refused(path: Path, message: str, read: Callable[[Path], Any] = load_checkpoint) -> None:
    """It is refused by one message that names it, within little memory."""
    with at_most(500), pytest.raises(CheckpointError, match=message) as error:
        read(path)
    assert path.name in str(error.value)
    assert len(str(error.value)) < 1000
    assert read is load or "\n" not in str(error.value)


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


PLACES: dict[str, Callable[[dict[str, Any], Any], None]] = {
    "top": lambda c, evil: c.update(more=evil),
    "config": lambda c, evil: c["attnbuild"]["config"]["data"].update(root=evil),
    "artifacts": lambda c, evil: c["attnbuild"]["artifacts"].update({"labels.json": evil}),
    "callbacks": lambda c, evil: c["callbacks"]["Checkpoints"]["best"].update(score=evil),
    "loops": lambda c, evil: c["loops"]["fit_loop"]["state_dict"].update(state=[{"deep": (evil,)}]),
    "optimizer": lambda c, evil: c["optimizer_states"][0]["state"][0].update(exp_avg=evil),
    "param_groups": lambda c, evil: c["optimizer_states"][0]["param_groups"][0].update(lr=evil),
    "weights": lambda c, evil: c["state_dict"].update({"model.x": evil}),
    "lr_schedulers": lambda c, evil: c.update(lr_schedulers=[{"lr_lambdas": [evil]}]),
}


@pytest.mark.parametrize("place", PLACES)
def test_pickles_are_not_run_wherever_they_are(run, tmp_path, place):
    path = forged(run, tmp_path, lambda c: PLACES[place](c, Runs(tmp_path / "owned")))
    refused(path, "nothing of it was run")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "what", [torch.nn.Linear(2, 2), pickle.PickleBuffer, {1, 2}, bytearray(3), torch.device("cpu"), slice(3)]
)
def test_what_is_no_plain_value_is_refused(run, tmp_path, what):
    def save() -> Path:
        return forged(run, tmp_path, lambda c: c.update(more=what))

    refused(save(), "it holds more than tensors and plain values|it is damaged")


def rewritten(run: RunFolder, path: Path, pickled: Callable[[bytes], bytes], how: int = zipfile.ZIP_STORED) -> Path:
    """The run's checkpoint with another pickle, or packed in another way."""
    with zipfile.ZipFile(run.best_checkpoint) as old, zipfile.ZipFile(path, "w", how) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, pickled(data) if entry.filename.endswith("data.pkl") else data)
    return path


def test_packed_entries_are_refused(run, tmp_path):
    """A megabyte of packed zeros is a gigabyte of zeros."""
    path = rewritten(run, tmp_path / "bomb.ckpt", lambda data: data, zipfile.ZIP_DEFLATED)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data/bomb", "w", force_zip64=True) as file,
    ):
        for _ in range(200):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    refused(path, "it is packed")


def test_entries_that_overlap_are_refused(run, tmp_path):
    path = rewritten(run, tmp_path / "overlap.ckpt", lambda data: data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/large", bytes(1 << 20))
        large = archive.infolist()[-1]
        for number in range(100):  # the same bytes again and again
            again = zipfile.ZipInfo(f"archive/data/again{number}")
            again.header_offset, again.file_size, again.compress_size = large.header_offset, 1 << 20, 1 << 20
            again.CRC, again.external_attr = large.CRC, 0
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive._didModify = True
    refused(path, "claim to be longer than the file")


def tensor(numbers: int, size: Any, stride: Any, offset: int = 0) -> bytes:
    """A pickle of one tensor with these claims, over storage 0."""

    class Claim:
        def __reduce__(self) -> Any:
            from torch._utils import _rebuild_tensor_v2

            return _rebuild_tensor_v2, (Storage(), offset, size, stride, False, {})

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numbers) if isinstance(value, Storage) else None

    file = io.BytesIO()
    Pickler(file, protocol=2).dump({"state_dict": {"model.x": Claim()}})
    return file.getvalue()


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ((1 << 40, (1 << 40,), (1,)), "a storage of 4,398,046,511,104 bytes has"),
        ((1, (1 << 40,), (1,)), "a tensor of 1,099,511,627,776 numbers has 1"),
        ((1, (1 << 20, 1 << 20), (0, 0)), "a tensor of 1,099,511,627,776 numbers has 1"),
        ((2, (2,), (1 << 50,)), "a tensor of 2 numbers has 2"),
        ((2, (2,), (1,), 1 << 50), "a tensor of 2 numbers has 2"),
        ((2, (-2,), (1,)), "a tensor has no shape"),
        ((2, (2,), (-1,)), "a tensor has no shape"),
        ((2, (2.0,), (1,)), "a tensor has no shape"),
        ((2, (1,) * 65, (1,) * 65), "a tensor has no shape"),
        ((-2, (2,), (1,)), "a storage has no length"),
    ],
)
def test_tensors_larger_than_the_file(run, tmp_path, claims, message):
    path = rewritten(run, tmp_path / "large.ckpt", lambda data: tensor(*claims))
    assert path.stat().st_size < 100_000
    refused(path, message)


MEMO = b"\x80\x02}r\xff\xff\xff\xff."  # a place in the memo that a table of 32 GB would have
BUFFER = b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R."
STORAGE = b"\x80\x02ctorch\nUntypedStorage\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R."
QUANTISED = b"\x80\x02ctorch._utils\n_rebuild_qtensor\n)R."
BYTES8 = b"\x80\x04\x96\x00\x00\x00\x00\x00\x01\x00\x00."
ATTRIBUTES = b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb."


@pytest.mark.parametrize("pickled", [MEMO, BUFFER, STORAGE, QUANTISED, BYTES8, ATTRIBUTES, b"\x80\x02(.", b"", b"."])
def test_pickles_that_ask_for_memory_or_attributes(run, tmp_path, pickled):
    path = rewritten(run, tmp_path / "asks.ckpt", lambda data: pickled)
    refused(path, "cannot be loaded|is no checkpoint of attnbuild")


@pytest.mark.parametrize("levels", [40, 100_000])
def test_lists_in_lists(run, tmp_path, levels):
    """Of 40 levels with the same list twice in each: a trillion values. Of 100000: Python's recursion."""
    if levels == 40:
        bomb: Any = []
        for _ in range(levels):
            bomb = [bomb, bomb]
        path = forged(run, tmp_path, lambda c: c["attnbuild"]["config"].update(more=bomb))
        refused(path, "unfolds to more than")
    else:
        deep = b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."
        refused(rewritten(run, tmp_path / "deep.ckpt", lambda data: deep), "nested deeper")


def test_a_list_in_itself(run, tmp_path):
    loop: list[Any] = []
    loop.append(loop)
    refused(forged(run, tmp_path, lambda c: c["attnbuild"]["config"].update(more=loop)), "holds itself")


def test_damage_is_refused_or_without_effect(run, tmp_path):
    """Files with a byte changed, cut short, or with another part in the middle: one message, or the same content."""
    whole = run.best_checkpoint.read_bytes()
    right = load_checkpoint(run.best_checkpoint)
    draw = random.Random(0)
    path = tmp_path / "damaged.ckpt"
    loaded, told = 0, []
    for number in range(90):
        data = bytearray(whole)
        if number % 3 == 0:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        elif number % 3 == 1:
            del data[draw.randrange(len(data)) :]
        else:
            start = draw.randrange(len(data))
            data[start : start + draw.randrange(64)] = draw.randbytes(draw.randrange(64))
        path.write_bytes(data)
        try:
            found = load_checkpoint(path)
        except CheckpointError as error:
            told.append(str(error))
            continue
        loaded += 1
        assert found["attnbuild"] == right["attnbuild"]
        for name, value in right["state_dict"].items():
            assert torch.equal(found["state_dict"][name], value)
    assert loaded < 45
    assert all("damaged.ckpt: " in message and "\n" not in message for message in told)


# What the config of a checkpoint may ask for


def set_in(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set a dotted key of the config that a checkpoint carries."""

    def change(checkpoint: dict[str, Any]) -> None:
        *sections, name = path.split(".")
        section = checkpoint["attnbuild"]["config"]
        for key in sections:
            section = section[key]
        section[name] = value

    return change


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("encoder.dim", 10**9), ("encoder.dim", 1 << 62), ("encoder.layers", 10**9), ("encoder.feedforward", 10**12)),
        *(("encoder.layers", 3), ("decoder.dim", 10**10), ("attention.heads", 10**9), ("encoder.feedforward", 17)),
        *(("attention", {"type": "performer", "preset": "performer", "features": 10**9}),),
        *(("attention", {"type": "reformer", "preset": "reformer", "heads": 2, "rounds": 10**9}),),
        *(("attention", {"type": "linformer", "preset": "linformer", "heads": 2, "max_len": 10**10, "rank": 10**6}),),
    ],
)
def test_a_model_larger_than_its_weights(run, tmp_path, key, value):
    refused(forged(run, tmp_path, set_in(key, value)), "cannot be used|does not fit the model", load)


def test_one_storage_for_many_names(run, tmp_path):
    """Weights of many layers that are one in the file would be many in the model."""

    def change(checkpoint: dict[str, Any]) -> None:
        checkpoint["attnbuild"]["config"]["encoder"]["layers"] = 40
        weights = checkpoint["state_dict"]
        for name in [name for name in weights if ".layers.0." in name]:
            for layer in range(1, 40):
                weights[name.replace(".layers.0.", f".layers.{layer}.")] = weights[name]

    path = forged(run, tmp_path, change)
    refused(path, "numbers, and the file", load)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("encoder", 3), ("encoder", {}), ("decoder", None), ("model", "x"), ("search", None)),
        *(("trainer", []), ("data", {}), ("data.type", "nothing"), ("task", {"type": "os.system"}), ("batch", 1)),
        *(("encoder.type", "attnbuild.cli.main"), ("encoder._target_", "os.system"), ("task._target_", "os.system")),
        *(("batch.eval_tokens", "many"), ("trainer.accelerator", 7), ("plugins", "os"), ("plugins", [["os"]])),
        *(("encoder.dim", -1), ("encoder.dim", float("nan")), ("encoder.dim", "${oc.env:HOME}")),
    ],
)
def test_configs_that_are_none(run, tmp_path, key, value):
    refused(forged(run, tmp_path, set_in(key, value)), "forged.ckpt: ", load)


@pytest.mark.parametrize(
    "artifacts",
    [
        *({}, {"labels.json": "{}"}, {"labels.json": "[" * 100_000}, {"labels.json": '{"names": 3, "multi_label": 0}'}),
        *({"tokenizer.json": "{}"}, {"tokenizer.json": ""}, {"tokenizer.json": "[" * 100_000}),
    ],
)
def test_tokenizers_and_labels_that_are_none(run, tmp_path, artifacts):
    def change(checkpoint: dict[str, Any]) -> None:
        own = checkpoint["attnbuild"]
        own["artifacts"] = {**own["artifacts"], **artifacts} if artifacts else {}

    refused(forged(run, tmp_path, change), "forged.ckpt: ", load)


def test_a_tokenizer_that_pads_without_end(run, tmp_path):
    from tokenizers import Tokenizer

    def change(checkpoint: dict[str, Any]) -> None:
        tokenizer = Tokenizer.from_str(checkpoint["attnbuild"]["artifacts"]["tokenizer.json"])
        tokenizer.enable_padding(length=10**12)
        checkpoint["attnbuild"]["artifacts"]["tokenizer.json"] = tokenizer.to_str()

    refused(forged(run, tmp_path, change), "it pads or cuts texts", load)


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", "..", "", "a\0b", "a\\b", 3])
def test_names_of_files_stay_in_the_folder(run, tmp_path, name):
    refused(
        forged(run, tmp_path, lambda c: c["attnbuild"]["artifacts"].update({name: "text"})),
        "a file outside its folder|cannot be loaded",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["state_dict"].update({"model.x": 3}),
        lambda c: c.update(state_dict=[]),
        lambda c: c["attnbuild"].update(config=[]),
        lambda c: c["attnbuild"].update(artifacts={"a": 1}),
        lambda c: c["attnbuild"].update(step="1"),
        lambda c: c["attnbuild"].update(step=-1),
    ],
)
def test_parts_of_another_kind(run, tmp_path, change):
    refused(forged(run, tmp_path, change), "cannot be loaded")


def test_plugins_are_imported_for_who_names_them(run, tmp_path, monkeypatch):
    (tmp_path / "stranger_plugin.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = forged(run, tmp_path, set_in("plugins", ["stranger_plugin"]))
    for plugins in (None, [], ["other_plugin"]):
        if plugins != ["other_plugin"]:
            with pytest.raises(CheckpointError, match=r"if you trust them, add plugins=\[stranger_plugin\]"):
                load(path, plugins)
    assert "stranger_plugin" not in sys.modules
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "own",
    [
        None,
        {"model_type": "bert", "_attn_implementation": "stranger/kernel"},
        {"model_type": "bert", "attn_implementation": "stranger/kernel"},
        {"model_type": "bert", "auto_map": {"AutoModel": "stranger/repository--model.Model"}},
        {"model_type": "bert", "text_config": [{"backbone": "resnet50", "use_pretrained_backbone": True}]},
    ],
)
def test_pretrained_models_fetch_nothing(run, tmp_path, own):
    """The transformers library runs code from the hub for a config that asks so."""
    encoder = {"type": "pretrained", "path": "stranger/model", "config": own}
    refused(forged(run, tmp_path, set_in("encoder", encoder)), r"encoder\.config", load)


def test_what_is_right_is_loaded(run, tmp_path):
    """And nothing but the file is needed: the data and the folder are gone."""
    shutil.copy(run.best_checkpoint, tmp_path / "alone.ckpt")
    loaded = load(tmp_path / "alone.ckpt")
    (found,) = loaded.task.predict(loaded.model, ["good film"], None)
    assert found.text in ("yes", "no")
    check_file(tmp_path / "alone.ckpt")


def test_averaged_half_and_tied_weights_are_right(tmp_path):
    """The outline knows every kind of tensor that a training writes."""
    linear = torch.nn.Linear(3, 3)
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64, torch.uint8, torch.bool]
    content = {
        "state_dict": linear.state_dict(),
        "tied": [linear.weight.data, linear.weight.data.T, linear.weight.data[1:]],
        "kinds": [torch.zeros(2).to(kind) for kind in kinds],
        "empty": [torch.zeros(0), torch.zeros(0, 5), torch.zeros(())],
    }
    torch.save(content, tmp_path / "kinds.ckpt")
    check_file(tmp_path / "kinds.ckpt")
