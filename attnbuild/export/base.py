"""What every format answers: what it cannot express, and the files of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attnbuild.model import EncoderDecoder

if TYPE_CHECKING:
    from attnbuild.training.supervised import SupervisedTask

__all__ = ["Exporter"]


class Exporter(ABC):
    """Writes trained models in one format.

    Args:
        place: nothing.
    """

    #: Packages that it needs, which come with ``attnbuild[export]``.
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, place: None) -> None:
        self.place = place

    @abstractmethod
    def refusals(self, model: EncoderDecoder) -> list[str]:
        """What of a model the format cannot express; nothing where it can be written.

        The model may be on no device (``meta``): its parts are looked at, nothing is computed.
        """

    @abstractmethod
    def write(self, model: EncoderDecoder, task: SupervisedTask, folder: Path) -> None:
        """Write the files of a model that is not refused, in evaluation mode, into an existing folder."""
