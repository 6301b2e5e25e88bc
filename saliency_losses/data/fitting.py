"""Maps on their image."""

import torch
from torch import Tensor

from saliency_losses.data.errors import DataError
from saliency_losses.data.sources import Combine
from saliency_losses.maps import combine_annotators, resize

__all__ = ["fit_maps", "has_shape_of"]


def has_shape_of(small: tuple[int, int], large: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, but for a pixel of rounding.

    Example:
        >>> has_shape_of((85, 128), (1000, 1500)), has_shape_of((128, 85), (1000, 1500))
        (True, False)
    """
    if small[0] * small[1] > large[0] * large[1]:
        small, large = large, small
    (height, width), (full_height, full_width) = small, large
    return abs(width - full_width * height / full_height) <= 1 or abs(height - full_height * width / full_width) <= 1


def fit_maps(
    maps: list[Tensor], combine: Combine, image: tuple[int, int], size: tuple[int, int], where: str, *, stretch: bool
) -> Tensor:
    """The maps of one image as one, (height, width).

    They are combined at their own size where that is the same, at the image's otherwise, and resampled by area.

    Args:
        maps: One for each annotator, (H', W').
        combine: How they become one.
        image: (height, width) of the image that they belong to.
        size: (height, width) that the sample has.
        where: Who named them.
        stretch: Whether maps of another aspect ratio are stretched over the image.

    Raises:
        DataError: A map has another aspect ratio than its image.
    """
    sizes = [(int(one.shape[0]), int(one.shape[1])) for one in maps]
    for own in sizes:
        if not stretch and not has_shape_of(own, image):
            raise DataError(
                f"{where}: the map is {own[1]} x {own[0]} pixels (width x height), its image {image[1]} x {image[0]}: "
                "not the same aspect ratio, so they do not lie on each other. If the map was stretched from the whole "
                "image, pass stretch_maps=True."
            )
    if len(maps) == 1:
        one = maps[0]
    else:
        together = maps if len(set(sizes)) == 1 else [resize(one, image) for one in maps]
        one = combine_annotators(torch.stack(together), combine)
    return resize(one, size).clamp(-1.0, 1.0)  # rounding may lead out of the range
