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
        run_lengths: ``{"size": [height, width], "counts": [...]}``, or with ``counts`` as a compressed string, which
            pycocotools reads.
        size: (height, width) that it must have.

    Returns:
        (H, W) of zeros and ones.

    Raises:
        DataError: Run lengths of another size, or that do not fill the mask.
        ImportError: pycocotools is needed and not installed.

    Example:
        >>> run_lengths_to_mask({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """
    given, counts = run_lengths.get("size"), run_lengths.get("counts")
    if given != list(size):
        raise DataError(f"run lengths of size {given} (height, width), but the image is {list(size)}.")
    height, width = size
    if isinstance(counts, str | bytes):
        try:
            from pycocotools import mask as coco
        except ImportError as error:
            raise ImportError(
                'Compressed run lengths are read by pycocotools: pip install "saliency-losses[data]".'
            ) from error
        try:
            return torch.from_numpy(coco.decode(dict(run_lengths))).to(torch.float32)
        except Exception as error:
            raise DataError(f"the compressed run lengths are broken: {error}.") from error
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise DataError(f"counts must be a list of whole numbers, or a compressed string, got {counts!r:.80}.")
    if sum(counts) != height * width:
        raise DataError(f"run lengths of {sum(counts)} pixels in all, but the image has {height * width}.")
    runs = torch.arange(len(counts)) % 2
    return runs.repeat_interleave(torch.tensor(counts, dtype=torch.long)).view(width, height).T.to(torch.float32)
