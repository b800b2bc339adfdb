"""What goes wrong while training is told in one message, and nothing is lost."""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild.data.batching import Batch
from attnbuild.data.sides.labels import LabelsSide
from attnbuild.data.sides.text import TextSide
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD
from attnbuild.errors import AttnbuildError, CheckpointError, OutOfMemory
from attnbuild.registry import load_plugins
from attnbuild.training import batches, guard, lock, probe
from attnbuild.training.checkpoint import load_checkpoint
from attnbuild.training.distributed import launch
from attnbuild.training.fit import train
from attnbuild.training.metrics_file import MetricsFile
from attnbuild.training.out_of_memory import is_out_of_memory, out_of_memory_told
from attnbuild.training.run import RunFolder

Config = dict[str, Any]


@pytest.fixture
def faulty(config: Config) -> Config:
    load_plugins(["faulty_task"])
    config["plugins"] = ["fake_task", "faulty_task"]
    config["task"] = {"type": "faulty"}
    return config


def logged(run: RunFolder) -> list[str]:
    """Steps, metrics and values, but for what time they took."""
    lines = run.metrics_file.read_text().splitlines()
    return [line.rpartition(",")[0] for line in lines if "per_second" not in line]


def assert_same_end(run: RunFolder, whole: RunFolder) -> None:
    assert logged(run) == logged(whole)
    ours, theirs = load_checkpoint(run.last_checkpoint), load_checkpoint(whole.last_checkpoint)
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert ours["attnbuild"]["guard"] == theirs["attnbuild"]["guard"]


def resumed(run: RunFolder, *typed: str) -> Config:
    run.write_config(run.read_config() | {"callbacks": {}}, [])
    return train({"resume": str(run.path)}, run, [f"resume={run.path}", *typed])


# Losses and gradients that are no numbers


def test_a_loss_that_is_no_number_stops_the_run_with_its_batch(faulty: Config, run: RunFolder, tmp_path: Path) -> None:
    faulty["task"] |= {"poisoned": [5], "running": True}
    whole = RunFolder(tmp_path / "whole")
    skipping = copy.deepcopy(faulty)
    skipping["trainer"]["on_nan"] = "skip"
    assert train(skipping, whole, [])["skipped_updates"] == 1

    faulty["trainer"]["on_nan"] = "stop"
    with pytest.raises(AttnbuildError, match="the training loss is nan at step 6; lower optimizer.lr") as error:
        train(faulty, run, [])
    assert "bad_batches/step-00000006-rank-0.json" in str(error.value)
    assert run.read_summary()["status"] == "failed"
    kept = json.loads((run.path / "bad_batches" / "step-00000006-rank-0.json").read_text())
    assert (kept["step"], kept["rank"], kept["loss"]) == (6, 0, "nan")
    assert {value for row in kept["batches"][0]["values"] for value in row} == {7}
    assert load_checkpoint(run.last_checkpoint)["global_step"] == 4

    assert resumed(run, "trainer.on_nan=skip")["skipped_updates"] == 1
    assert_same_end(run, whole)


