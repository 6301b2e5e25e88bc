"""What maps are read from."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from saliency_losses.data.decoding import Decode, read_map_file
from saliency_losses.data.files import File

__all__ = ["Combine", "MapFiles", "MapSource", "check_combine"]

Combine: TypeAlias = Literal["mean", "union", "majority"]
"""How several maps of one image become one; see :func:`saliency_losses.maps.combine_annotators`."""


@dataclass(frozen=True)
class MapSource(ABC):
    """Where the map of a row comes from; a frozen dataclass, so that rows travel to workers.

    Attributes:
        where: Who named it, such as ``"train.csv line 3"``.
        combine: How its maps become one.
    """

    where: str
    combine: Combine

    @abstractmethod
    def read(self, size: tuple[int, int], decode: Decode | None) -> list[Tensor]:
        """The maps, one for each annotator, in [0, 1].

        Args:
            size: (height, width) of the image; maps may have another size of the same shape.
            decode: What reads files instead of Pillow.

        Raises:
            DataError: They cannot be read; the message names the row.
        """


@dataclass(frozen=True)
class MapFiles(MapSource):
    """Maps in files.

    Attributes:
        files: One for each annotator.
    """

    files: tuple[File, ...]

    def read(self, size: tuple[int, int], decode: Decode | None) -> list[Tensor]:
        """The maps as :func:`~saliency_losses.data.decoding.read_map_file` reads them."""
        return [read_map_file(file, decode) for file in self.files]


def check_combine(combine: Combine) -> Combine:
    """``combine`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if combine not in ("mean", "union", "majority"):
        raise ValueError(f"combine must be 'mean', 'union' or 'majority', got {combine!r}.")
    return combine
