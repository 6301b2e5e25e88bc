"""Maps of where readers looked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_losses.data.decoding import Decode
from saliency_losses.data.errors import DataError
from saliency_losses.data.sources import MapSource
from saliency_losses.maps import fixations_to_map
from saliency_losses.maps.points import Outside

__all__ = ["FixationMaps"]


@dataclass(frozen=True)
class FixationMaps(MapSource):
    """Heat maps of what readers fixated, each divided by its largest value.

    Attributes:
        readers: The fixations (x, y, duration) of each reader.
        sigma: Of the Gaussian at each fixation, in pixels of the image.
        shares: Whether x and y are shares of the image's width and height, and not pixels.
        outside: What becomes of fixations that are not on the image.
    """

    readers: tuple[tuple[tuple[float, float, float], ...], ...]
    sigma: float
    shares: bool
    outside: Outside

    def read(self, size: tuple[int, int], decode: Decode | None) -> list[Tensor]:
        """The maps of the readers who looked at the image, at its size."""
        maps = [self._map(torch.tensor(fixations, dtype=torch.float64), size) for fixations in self.readers]
        seen = [one for one in maps if bool((one > 0).any())]
        if not seen:
            raise DataError(
                f"{self.where}: no fixation of any duration is on the image, {size[1]} x {size[0]} pixels (width x "
                "height). Are x and y pixels of this image? dataset.verified() leaves it out."
            )
        return seen

    def _map(self, fixations: Tensor, size: tuple[int, int]) -> Tensor:
        where, durations = fixations[:, :2], fixations[:, 2]
        if self.shares:
            where = where * where.new_tensor([size[1], size[0]]) - 0.5
        try:
            heat = fixations_to_map(where, size, sigma=self.sigma, weights=durations, outside=self.outside)
        except ValueError as error:
            raise DataError(f"{self.where}: {error}") from error
        return (heat / heat.max().clamp_min(torch.finfo(torch.float64).tiny)).to(torch.float32)