@pytest.mark.parametrize("on_the_side", [False, True])
@pytest.mark.parametrize(("harm", "clip"), [("nan", 1.0), ("gradient", None)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_skipped_update_leaves_everything_as_it_was(
    faulty: Config, run: RunFolder, harm: str, clip: float | None, optimizer: str, on_the_side: bool
) -> None:
    from faulty_task import TAKEN

    faulty["task"] |= {"poisoned": [4, 5, 13], "harm": harm, "running": True}
    faulty["trainer"] |= {"on_nan": "skip", "clip": clip, "accumulate": 2, "max_steps": 8}
    faulty["optimizer"] = {"type": optimizer, "lr": 0.02}
    faulty["callbacks"] = {"snapshots": {"on_the_side": on_the_side}}
    summary = train(faulty, run, [])
    assert summary["status"] == "ok"
    assert summary["skipped_updates"] == 2
    for step in range(2, 9):
        untouched = all(torch.equal(TAKEN[step][name], TAKEN[step - 1][name]) for name in TAKEN[step])
        assert untouched == (step in (3, 7)), step
    assert sorted(path.name for path in (run.path / "bad_batches").iterdir()) == [
        "step-00000003-rank-0.json",
        "step-00000007-rank-0.json",
    ]
    assert "update 3 is left out, the first" in run.log_file.read_text()
    assert "nan" not in run.metrics_file.read_text()
    assert not any(line.startswith("3,train/loss") for line in logged(run))


@pytest.mark.parametrize("step", [6, 7])
def test_resume_around_a_skipped_update(faulty: Config, run: RunFolder, tmp_path: Path, step: int) -> None:
    faulty["task"]["poisoned"] = [1, 6]
    faulty["trainer"]["on_nan"] = "skip"
    whole = RunFolder(tmp_path / "whole")
    train(copy.deepcopy(faulty), whole, [])
    faulty["callbacks"] = {"crash": {"step": step}}
    with pytest.raises(RuntimeError, match="crash"):
        train(faulty, run, [])
    assert resumed(run)["skipped_updates"] == 2
    assert_same_end(run, whole)


def test_a_verdict_on_the_side_stops_before_anything_is_saved(faulty: Config, run: RunFolder) -> None:
    faulty["task"]["poisoned"] = [7]
    faulty["callbacks"] = {"snapshots": {"on_the_side": True}}
    with pytest.raises(AttnbuildError, match="the training loss is nan at step 8;"):
        train(faulty, run, [])
    assert load_checkpoint(run.last_checkpoint)["global_step"] == 4


@pytest.mark.parametrize("on_the_side", [False, True])
def test_many_in_a_row_are_no_accident(
    faulty: Config, run: RunFolder, on_the_side: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "IN_A_ROW", 10)
    faulty["task"]["poisoned"] = list(range(3, 99))
    faulty["trainer"] |= {"on_nan": "skip", "max_steps": 99}
    faulty["callbacks"] = {"snapshots": {"on_the_side": on_the_side}}
    with pytest.raises(AttnbuildError, match="nan at step 14, as in each of the 10 updates before it"):
        train(faulty, run, [])
    assert [line[24:] for line in run.log_file.read_text().splitlines() if "is left out" in line] == [
        f"WARNING update {n} is left out, the {which}: the training loss is nan. The batch: a batch of 8 x "
        f"{width} of train; kept in bad_batches/step-{n:08d}-rank-0.json"
        for n, which, width in ((4, "first", 6), (13, "10th", 6))
    ]


def test_what_is_kept_of_a_batch(tmp_path: Path) -> None:
    """Rows, lengths, token ids and text; labels as they are."""
    from attnbuild.data.tokenizers.vocabulary import Vocabulary
    from attnbuild.training.supervised import SupervisedTask

    vocabulary = object.__new__(Vocabulary)
    vocabulary.decode = lambda rows: ["a b" if len(row) == 3 else "a" for row in rows]

    class Given(SupervisedTask):
        source_side = TextSide(vocabulary)
        target_side = LabelsSide(["no", "yes"])

        def __init__(self) -> None:
            pass

    Given.__abstractmethods__ = frozenset()
    batch = Batch(torch.tensor([[9, 8, EOS], [9, EOS, PAD]]), torch.tensor([1, 0]), torch.tensor([17, 4]))
    assert batches.content(Given(), batch) == {
        "size": "2 rows, source 2 x 3, target 2",
        "rows": [17, 4],
        "source": [{"tokens": [9, 8, EOS], "text": "a b"}, {"tokens": [9, EOS], "text": "a"}],
        "target": [1, 0],
    }
    assert batches.readable(batch, "train") == "rows 17, 4 of train (2 rows, source 2 x 3, target 2)"
    assert BOS not in batch.source


# Memory


def test_memory_that_is_refused_in_training(faulty: Config, run: RunFolder) -> None:
    faulty["task"] |= {"poisoned": [5], "harm": "memory"}
    faulty["batch"] = {"tokens": 99, "rows": 88, "eval_tokens": 77, "eval_rows": 66, "max_length": 55}
    expected = r"^out of memory in training, step 6, on a batch of train: 8 x \d; lower batch.tokens \(now 99\) \[CUDA"
    with pytest.raises(OutOfMemory, match=expected) as error:
        train(faulty, run, [])
    assert error.value.exit_code == 3
    assert run.read_summary()["status"] == "oom"
    assert load_checkpoint(run.last_checkpoint)["global_step"] == 4
    assert resumed_without_harm(run)["status"] == "ok"


def resumed_without_harm(run: RunFolder) -> Config:
    config = run.read_config()
    config["task"]["poisoned"] = []
    run.write_config(config, [])
    return resumed(run)


def test_memory_that_the_cpu_has_not(faulty: Config, run: RunFolder) -> None:
    faulty["task"] |= {"poisoned": [0], "harm": "allocation"}
    with pytest.raises(OutOfMemory, match="in training, step 1, .*can't allocate memory"):
        train(faulty, run, [])


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ("loss", r"in validation, on a batch of validation: 5 rows; lower batch.eval_tokens \(now 77\) \["),
        (
            "evaluate",
            r"while outputs were searched for \(greedy\), on a batch of validation: 5 rows; "
            r"lower batch.eval_tokens \(now 77\) or validation.search.beam \(now 9\) \[",
        ),
    ],
)
def test_memory_that_is_refused_in_validation(faulty: Config, run: RunFolder, refused: str, expected: str) -> None:
    faulty["task"]["refused"] = refused
    faulty["batch"] = {"tokens": 99, "rows": 88, "eval_tokens": 77, "eval_rows": 66, "max_length": 55}
    faulty["validation"]["search"] = {"type": "beam", "beam": 9}
    with pytest.raises(OutOfMemory, match=expected):
        train(faulty, run, [])


