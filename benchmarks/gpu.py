"""On a CUDA device: results/gpu.{md,json}, each part within a few minutes on a machine that has no Hydra.

    python benchmarks/gpu.py pack FOLDER         # where attnbuild is installed: configs and Multi30k (ATTNBUILD_DATA)
    python benchmarks/gpu.py training FOLDER     # tokens per second, and the share of the measured matrix rate
    python benchmarks/gpu.py generation FOLDER   # sentences per second against transformers' generate
    python benchmarks/gpu.py quality FOLDER      # BLEU of the best recipe of Multi30k
    python benchmarks/attention.py --device cuda # the attentions to 65,536 positions

A machine without attnbuild's needs gets their wheels beside: annotated-types, antlr4-python3-runtime,
docstring-parser, omegaconf, platformdirs, pydantic, pydantic-core and typing-inspection are enough.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from training_peers import Marian, Shape, Torch, update

from attnbuild.data.batching import Batch
from attnbuild.data.tokenizers.vocabulary import PAD
from attnbuild.measure.record import machine, versions
from attnbuild.training.checkpoint import build_task, load

PAGE = Path(__file__).parent / "results" / "gpu.md"
OURS = "attnbuild"
#: Multiplied to learn the device's rate: bf16 squares of this size.
SQUARE = 8192
ROUNDS, WARM_UP = 30, 5
DIM, FEEDFORWARD, LAYERS, HEADS = 1024, 4096, 6, 16
BIG = (
    *("experiment=multi30k", "recipe=null", f"model.dim={DIM}", "model.dropout=0.1", "attention.dropout=0.1"),
    *(
        f"{part}.{what}"
        for part in ("encoder", "decoder")
        for what in (f"layers={LAYERS}", f"feedforward={FEEDFORWARD}")
    ),
    *("encoder.norm=post", "decoder.norm=post", f"attention.heads={HEADS}", "batch.tokens=65536"),
)
ON_GPU = ("trainer=gpu", "trainer.precision=bf16-mixed")
#: Of post-norm layers, which MarianMT has too.
SHORT = (
    *("experiment=multi30k", "recipe=transformer", "encoder.norm=post", "decoder.norm=post", *ON_GPU),
    *("batch.tokens=8192", "trainer.max_minutes=2"),
)
BEST = ("experiment=multi30k_best", *ON_GPU, "trainer.max_minutes=7")
CONFIGS = {"training": BIG, "generation": SHORT, "quality": BEST}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["pack", *PARTS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    if given.part == "pack":
        pack(given.folder)
        return
    os.environ["ATTNBUILD_DATA"] = str(given.folder.absolute())
    config = json.loads((given.folder / f"{given.part}.json").read_text(encoding="utf-8"))
    write(given.part, PARTS[given.part](config, torch.device(given.device)))


def pack(folder: Path) -> None:
    """What a machine without Hydra and network needs."""
    from runs import config_of, data_root

    shutil.copytree(data_root() / "multi30k", folder / "multi30k", dirs_exist_ok=True)
    for part, words in CONFIGS.items():
        (folder / f"{part}.json").write_text(json.dumps(config_of(words)), encoding="utf-8")


# Training


def training(config: dict[str, Any], device: torch.device) -> Iterator[dict[str, Any]]:
    """Bare loops in turns, all with the same batches, under bf16 autocast and with fused AdamW."""
    task: Any = build_task(config)
    task.prepare(("train",))
    loader = task.train_loader(rank=0, world_size=1, start_step=0)
    batches = [batch.to(device) for _, batch in zip(range(8), loader, strict=False)]
    models = entrants(task, device)
    speeds = race(task, models, batches, device)
    rate = matrix_rate(device)
    case = f"training {LAYERS}+{LAYERS}x{DIM} bf16"
    fastest = max(value for name, value in speeds.items() if name != OURS)
    for name, value in speeds.items():
        yield row(case, name, "target_tokens_per_second", value, "tokens/s")
    yield row(case, OURS, "ratio_to_fastest_peer", speeds[OURS] / fastest, "ratio")
    utilisation = speeds[OURS] * flops_per_token(models[OURS], batches[0], task) / rate
    yield row(case, OURS, "utilisation", 100 * utilisation, "percent")
    yield row(f"{SQUARE}^3 bf16", "torch.matmul", "rate", rate / 1e12, "TFLOP/s")


def entrants(task: Any, device: torch.device) -> dict[str, nn.Module]:
    """Ours and the peers', of one shape."""
    shape = Shape(DIM, FEEDFORWARD, LAYERS, HEADS)
    torch.manual_seed(1)
    models = {OURS: task.build_model()} | {peer.name: peer(task.source_side.outputs, shape) for peer in (Marian, Torch)}
    return {name: model.to(device).train() for name, model in models.items()}


def race(task: Any, models: dict[str, Any], batches: list[Batch], device: torch.device) -> dict[str, float]:
    """Real target tokens per second of each, the median of its turns."""
    optimizers = {name: torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) for name, model in models.items()}
    speeds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(WARM_UP + ROUNDS):
        batch = batches[number % len(batches)]
        for name, model in models.items():
            loss = partial(loss_of, task, name, model, batch)
            seconds = timed(partial(update, [loss], optimizers[name], tokens_of(batch)), device)
            if number >= WARM_UP:
                speeds[name].append(tokens_of(batch) / seconds)
    return {name: statistics.median(found) for name, found in speeds.items()}


