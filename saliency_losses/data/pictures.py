"""Pictures as Pillow reads them, as numbers."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from saliency_losses.data.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["open_picture", "picture_values"]

_SIXTEEN_BIT = 65535


def open_picture(path: str) -> Tensor:
    """The first frame of a picture, turned as its EXIF orientation says, as :func:`picture_values` gives it.

    Raises:
        DataError: It has more pixels than Pillow's limit allows.
        ImportError: Pillow is not installed.
        OSError: It is truncated, or no picture.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'Images are read by Pillow: pip install "saliency-losses[data]", or pass decode= and decode_map=.'
        ) from error

    bomb = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(path) as picture:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and picture.width * picture.height > limit:
                raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels")
            picture.load()
            return picture_values(picture)
    except bomb as error:
        raise DataError(
            f"has more pixels than the {Image.MAX_IMAGE_PIXELS} that Pillow takes for safe: {error}. It may be a "
            "decompression bomb; if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS in every process, or pass a decoder."
        ) from error


def picture_values(picture: "Image.Image") -> Tensor:
    """A picture as float32 (C, H, W) in [0, 1]: grey, grey and alpha, RGB, or RGB and alpha.

    Greyscale of 16 bits keeps them; palettes become their colours, other colour spaces RGB; floats stay as they are.

    Raises:
        DataError: Integers of 32 bits beyond the range of 16, of which nobody says what is white.

    Example:
        >>> from PIL import Image
        >>> picture_values(Image.new("P", (3, 2))).shape
        torch.Size([3, 2, 3])
    """
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(picture)
    mode = turned.mode
    if mode.startswith("I") or mode == "F":
        numbers = torch.from_numpy(np.array(turned).astype(np.float32))
        if mode.startswith("I"):
            if bool((numbers < 0).any()) or bool((numbers > _SIXTEEN_BIT).any()):
                raise DataError(
                    f"holds integers from {numbers.min():g} to {numbers.max():g}, beyond 16 bits, of which nobody says "
                    "what is white: scale them in decode= or decode_map=."
                )
            numbers = numbers / _SIXTEEN_BIT
        return numbers.unsqueeze(0)
    if mode not in ("L", "LA", "RGB", "RGBA"):
        turned = turned.convert(_common_mode(turned))
    bytes_ = torch.from_numpy(np.array(turned))
    values = bytes_.unsqueeze(2) if bytes_.ndim == 2 else bytes_
    return values.permute(2, 0, 1).to(torch.float32) / 255.0


def _common_mode(picture: "Image.Image") -> str:
    """The mode, of those with bytes of grey or colour, that loses nothing."""
    if picture.mode in ("1", "La"):
        return "L" if picture.mode == "1" else "LA"
    transparent = picture.mode in ("PA", "RGBa") or "transparency" in picture.info
    return "RGBA" if transparent else "RGB"
