"""Run folders and config files of strangers, and what is shown of what was read."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from attnbuild import CheckpointError, ConfigError, DataError, load
from attnbuild.cli.main import main
from attnbuild.data.sides.labels import LabelsSide
from attnbuild.errors import told
from attnbuild.printable import in_one_line, printable
from attnbuild.training.logs import messages
from attnbuild.training.predict import predict_run
from attnbuild.training.run import RunFolder
from attnbuild.training.samples import render
from attnbuild.training.task import Prediction
from tests.hostile_files import BOMB, at_most, forged, tiny_run

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b1m\r\u202e"
COMMANDS = {character for character in ESCAPE if not character.isprintable()}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tiny_run(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def run(own: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy to spoil."""
    shutil.copytree(own.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


DEEP = "[" * 20_000
MERGES = "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10))
ODD_YAML = {
    "aliases": (BOMB, "unfolds to more than"),
    "merges": (MERGES, "unfolds to more than"),
    "long texts": (f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 10_000)}]\n", "unfolds to more than"),
    "itself": ("a: &a [*a]\n", "holds itself"),
    "deep": (DEEP, "nested deeper"),
    "deep block": ("".join(" " * n + "a:\n" for n in range(200)), "nested deeper"),
    "object": ("a: !!python/object/apply:os.mkdir [owned]\n", "could not determine a constructor"),
    "name": ("a: !!python/name:os.system\n", "could not determine a constructor"),
    "bytes": ("a: !!binary aGVsbG8=\n", "bytes, which is no plain value"),
    "date": ("a: 2026-01-01\n", "date, which is no plain value"),
    "no date": ("a: 2026-99-99\n", "month"),
    "large": ("# " + "x" * (5 << 20), "more than 4 MB"),
    "digits": ("a: " + "9" * 10_000, "4300"),
    "key": ("{[1, 2]: 3}", "unhashable|plain value"),
    "none": ("just words", "is no config"),
}


@pytest.mark.parametrize("name", ODD_YAML)
def test_configs_are_read_as_plain_values_of_a_bounded_size(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    text, message = ODD_YAML[name]
    run.config_file.write_text(text)
    with at_most(300), pytest.raises(CheckpointError, match=message) as error:
        run.read_config()
    assert str(run.config_file) in str(error.value)
    assert not Path("owned").exists()


def test_bytes_that_are_no_text(run):
    run.config_file.write_bytes(b"a: \xff")
    with pytest.raises(CheckpointError, match="codec can't decode"):
        run.read_config()


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": ' * 20_000, '"x"', "\x00"])
def test_summaries(run, text):
    run.summary_file.write_text(text)
    with pytest.raises(CheckpointError, match=r"summary\.json: "):
        run.read_summary()


@pytest.mark.parametrize("text", ["{a: 1}", "[1]", "3", BOMB])
def test_overrides(run, text):
    run.overrides_file.write_text(text)
    with at_most(300), pytest.raises(CheckpointError, match=r"overrides\.yaml: "):
        run.read_overrides()


@pytest.mark.parametrize("name", ["../../other/best.ckpt", "/etc/passwd", "..", 3, ["x"], "a/best.ckpt", "a\0b"])
def test_a_checkpoint_elsewhere_is_not_opened(run, name):
    run.write_summary({"checkpoint": name})
    with pytest.raises(CheckpointError, match=r"summary\.json: names a checkpoint outside the run"):
        run.chosen_checkpoint()


def test_interpolations_are_text(run, tmp_path, monkeypatch):
    """Nothing of the environment gets into what is loaded, or written again."""
    monkeypatch.setenv("SECRET", "hidden")
    config = run.read_config()
    config["paths"]["outputs"] = "${oc.env:SECRET}"
    config["optimizer"]["lr"] = "${oc.decode:${oc.env:SECRET}}"
    run.write_config(config, ["seed=${oc.env:SECRET}"])
    assert run.read_config()["paths"]["outputs"] == "${oc.env:SECRET}"
    assert run.read_overrides() == ["seed=${oc.env:SECRET}"]

    def change(checkpoint):
        checkpoint["attnbuild"]["config"]["paths"]["outputs"] = "${oc.env:SECRET}"

    assert load(forged(run, tmp_path, change)).config["paths"]["outputs"] == "${oc.env:SECRET}"


def test_prediction_touches_nothing_outside(run, tmp_path, monkeypatch):
    """A stranger's config may name any file: prediction opens the run, the input and the output, and writes one."""
    root = tmp_path / "elsewhere"

    def change(checkpoint):
        config = checkpoint["attnbuild"]["config"]
        config["data"].update(root=str(root), train=str(root / "train.csv"))
        config["paths"].update(outputs=str(root / "outputs"), run=str(root / "run"))
        config.update(init_from=str(root / "a.ckpt"), resume=str(root / "b"))

    shutil.move(forged(run, tmp_path, change), run.best_checkpoint)
    (tmp_path / "in.txt").write_text("good film\n")
    opened: list[tuple[str, bool]] = []
    watching = True

    def watch(event, arguments):  # a hook stays for as long as the process
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.append((arguments[0], bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))))

    sys.addaudithook(watch)
    before = sorted(tmp_path.rglob("*"))
    predict_run(run.path, str(tmp_path / "in.txt"), str(tmp_path / "out.txt"), {})
    watching = False
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "out.txt"])
    assert not [path for path, _ in opened if str(root) in path]
    assert {Path(path).parent for path, written in opened if written} <= {tmp_path, Path("/dev")}


