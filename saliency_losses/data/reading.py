"""From a row to a sample."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.data.decoding import Decode, read_image
from saliency_losses.data.fitting import fit_maps
from saliency_losses.data.rows import Row
from saliency_losses.data.sources import MapSource

__all__ = ["Reading", "read_sample"]


@dataclass(frozen=True)
class Reading:
    """How files become tensors; see :class:`~saliency_losses.data.SaliencyDataset`.

    Attributes:
        size: (height, width) of all samples, or ``None`` for that of each image.
        channels: 1 or 3.
        decode: What reads images instead of Pillow.
        decode_map: What reads maps instead of Pillow.
        stretch_maps: Whether a map may have another aspect ratio than its image.
    """

    size: tuple[int, int] | None
    channels: int
    decode: Decode | None
    decode_map: Decode | None
    stretch_maps: bool


def read_sample(row: Row, reading: Reading, *, several: bool) -> dict[str, Any]:
    """The image, its class and its maps.

    Args:
        row: What to read.
        reading: How.
        several: Whether samples have an axis of K maps.

    Raises:
        DataError: A file cannot be read; the message names it and its row.
    """
    image = read_image(row.image, reading.decode, reading.channels)
    original = (int(image.shape[1]), int(image.shape[2]))
    size = reading.size or original
    maps = [torch.zeros(size) if source is None else _read_map(source, original, size, reading) for source in row.maps]
    if size != original:
        resized = F.interpolate(image.unsqueeze(0), size=size, mode="bilinear", antialias=True).squeeze(0)
        image = resized.clamp(image.min(), image.max())  # rounding may lead out of the range
    return {
        "image": image,
        "target": row.target,
        "human_saliency": torch.stack(maps) if several else maps[0],
        "annotated": torch.tensor(row.annotated) if several else row.annotated[0],
    }


def _read_map(source: MapSource, image: tuple[int, int], size: tuple[int, int], reading: Reading) -> Tensor:
    maps = source.read(image, reading.decode_map)
    return fit_maps(maps, source.combine, image, size, source.where, stretch=reading.stretch_maps)
