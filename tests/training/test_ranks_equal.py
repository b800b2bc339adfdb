"""Two processes train and score as one does, whatever the task and the strategy: the same gradients, the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild.training.checkpoint import build_task
from attnbuild.training.module import Module
from attnbuild.training.trainer import build_trainer
from tests.training.two_ranks import STRATEGIES, TASKS, composed, outcomes_of

CASES = [(name, strategy) for name in TASKS for strategy in STRATEGIES]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcomes_of(tmp_path_factory)[1]


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_gradients_are_those_of_one_process_with_twice_the_batch(
    outcomes: dict[str, Any], name: str, strategy: str
) -> None:
    alone = outcomes[f"{name}-alone"]
    assert all(gradient.abs().max() > 0 for gradient in alone["gradient"].values())
    for rank in (0, 1):
        found = outcomes[f"{name}-{strategy}-{rank}"]
        assert found["gradient"].keys() == alone["gradient"].keys()
        for part in ("gradient", "weights"):
            for key, value in alone[part].items():
                torch.testing.assert_close(
                    found[part][key], value, rtol=1e-4, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}"
                )
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_scores_are_those_of_one_process(outcomes: dict[str, Any], name: str, strategy: str) -> None:
    """Of 7 examples in three batches, and of a single one, of which the second rank has none."""
    alone = outcomes[f"{name}-alone"]
    ranks = [outcomes[f"{name}-{strategy}-{rank}"] for rank in (0, 1)]
    assert sorted(alone["predicted"]) == list(range(7))
    assert sorted(ranks[0]["predicted"] + ranks[1]["predicted"]) == list(range(7))
    assert (ranks[0]["tested"], ranks[1]["tested"]) == ([0], [])
    for found in ranks:
        for split in ("validation", "test"):
            assert found[split] == pytest.approx(alone[split], rel=1e-5, abs=1e-6)
        assert found["tables"] == alone["tables"]


def test_the_examples_tell_right_from_wrong(outcomes: dict[str, Any]) -> None:
    for name, metric in {"translation": "bleu", "captioning": "bleu4", "classification": "top5"}.items():
        score = outcomes[f"{name}-alone"]["validation"][f"validation/{metric}"]
        assert 0 < score < (1 if metric == "top5" else 100)


def test_dropout_differs_by_rank_and_step_not_by_strategy(outcomes: dict[str, Any]) -> None:
    ddp, fsdp = ([outcomes[f"hard-{strategy}-{rank}"]["seeds"] for rank in (0, 1)] for strategy in STRATEGIES)
    assert ddp == fsdp
    drawn = [*ddp[0], *ddp[1]]
    assert len(set(drawn)) == len(drawn) == 4


@pytest.mark.parametrize("fault", ["left out", "repeated"])
def test_an_example_that_is_not_scored_once_is_noticed(tmp_path: Path, fault: str) -> None:
    config = composed(TASKS["classification"])
    task = build_task(config)
    task.prepare()
    made = task.eval_loader

    def faulty(*args: Any, **options: Any) -> Any:
        batches = list(made(*args, **options))
        return batches[:-1] if fault == "left out" else [*batches[:-1], batches[0]]

    trainer = build_trainer(config, tmp_path)
    module = Module(task, task.build_model(), config)
    trainer.validate(module, verbose=False)
    task.eval_loader = faulty
    with pytest.raises(RuntimeError, match="of the 7 examples of validation not each was scored once"):
        trainer.validate(module, verbose=False)
    config["trainer"]["limit_eval_batches"] = 2  # so it was wanted
    trainer.validate(module, verbose=False)