def test_the_worst_batches_are_tried_after_the_first_update(
    faulty: Config, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They change nothing; where they do not fit, it is told at once. CUDA does so; here the CPU plays its part."""
    faulty["task"]["running"] = True
    faulty["trainer"]["accumulate"] = 2
    whole = RunFolder(tmp_path / "whole")
    train(copy.deepcopy(faulty), whole, [])
    monkeypatch.setattr(probe, "DEVICES", ("cpu",))
    train(copy.deepcopy(faulty), run, [])
    assert_same_end(run, whole)

    faulty["task"]["refused"] = "evaluate"
    with pytest.raises(OutOfMemory, match="searched for .greedy., on a batch of validation: 5 rows"):
        train(copy.deepcopy(faulty), run, [])
    assert not any("validation/" in line for line in logged(run))
    faulty["task"] |= {"refused": "", "harm": "memory", "poisoned": [0]}
    with pytest.raises(OutOfMemory, match="in training, step 1, on a batch of train"):
        train(faulty, run, [])


def test_only_memory_is_memory() -> None:
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    with pytest.raises(ValueError, match="other"), out_of_memory_told(lambda: ""):
        raise ValueError("other")


@pytest.mark.parametrize(
    ("rows", "shape", "training", "expected"),
    [
        (4, (4, 9), True, "batch.tokens (now 99)"),
        (1, (1, 50), True, "batch.max_length (now 55)"),
        (88, (88, 1), True, "batch.rows (now 88)"),
        (4, (4, 3, 8, 8), True, "batch.rows (now 88)"),
        (4, (4, 3, 8, 8), False, "batch.eval_rows (now 66)"),
        (1, (1, 50), False, "batch.eval_tokens (now 77)"),
    ],
)
def test_the_setting_to_lower(rows: int, shape: tuple[int, ...], training: bool, expected: str) -> None:
    config = {"batch": {"tokens": 99, "rows": 88, "eval_tokens": 77, "eval_rows": 66, "max_length": 55}}
    batch = Batch(torch.zeros(shape), torch.zeros(rows, 7), torch.zeros(rows))
    assert batches.size_setting(batch, config, training=training) == expected


# One training a folder


def test_a_second_training_in_a_folder_is_refused(faulty: Config, run: RunFolder) -> None:
    run.create()
    with lock.held(run):
        with pytest.raises(AttnbuildError, match=f"process {os.getpid()} on .* trains in this folder since 20"):
            train(faulty, run, [])
        assert sorted(path.name for path in run.path.iterdir()) == [lock.FILE]
    assert train(faulty, run, [])["status"] == "ok"
    with lock.held(run), pytest.raises(AttnbuildError, match="trains in this folder"):
        train({"resume": str(run.path)}, run, [f"resume={run.path}"])
    assert run.read_summary()["status"] == "ok"


HOLDER = """
import subprocess, sys, time
from attnbuild.training import lock
from attnbuild.training.run import RunFolder
with lock.held(RunFolder(sys.argv[1])) as file:
    child = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=(file,))
    print(child.pid, flush=True)
    time.sleep(600)
