"""The sections of a config that are no registered part: their options, types and ranges.

Each class is the schema of one section, read the way a part's constructor is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

__all__ = [
    "INHERIT",
    "OF_SWEEPS",
    "SECTIONS",
    "Batch",
    "Image",
    "Model",
    "Paths",
    "Settings",
    "Sweep",
    "Trainer",
    "Validation",
    "of_one_run",
]


#: The preset of a place that follows ``attention=``.
INHERIT = "inherit"

#: Sections that are about the jobs of a sweep; no run has them.
OF_SWEEPS = ("sweep", "sweeper", "launcher")


@dataclass(frozen=True, kw_only=True)
class Model:
    """Values that encoder and decoder share.

    Args:
        dim: width of states and embeddings.
        dropout: chance of a zero, within the layers and on the embeddings.
        tie_embeddings: which embeddings share one matrix: all, target (with the output layer) or none.
        initialisation: how weight matrices start: xavier or normal.
    """

    dim: Annotated[int, Ge(1)]
    dropout: Annotated[float, Ge(0), Lt(1)]
    tie_embeddings: Literal["all", "target", "none"]
    initialisation: Literal["xavier", "normal"]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How often and how the model is validated.

    Args:
        every: optimiser steps from one validation to the next.
        search: how validation finds its outputs.
        samples: outputs shown after each validation.
        maps: validation examples whose attention is drawn at the end.
    """

    every: Annotated[int, Ge(1)]
    search: dict[str, Any]
    samples: Annotated[int, Ge(0)]
    maps: Annotated[int, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How much goes into a batch.

    Args:
        tokens: padded tokens in a training batch, on each side.
        rows: most examples in a training batch; what counts for images, which have no tokens.
        eval_tokens: as tokens, in validation and test.
        eval_rows: as rows, in validation and test.
        max_length: longest training sentence in tokens; longer ones are dropped and counted.
    """

    tokens: Annotated[int, Ge(1)]
    rows: Annotated[int, Ge(1)]
    eval_tokens: Annotated[int, Ge(1)]
    eval_rows: Annotated[int, Ge(1)]
    max_length: Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class Image:
    """What images are made into before a model reads them.

    Args:
        size: height and width in pixels.
        channels: 1 is grey, 3 is RGB.
        fit: how an image of another shape becomes square: crop (the middle of it), stretch or pad.
    """

    size: Annotated[int, Ge(4)]
    channels: Literal[1, 3]
    fit: Literal["crop", "stretch", "pad"]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Where and how long a model trains.

    Args:
        accelerator: kind of device.
        devices: how many devices on each machine, or auto.
        num_nodes: how many machines.
        strategy: how several devices share the work, as Lightning names it.
        precision: of the arithmetic, as Lightning names it; auto is bf16-mixed where the device has it, else 32-true.
        max_steps: optimiser steps.
        max_minutes: wall-clock limit; null is none.
        accumulate: batches whose gradients are summed for one optimiser step.
        clip: largest norm of the gradient; null does not clip.
        on_nan: what becomes of an update whose loss or gradient is no finite number: stop the run, or skip it.
        log_every: optimiser steps from one point of the curves to the next.
        threads: CPU threads of each process; null leaves it to torch.
        limit_eval_batches: batches of validation and test; null is all of them.
        overfit_batches: train on the first so many batches again and again; 0 is all data.
        profiler: where the time goes: simple (by hook) or advanced (by function).
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: Annotated[int, Ge(1)] | Literal["auto"]
    num_nodes: Annotated[int, Ge(1)] = 1
    strategy: str
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]
    max_steps: Annotated[int, Ge(1)]
    max_minutes: Annotated[float, Gt(0)] | None
    accumulate: Annotated[int, Ge(1)]
    clip: Annotated[float, Gt(0)] | None
    on_nan: Literal["stop", "skip"] = "stop"
    log_every: Annotated[int, Ge(1)]
    threads: Annotated[int, Ge(1)] | None
    limit_eval_batches: Annotated[int, Ge(1)] | None
    overfit_batches: Annotated[int, Ge(0)]
    profiler: Literal["simple", "advanced"] | None


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where things are written.

    Args:
        outputs: the folder of all runs.
        run: the folder of this run.
    """

    outputs: str
    run: str | None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What `-m` does with its jobs.

    Args:
        name: folder of the sweep below sweeps/; null names it after what is swept over.
        on_failure: whether jobs are still started after one failed: continue or stop.
        invalid: what is done about combinations that cannot work: refuse the sweep, or skip them.
        space: what is swept over, beside what is typed: key -> values, or {values, when}.
    """

    name: str | None
    on_failure: Literal["continue", "stop"]
    invalid: Literal["refuse", "skip"]
    space: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The single values at the top of a config.

    Args:
        average: weights tested at the end, beside the best ones.
        seed: of everything random.
        init_from: a run folder or checkpoint to start the weights from.
        resume: a run folder to continue.
        plugins: modules that register parts.
        strict_places: refuse an attention that cannot serve every place of the model.
    """

    average: Literal["none", "best5", "last5", "ema"]
    seed: Annotated[int, Ge(0)]
    init_from: str | None
    resume: str | None
    plugins: list[str]
    strict_places: bool


#: Key of the config -> schema of its section.
SECTIONS: dict[str, type] = {
    "model": Model,
    "validation": Validation,
    "batch": Batch,
    "image": Image,
    "trainer": Trainer,
    "paths": Paths,
    "sweep": Sweep,
}


def of_one_run(config: dict[str, Any]) -> dict[str, Any]:
    """A config without what is about the jobs of a sweep."""
    return {name: section for name, section in config.items() if name not in OF_SWEEPS}