def test_a_log_that_is_a_link_is_not_written(run, tmp_path):
    run.log_file.unlink(missing_ok=True)
    run.log_file.symlink_to(tmp_path / "profile")
    with pytest.raises(CheckpointError, match="is a link to another file"), messages(run):
        pass
    assert not (tmp_path / "profile").exists()


def test_a_resumed_run_imports_the_plugins_that_the_user_names(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "strangers_part.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = run.read_config()
    config["plugins"] = ["strangers_part"]
    run.write_config(config, [])
    assert main(["train", f"resume={run.path}"]) == 1
    assert "if you trust them, add plugins=[strangers_part]" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()


def test_candidates_stay_in_the_folder(run):
    from attnbuild.training.saving import Checkpoints

    callback = Checkpoints(run, "validation/accuracy", None, None)
    with pytest.raises(CheckpointError, match="names a checkpoint outside the run"):
        callback.load_state_dict({"best": {}, "candidates": [("../../other.ckpt", 1.0)]})


@pytest.mark.parametrize("name", ["aliases", "deep", "large"])
def test_configs_of_users_that_unfold(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "experiment").mkdir(parents=True)
    (tmp_path / "my" / "experiment" / "evil.yaml").write_text("# @package _global_\n" + ODD_YAML[name][0])
    assert main(["train", "--config-dir", "my", "experiment=evil"]) == 2
    error = capsys.readouterr().err
    assert "evil.yaml" in error
    assert ODD_YAML[name][1] in error
    assert "Traceback" not in error


def test_folders_of_configs_in_circles(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "encoder").mkdir(parents=True)
    (tmp_path / "my" / "encoder" / "up").symlink_to("..")
    (tmp_path / "my" / "here").symlink_to(".")
    assert main(["train", "--config-dir", "my", "encoder=nothing"]) == 2
    assert "there is no 'nothing'" in capsys.readouterr().err


# What is shown


def test_escapes_are_shown_not_sent():
    assert printable(ESCAPE) == "\\x1b]0;owned\\x07\\x1b[2J\\x9b1m\\r\\u202e"
    assert (
        printable("tab\tand\nline, ä, 日本, \N{ZERO WIDTH JOINER}") == "tab\tand\nline, ä, 日本, \N{ZERO WIDTH JOINER}"
    )
    assert printable("\ud800 caf\udce9") == "\\ud800 caf\\udce9"
    assert in_one_line("a\nb\tc", 3) == "a\\nb..."


def test_errors_samples_and_logs(run, capsys, monkeypatch):
    assert "\x1b" not in told(DataError(f"x: {ESCAPE}"))
    assert "\x1b" not in told(OSError(2, "No such file", f"a{ESCAPE}"))
    assert not set(render([Prediction(0, ESCAPE, f"in {ESCAPE}", f"\ud800{ESCAPE}")])) & COMMANDS
    with messages(run):
        logging.getLogger("attnbuild.x").info("said %s \ud800", ESCAPE)
        try:
            raise ValueError(ESCAPE)
        except ValueError:
            logging.getLogger("attnbuild.x").exception("failed")
    for text in (run.log_file.read_text(encoding="utf-8"), capsys.readouterr().err):
        assert "said \\x1b]0;owned" in text
        assert not set(text) & COMMANDS


def test_commands_show_no_escapes(run, tmp_path, capsys):
    assert main(["predict", f"run={tmp_path}/{ESCAPE}", "input=-"]) == 1
    error = capsys.readouterr().err
    assert "there is no such run folder" in error
    assert not set(error) & COMMANDS


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_predictions_on_a_terminal_and_in_a_file(tmp_path, monkeypatch):
    """A terminal gets no escapes; a file gets what the model said, one line an input."""
    labels = {"names": [f"no{ESCAPE}", f"yes{ESCAPE}\u2028x\r\n\x0bz"], "multi_label": False}
    run = tiny_run(tmp_path)

    def change(checkpoint):
        checkpoint["attnbuild"]["artifacts"]["labels.json"] = json.dumps(labels)

    path = forged(run, tmp_path, change)
    (tmp_path / "in.txt").write_text("good film\n\nbad film\n")
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    predict_run(path, str(tmp_path / "in.txt"), "-", {})
    assert "\\x1b]0;owned" in screen.getvalue()
    assert not set(screen.getvalue()) & COMMANDS
    predict_run(path, str(tmp_path / "in.txt"), str(tmp_path / "out.txt"), {})
    written = (tmp_path / "out.txt").read_bytes().decode()
    assert len(written.splitlines()) == 3
    assert ESCAPE.replace("\r", " ") in written


def test_inputs_that_are_no_text_are_named(run, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"x\n\xff\n")
    with pytest.raises(DataError, match=r"in\.txt:2: is not valid UTF-8"):
        predict_run(run.path, str(tmp_path / "in.txt"), str(tmp_path / "out"), {})
    assert not (tmp_path / "out").exists()


# Predictions from tables and pairs


def test_a_column_of_a_table_is_predicted_from(run, tmp_path):
    (tmp_path / "in.csv").write_text('text,n\n"good, film",1\n,2\nbad film,3\n')
    (tmp_path / "in.jsonl").write_text('{"text": "good, film"}\n\n{"text": "bad film"}\n')
    (tmp_path / "in.txt").write_text("good, film\n\nbad film\n")
    for name in ("in.csv", "in.jsonl", "in.txt"):
        assert predict_run(run.path, str(tmp_path / name), str(tmp_path / f"{name}.out"), {}) == 3
        assert (tmp_path / f"{name}.out").read_text() == (tmp_path / "in.csv.out").read_text()
    with pytest.raises(
        DataError, match=r"in\.csv:1: no column 'review'; the columns are: text, n; choose by data\.source"
    ):
        predict_run(run.path, str(tmp_path / "in.csv"), str(tmp_path / "out"), {"data": {"source": "review"}})


def test_a_line_that_is_no_pair_is_named_by_its_number(tmp_path):
    run = tiny_run(tmp_path, "data.pair=other")
    (tmp_path / "in.txt").write_text("good film\ta\n\nbad film\n")
    with pytest.raises(DataError, match=r"line 3 of the input: .*parted by a tab, and here are 1: 'bad film'"):
        predict_run(run.path, str(tmp_path / "in.txt"), str(tmp_path / "out"), {})
    (tmp_path / "in.csv").write_text("text,other\ngood film,a\nbad film,\n")
    assert predict_run(run.path, str(tmp_path / "in.csv"), str(tmp_path / "out"), {}) == 2
    assert (tmp_path / "out").read_text().splitlines()[1] == ""


def test_a_config_error_has_no_raw_text():
    assert "\x1b" not in told(ConfigError(f"{ESCAPE}: unknown", "a.b"))


def test_labels_with_line_breaks_keep_their_number():
    side = LabelsSide.of([["one\ntwo", "three"], ["four"]], multi_label=True)
    assert side.names == ["four", "one two", "three"]
    assert side.text(["one\ntwo", "three"]).split("\n") == ["one two", "three"]
    assert [row.tolist() for row in side.encode([["one\ntwo", "three"]])] == [[1, 2]]
