"""Two machines, as far as torchrun knows: two of its agents, on one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnbuild.cli.main import main
from tests.e2e.commands import PATIENCE, SMALL, Outcome, only_run, program, user_environment

#: Without chance: two processes draw other zeros than one does.
WORDS = (*SMALL, "trainer=ddp_sim", "trainer.max_steps=6", "validation.every=6", "trainer.log_every=1")
WORDS += ("model.dropout=0", "logger=csv", "data.validation=5", "data.test=7")


def two_nodes(*words: str, cwd: Path) -> list[Outcome]:
    """Type the same command on two machines at once."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=one"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "-m", "attnbuild", "train", *words]
    agents = [start(command, cwd) for _ in range(2)]
    try:
        said = [agent.communicate(timeout=PATIENCE) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()  # which ends its workers, too
    return [Outcome(agent.returncode, *streams) for agent, streams in zip(agents, said, strict=True)]


def start(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    variables = user_environment() | (environment or {})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=variables, stdout=pipe, stderr=pipe, encoding="utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_nodes_train_the_model_of_one_process_with_twice_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    outcomes = two_nodes(*WORDS, "trainer.num_nodes=2", "trainer.devices=1", cwd=tmp_path / "two")
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert sum(outcome.err.count("run folder:") for outcome in outcomes) == 1
    two = only_run(tmp_path / "two")

    monkeypatch.chdir(tmp_path / "one")
    threads = torch.get_num_threads()
    assert main(["train", *WORDS, "trainer.devices=1", "trainer.strategy=auto", "trainer.accumulate=2"]) == 0
    torch.set_num_threads(threads)
    one = only_run(tmp_path / "one")

    weights, expected = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (two, one)
    )
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
    metrics, expected = (json.loads((run / "summary.json").read_text())["metrics"] for run in (two, one))
    assert metrics.keys() == expected.keys()
    assert metrics["test/loss"] == pytest.approx(expected["test/loss"], abs=1e-4)
    lines = (two / "predictions-test.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(7))


def test_processes_that_the_config_does_not_ask_for_are_refused_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what torchrun sets, and without its agents: it would add its own report of the failure."""
    port = str(free_port())
    variables = {"TORCHELASTIC_RUN_ID": "one", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": "0"}
    variables |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "GROUP_RANK": "0"}
    words = ["train", *WORDS]
    other = start([*program(), *words], tmp_path, variables | {"RANK": "1", "GROUP_RANK": "1"})
    try:
        monkeypatch.chdir(tmp_path)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main(words) == 2
        assert other.communicate(timeout=PATIENCE) == ("", "")
        assert other.returncode == 2
    finally:
        other.kill()
    said = capsys.readouterr().err
    assert said.count("1 problem in the config") == 1
    assert "'torchrun --nnodes=1 --nproc-per-node=2 ...'" in said
    assert "trainer.num_nodes=2 trainer.devices=1" in said
    assert os.listdir(tmp_path) == []
