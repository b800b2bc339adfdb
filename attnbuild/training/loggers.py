"""Where metrics are written: a CSV file, TensorBoard, or a tracking service."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from attnbuild.errors import ConfigError
from attnbuild.registry import register

if TYPE_CHECKING:
    from attnbuild.training.run import RunFolder

__all__ = ["LoggerPlace", "csv", "mlflow", "tensorboard", "wandb"]


@dataclass(frozen=True)
class LoggerPlace:
    """What a logger is built from.

    Attributes:
        run: the run folder.
        config: the resolved config.
        step: updates already made when a run is resumed: what was logged after them is made again.
    """

    run: RunFolder
    config: dict[str, Any]
    step: int = 0


@register("logger", "csv")
def csv(place: LoggerPlace) -> Any:
    """One tidy file, metrics.csv, with the columns step, metric, value and seconds (of wall time)."""
    from attnbuild.training.metrics_file import MetricsFile

    return MetricsFile(place.run.metrics_file, place.step)


@register("logger", "tensorboard")
def tensorboard(place: LoggerPlace) -> Any:
    """Curves for TensorBoard, in the run's folder tensorboard/."""
    from lightning.pytorch.loggers import TensorBoardLogger

    purge = place.step + 1 if place.step else None
    return TensorBoardLogger(place.run.path, name="", version="tensorboard", purge_step=purge)


@register("logger", "wandb")
def wandb(place: LoggerPlace, *, project: str = "attnbuild", offline: bool = False) -> Any:
    """Weights & Biases (https://wandb.ai).

    Args:
        project: the project that the run appears in.
        offline: keep the records in the run folder, to be sent later by `wandb sync`.
    """
    _need("wandb")
    from lightning.pytorch.loggers import WandbLogger

    name = place.run.path.name
    return WandbLogger(project=project, offline=offline, save_dir=place.run.path, name=name, config=place.config)


@register("logger", "mlflow")
def mlflow(place: LoggerPlace, *, experiment: str = "attnbuild", uri: str | None = None) -> Any:
    """MLflow (https://mlflow.org).

    Args:
        experiment: the experiment that the run appears in.
        uri: the tracking server; none keeps the records in the run's folder mlflow/.
    """
    _need("mlflow")
    from lightning.pytorch.loggers import MLFlowLogger

    uri = uri or (place.run.path / "mlflow").as_uri()
    return MLFlowLogger(experiment_name=experiment, run_name=place.run.path.name, tracking_uri=uri)


def _need(package: str) -> None:
    if find_spec(package) is None:
        message = f"needs a package that is not installed: pip install attnbuild[{package}]"
        raise ConfigError(message, f"logger.{package}")
