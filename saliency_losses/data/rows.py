"""What a dataset knows of a sample before it reads it."""

from dataclasses import dataclass

from saliency_losses.data.files import File
from saliency_losses.data.sources import MapSource

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """One sample, not read yet.

    Attributes:
        image: The image's file.
        target: Its class.
        maps: What each of its maps is read from, ``None`` where there is none: one source, or K for K maps.
        where: Who named it, such as ``"train.csv line 3"``; messages start with it.
        split: The part of the data that it belongs to, where there are parts.
    """

    image: File
    target: int
    maps: tuple[MapSource | None, ...]
    where: str
    split: str | None = None

    @property
    def annotated(self) -> tuple[bool, ...]:
        """Which of its maps exist."""
        return tuple(source is not None for source in self.maps)