"""


def test_the_lock_goes_with_the_last_that_holds_it(run: RunFolder) -> None:
    """The parent is killed; its rank, which takes a moment to notice, still holds the folder."""
    run.create()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path), "4"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    with pytest.raises(AttnbuildError, match=f"process {holder.pid} on"), lock.held(run):
        pass
    began = time.monotonic()
    holder.kill()
    holder.wait()
    with lock.held(run):
        assert not Path(f"/proc/{child}").exists() or time.monotonic() - began > 0.5
    holder.stdout.close()


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def hidden(run: RunFolder) -> list[Path]:
    return [path for path in run.path.rglob(".*") if path.is_file()]


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_no_more(faulty: Config, small_disk: Path, tmp_path: Path, how: str) -> None:
    from faulty_task import make_read_only

    whole = RunFolder(tmp_path / "whole")
    train(copy.deepcopy(faulty), whole, [])
    run = RunFolder(small_disk / "run")
    faulty["callbacks"] = {"fill": {"step": 6, "how": how}}
    faulty["logger"]["tensorboard"] = {}
    why = "No space left on device" if how == "full" else "Read-only file system"
    expected = (
        f"cannot be written: {why}; the last checkpoint is whole: make room, then attnbuild train resume={run.path}"
    )
    with pytest.raises(AttnbuildError, match=expected) as error:
        train(faulty, run, [])
    assert str(error.value).startswith(str(run.path))
    assert type(error.value) is AttnbuildError  # exit code 1
    assert load_checkpoint(run.last_checkpoint)["global_step"] == 4
    assert hidden(run) == []
    if how == "full":
        (small_disk / "ballast").unlink()
    else:
        subprocess.run(["umount", run.checkpoints], check=True)
        assert "Read-only file system" in run.read_summary()["error"]
        make_read_only(run.path)
        with pytest.raises(AttnbuildError, match="cannot write to .*Read-only file system"):
            train({"resume": str(run.path)}, run, [f"resume={run.path}"])
        subprocess.run(["umount", run.path], check=True)
    assert resumed(run)["status"] == "ok"
    assert hidden(run) == []
    assert_same_end(run, whole)


def test_a_checkpoint_that_the_disk_refuses(faulty: Config, run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    """Without being root: no file may grow beyond what the small ones need."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run.create()
    (run.path / ".summary.json-a1b2c3d4").write_text("what a killed process left")
    (run.path / ".status.json-a1b2c3d4").write_text("what another process is writing")
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    try:
        with pytest.raises(
            AttnbuildError, match=r"last.ckpt: cannot be written: File too large; .* has no checkpoint yet"
        ):
            train(faulty, run, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run.read_summary()["status"] == "failed"
    assert "File too large" in run.read_summary()["error"]
    assert [path.name for path in hidden(run)] == [".status.json-a1b2c3d4"]
    assert "Traceback" not in capfd.readouterr().err


def test_garbled_rows_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    whole = "step,metric,value,seconds\n1,train/loss,2.5,0.75\n"
    path.write_text(f"{whole}\0\0\0\n2,train/loss,2.25,x\n2,train/lo")
    MetricsFile(path, step=5)
    assert path.read_text() == whole


# Processes that are killed


@pytest.fixture
def two(faulty: Config) -> Config:
    faulty["trainer"] |= {"devices": 2, "strategy": "ddp"}
    return faulty


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_rank_that_is_killed_ends_all(two: Config, run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    """One of two is poisoned at update 2, where both leave it out; it kills itself after update 6."""
    two["task"] |= {"poisoned": [1], "on_rank": 1, "dropout": 0.0}
    two["trainer"]["on_nan"] = "skip"
    two["callbacks"] = {"kill_rank": {"step": 6, "rank": 1}}
    with pytest.raises(
        AttnbuildError, match=r"^rank 1 \(process \d+\) was ended by SIGKILL; perhaps the system"
    ) as error:
        train(two, run, [])
    assert "Traceback" not in capfd.readouterr().err
    assert run.read_summary()["status"] == "failed"
    assert run.read_summary()["error"] == str(error.value)
    process = int(str(error.value).split("process ")[1].split(")")[0])
    assert not Path(f"/proc/{process}").exists()
    kept = sorted((run.path / "bad_batches").iterdir())
    assert [path.name for path in kept] == [f"step-00000002-rank-{rank}.json" for rank in (0, 1)]
    assert [json.loads(path.read_text())["batches"][0]["loss"] == "nan" for path in kept] == [False, True]
    (line,) = (line for line in run.log_file.read_text().splitlines() if "is left out" in line)
    assert "The batch: rank 1: a batch of 8 x" in line
    assert load_checkpoint(run.last_checkpoint)["attnbuild"]["guard"] == {"skipped": 1, "in_a_row": 0}


def test_a_rank_that_lost_its_parent_before_it_could_look(run: RunFolder) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    environment = {**os.environ, "ATTNBUILD_RANK_PARENT": str(gone.pid)}
    program = "import time; from attnbuild.training.distributed import watch_parent; watch_parent(); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=50).returncode == 1


RANK = """
import os, signal, sys, time
from attnbuild.errors import DataError, OutOfMemory
from attnbuild.training import distributed
number, how = distributed.rank(), sys.argv[1].split(",")[distributed.rank()]
if how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
try:
    with distributed.lost_peers_told():
        if how == "lost":
            raise RuntimeError("[gloo] Connection closed by peer [127.0.0.1]")
        time.sleep(0.5)
        raise {"user": DataError, "memory": OutOfMemory, "defect": KeyError}[how](f"that of {number}")
except Exception as error:
    distributed.report_error(error)
    os._exit(getattr(error, "exit_code", 1))
"""


@pytest.mark.parametrize(
    ("ranks", "expected", "status"),
    [
        ("lost,user", "rank 1: that of 1", "failed"),
        ("lost,memory", "rank 1: that of 1", "oom"),
        ("lost,kill", "rank 1 .* was ended by SIGKILL", "failed"),
        ("defect,lost", "rank 0: KeyError: 'that of 0'", "failed"),
    ],
)
def test_the_rank_that_is_to_blame_is_named(
    run: RunFolder, ranks: str, expected: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that merely lost the connection to it."""
    run.create()
    start = subprocess.Popen

    def other(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", RANK, ranks], **options)

    monkeypatch.setattr(subprocess, "Popen", other)
    with pytest.raises(OutOfMemory if status == "oom" else AttnbuildError, match=expected):
        launch(run, 2)
    assert run.read_summary()["status"] == status


# Clocks


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_jumps(faulty: Config, run: RunFolder, tmp_path: Path, years: int) -> None:
    whole = RunFolder(tmp_path / "whole")
    train(copy.deepcopy(faulty), whole, [])
    faulty["callbacks"] = {"clock": {"step": 2, "seconds": years * 365 * 86400.0}, "crash": {"step": 6}}
    faulty["trainer"]["max_minutes"] = 5
    faulty["logger"]["tensorboard"] = {}
    real = time.time
    try:
        with pytest.raises(RuntimeError, match="crash"):
            train(faulty, run, [])
        assert abs(time.time() - real()) > 86400
        summary = resumed(run)
    finally:
        time.time = real
    assert 0 < summary["wall_seconds"] < 600
    assert summary["tokens_per_second"] > 0
    speeds = [float(line.split(",")[2]) for line in run.metrics_file.read_text().splitlines() if "per_second" in line]
    assert min(speeds) > 0
    assert_same_end(run, whole)


def test_a_damaged_checkpoint_is_still_refused_before_the_folder_changes(faulty: Config, run: RunFolder) -> None:
    train(faulty, run, [])
    run.last_checkpoint.write_bytes(b"PK\x03\x04 and no more")
    before = run.config_file.read_bytes()
    with pytest.raises(CheckpointError, match="damaged"):
        train({"resume": str(run.path)}, run, [f"resume={run.path}", "trainer.max_steps=99"])
    assert run.config_file.read_bytes() == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