def loss_of(task: Any, name: str, model: Any, batch: Batch) -> Tensor:
    with torch.autocast(batch.target.device.type, torch.bfloat16):
        loss: Tensor = task.loss(model, batch).total if name == OURS else model.loss(batch.source, batch.target)
    return loss


def flops_per_token(model: nn.Module, batch: Batch, task: Any) -> float:
    """Of the model, forward and backward, by real target token: what padding takes is not credited."""
    from attnbuild.measure.flops import count_flops

    both = (batch.source, batch.target)
    real = sum(int((part != PAD).sum()) for part in both) / sum(part.numel() for part in both)
    return real * count_flops(lambda: task.loss(model, batch).total.backward())[0] / tokens_of(batch)


def tokens_of(batch: Batch) -> int:
    """Real target tokens, which a decoder is asked for."""
    return int((batch.target[:, 1:] != PAD).sum())


def matrix_rate(device: torch.device) -> float:
    """FLOP/s of one large product in bf16."""
    left, right = (torch.randn(SQUARE, SQUARE, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = statistics.median(timed(lambda: left @ right, device) for _ in range(20))
    return 2 * SQUARE**3 / seconds


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds, the device's queue included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


# Generation


def generation(config: dict[str, Any], device: torch.device) -> Iterator[dict[str, Any]]:
    """A short training, then searches in turns."""
    from generation import test_sentences
    from generation_peers import Ours, Transformers

    loaded = load(trained(config, "generation"))
    sources, _ = test_sentences(loaded.task, 1000)
    theirs = Transformers(loaded, PAGE.parent)
    theirs.model.to(device)
    loaded.model.to(device)
    ours = Ours(loaded, PAGE.parent)
    for beam, together in ((1, 64), (5, 64), (1, 1), (5, 1)):
        some = sources if together > 1 else sources[:50]
        speeds: dict[str, list[float]] = {OURS: [], theirs.name: []}
        for number in range(4):
            for name, entrant in ((OURS, ours), (theirs.name, theirs)):
                seconds = timed(partial(entrant.search, some, beam, together), device)
                if number:
                    speeds[name].append(len(some) / seconds)
        case = f"{'greedy' if beam == 1 else f'beam{beam}'}_batch{together} gpu"
        medians = {name: statistics.median(found) for name, found in speeds.items()}
        for name, value in medians.items():
            yield row(case, name, "sentences_per_second", value, "1/s")
        yield row(case, OURS, "ratio_to_transformers", medians[OURS] / medians[theirs.name], "ratio")


# Quality


def quality(config: dict[str, Any], device: torch.device) -> Iterator[dict[str, Any]]:
    """The best recipe, within the minutes of its config."""
    from time_to_quality import tested_best

    from attnbuild.training.run import RunFolder

    its = tested_best(RunFolder.open(trained(config, "quality")))
    for metric in ("bleu_cased", "bleu_lower_tokenised"):
        yield row("multi30k_best gpu", OURS, metric, its[metric], "BLEU")
    yield row("multi30k_best gpu", OURS, "minutes", its["minutes"], "min")


def trained(config: dict[str, Any], name: str) -> Path:
    """The folder of a run of a resolved config, which needs no Hydra."""
    from attnbuild.training.fit import train
    from attnbuild.training.run import RunFolder

    run = RunFolder(Path("outputs") / "gpu" / f"{name}-{time.strftime('%H%M%S')}")
    run.create()
    train(config, run, [])
    return run.path


# The page


def row(case: str, system: str, metric: str, value: float, unit: str) -> dict[str, Any]:
    return {"case": case, "system": system, "metric": metric, "value": value, "unit": unit}


def write(part: str, found: Any) -> None:
    path = PAGE.with_suffix(".json")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"parts": {}}
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    told = {"machine": {**machine(), "device": name}, "versions": versions(("attnbuild", "torch", "transformers"))}
    record["parts"][part] = {"rows": list(found), **told}
    record["rows"] = [one for its in record["parts"].values() for one in its["rows"]]
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n".join(page(record)) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def page(record: dict[str, Any]) -> Iterator[str]:
    yield "# On a GPU"
    yield from ("", "Written by `benchmarks/gpu.py`; medians of turns.")
    for part, its in record["parts"].items():
        yield from ("", f"## {part.capitalize()}", "", "| case | system | metric | value |", "|---|---|---|---|")
        for one in its["rows"]:
            yield f"| {one['case']} | {one['system']} | {one['metric']} | {one['value']:.4g} {one['unit']} |"
        yield from ("", f"{its['machine']}; {', '.join(map(' '.join, its['versions'].items()))}")


PARTS: dict[str, Callable[[dict[str, Any], torch.device], Any]] = {
    "training": training,
    "generation": generation,
    "quality": quality,
}

if __name__ == "__main__":
    main()
