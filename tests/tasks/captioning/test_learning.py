"""A captioner that only learns where things stand writes fluent captions too: does it say what is in the picture?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild.training.checkpoint import build_task
from tests.composing import config_of

SMALL = (
    *("image.channels=1", "image.size=24", "data.size=24", "data.digits=1", "data.validation=200", "data.test=1"),
    *("encoder.width=8", "encoder.blocks=[1,1,1]", "model.dim=64"),
)
DECODERS = {
    "show_attend_tell": ("recipe=show_attend_tell_soft",),
    "luong": ("decoder=rnn", "attention=luong_general"),
    "transformer": (),
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STEPS, WARM_UP, RATE = 400, 50, 0.003


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_captions_name_the_digit_in_the_picture(decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNBUILD_CACHE", str(tmp_path))
    task = build_task(config_of(["task=captioning", *DECODERS[decoder], *SMALL]))
    task.prepare()
    torch.manual_seed(1)
    model = task.build_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP))
    for _, batch in zip(range(STEPS), task.train_loader(rank=0, world_size=1, start_step=0), strict=False):
        loss = task.loss(model, batch)
        optimizer.zero_grad()
        (loss.total / loss.weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    assert share_of_digits_named(task, model.eval()) > 0.5  # a guess is right in a tenth


def share_of_digits_named(task: Any, model: torch.nn.Module) -> float:
    search, named = task.search(task.config["validation"]["search"]), []
    with torch.inference_mode():
        for batch in task.eval_loader("validation", rank=0, world_size=1):
            for prediction in task.evaluate(model, batch, search, {}):
                said, right = (set(DIGITS) & set(text.split()) for text in (prediction.text, prediction.reference))
                named.append(said == right)
    return sum(named) / len(named)
