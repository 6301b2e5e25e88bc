"""Maps of what COCO annotations enclose."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saliency_losses.data.decoding import Decode
from saliency_losses.data.errors import DataError
from saliency_losses.data.sources import MapSource
from saliency_losses.maps import boxes_to_map, polygons_to_map

__all__ = ["CocoMaps", "run_lengths_to_mask"]


@dataclass(frozen=True)
class CocoMaps(MapSource):
    """1 inside the regions of some annotations, 0 outside.

    Attributes:
        regions: The annotations' boxes (list of four numbers), polygons (list of lists) or run lengths (mapping).
        size: (height, width) of the image that they were drawn on.
    """

    regions: tuple[Any, ...]
    size: tuple[int, int]

    def read(self, size: tuple[int, int], decode: Decode | None) -> list[Tensor]:
        """Their union, at the size that they were drawn on."""
        union = torch.zeros(self.size)
        try:
            for region in self.regions:
                union = torch.maximum(union, self._map(region))
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.where}: {error}") from error
        if not bool(union.any()):
            raise DataError(
                f"{self.where}: its annotations enclose no pixel of an image of {self.size[1]} x {self.size[0]} (width "
                "x height). dataset.verified() leaves it out."
            )
        return [union]

    def _map(self, region: Any) -> Tensor:
        if isinstance(region, dict):
            return run_lengths_to_mask(region, self.size)
        if isinstance(region[0], list):
            polygons = [torch.tensor(polygon, dtype=torch.float64).reshape(-1, 2) for polygon in region]
            return polygons_to_map([polygons], self.size, outside="drop")[0].to(torch.float32)
        left, top, width, height = region
        return boxes_to_map(torch.tensor([left, top, left + width, top + height]), self.size, outside="drop")


def run_lengths_to_mask(run_lengths: dict[str, Any], size: tuple[int, int]) -> Tensor:
    """A mask from COCO's run lengths: of zeros and ones in turn, down the columns.

    Args:
        run_lengths: ``{"size": [height, width], "counts": ...}`` with counts as a list, or compressed to a string.
        size: (height, width) that it must have.

    Returns:
        (H, W) of zeros and ones.

    Raises:
        DataError: Run lengths of another size, or that do not fill the mask.

    Example:
        >>> run_lengths_to_mask({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
        >>> run_lengths_to_mask({"size": [2, 3], "counts": "123"}, (2, 3)).sum()
        tensor(2.)
    """
    given, counts = run_lengths.get("size"), run_lengths.get("counts")
    if given != list(size):
        raise DataError(f"run lengths of size {given} (height, width), but the image is {list(size)}.")
    if isinstance(counts, str):
        counts = _decompressed(counts)
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise DataError(f"counts must be a list of whole numbers, or a compressed string, got {counts!r:.80}.")
    height, width = size
    if sum(counts) != height * width:
        raise DataError(f"run lengths of {sum(counts)} pixels in all, but the image has {height * width}.")
    runs = torch.arange(len(counts)) % 2
    return runs.repeat_interleave(torch.tensor(counts, dtype=torch.long)).view(width, height).T.to(torch.float32)


def _decompressed(text: str) -> list[int]:
    """Run lengths from five bits a character, least first: of a number, or of its difference to the last but one.

    Raises:
        DataError: The last number does not end, or a character is none of the code.
    """
    counts: list[int] = []
    number, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise DataError(f"compressed run lengths hold the character {letter!r}, which the code does not have.")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number, shift = 0, 0
    if shift:
        raise DataError("compressed run lengths end in the middle of a number.")
    return counts
