"""Text at the edges of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["lines_above", "lines_beside"]

LARGEST, SMALLEST, MARGIN = 14, 7, 4


def lines_above(picture: NDArray[np.uint8], texts: Sequence[str], width: int, gap: int) -> NDArray[np.uint8]:
    """The picture with a text above each of its columns, which are ``width`` wide; what is too long is cut."""
    size = next((size for size in range(LARGEST, SMALLEST, -1) if _widest(texts, size) <= width), SMALLEST)
    shown = [_cut(text, size, width) for text in texts]
    strip, draw = _strip(size + 2 * MARGIN, picture.shape[1])
    for column, text in enumerate(shown):
        draw.text((column * (width + gap) + width / 2, size / 2 + MARGIN), text, "black", _font(size), anchor="mm")
    return np.concatenate([np.asarray(strip), picture])


def lines_beside(picture: NDArray[np.uint8], texts: Sequence[str], height: int, gap: int) -> NDArray[np.uint8]:
    """The picture with a text left of each of its rows, which are ``height`` high and end at its bottom."""
    size = max(SMALLEST, min(LARGEST, height))
    strip, draw = _strip(picture.shape[0], int(_widest(texts, size)) + 2 * MARGIN)
    first = picture.shape[0] - len(texts) * (height + gap) + gap
    for row, text in enumerate(texts):
        middle = first + row * (height + gap) + height / 2
        draw.text((strip.width - MARGIN, middle), text, "black", _font(size), anchor="rm")
    return np.concatenate([np.asarray(strip), picture], axis=1)


@lru_cache(maxsize=16)
def _font(size: int) -> Any:
    from matplotlib.font_manager import findfont
    from PIL import ImageFont

    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def _widest(texts: Sequence[str], size: int) -> float:
    return max(float(_font(size).getlength(text)) for text in texts)


def _cut(text: str, size: int, width: int) -> str:
    shorter = text
    while shorter and _widest([shorter + ("" if shorter == text else "…")], size) > width:
        shorter = shorter[:-1]
    return text if shorter == text else shorter.rstrip() + "…"


def _strip(height: int, width: int) -> tuple[Any, Any]:
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (width, height), "white")
    return strip, ImageDraw.Draw(strip)
