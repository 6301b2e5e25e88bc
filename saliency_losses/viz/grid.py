"""Images beside their maps, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saliency_losses.viz.images import read_images, to_bytes
from saliency_losses.viz.lettering import lines_above, lines_beside
from saliency_losses.viz.overlay import coloured, colours
from saliency_losses.viz.scaling import read_saliency, to_image_size

__all__ = ["grid"]


def grid(
    images: Any,
    human: Any,
    model: Any,
    *,
    column_titles: Sequence[str] | None = ("image", "human", "model", "model - human"),
    row_labels: Sequence[str] | None = None,
    gap: int = 2,
    opacity: float = 0.7,
    colormap: str = "turbo",
    difference_colormap: str = "RdBu_r",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """One row per image: the image, the human map and the model's map over it, and their difference.

    Both maps are scaled to [0, 1]; the difference, model minus human, is white where they agree, in one colour where
    only the model looks, in the other where only the human does.

    Args:
        images: As for :func:`overlay`; one or a batch.
        human: (h, w) or (B, h, w) of any size.
        model: (h, w) or (B, h, w) of any size.
        column_titles: Four titles above the columns; ``None`` for none.
        row_labels: One label beside each row.
        gap: Pixels between the cells.
        opacity: As for :func:`overlay`.
        colormap: As for :func:`overlay`.
        difference_colormap: Name of one of matplotlib's diverging ones.
        mean: As for :func:`overlay`.
        std: As for :func:`overlay`.

    Returns:
        (H', W', 3), the whole grid.

    Raises:
        TypeError: An image or a map of a kind or dtype that is not accepted.
        ValueError: Shapes, values, titles or options that do not fit.

    Example:
        >>> import torch
        >>> grid(torch.rand(2, 3, 32, 32), torch.rand(2, 32, 32), torch.randn(2, 4, 4), column_titles=None).shape
        (66, 134, 3)
    """
    if gap < 0:
        raise ValueError(f"gap must be a number of pixels, at least 0, got {gap}.")
    pixels, batched = read_images(images, mean, std)
    batch, size = len(pixels) if batched else None, pixels.shape[1:3]
    people, network = (
        to_image_size(read_saliency(maps, name, batch), size, "minmax", name)
        for name, maps in (("human", human), ("model", model))
    )
    columns = [
        to_bytes(pixels),
        coloured(pixels, people, opacity, colormap),
        coloured(pixels, network, opacity, colormap),
        to_bytes(colours(difference_colormap, (network - people + 1.0) / 2.0)),
    ]
    for name, texts, count in (("column_titles", column_titles, 4), ("row_labels", row_labels, len(pixels))):
        if texts is not None and len(texts) != count:
            raise ValueError(f"{name} must be {count} texts, got {len(texts)}.")
    picture = _tiled(np.stack(columns, axis=1), gap)
    if column_titles is not None:
        picture = lines_above(picture, column_titles, size[1], gap)
    return picture if row_labels is None else lines_beside(picture, row_labels, size[0], gap)


def _tiled(cells: NDArray[np.uint8], gap: int) -> NDArray[np.uint8]:
    """Cells (rows, columns, H, W, 3) on white."""
    rows, columns, height, width = cells.shape[:4]
    picture = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + gap), column * (width + gap)
            picture[top : top + height, left : left + width] = cells[row, column]
    return picture
