"""Images in any common form as arrays, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["read_images", "to_bytes"]

_FORMS = "(C, H, W) or (B, C, H, W) as a tensor, (H, W, C) or (B, H, W, C) as an array, C 1 or 3"


def read_images(
    image: Any, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[NDArray[np.float32], bool]:
    """Images (B, H, W, 3) in [0, 1], and whether they came as a batch.

    Args:
        image: A tensor, channels first; an array, channels last, or (H, W); a Pillow image, or a list of them.
        mean: What was taken from each channel when the image was normalised.
        std: By what each channel was divided then.

    Raises:
        TypeError: Neither tensor, array nor Pillow image, or a dtype that is neither float nor uint8.
        ValueError: A shape that is none of an image, or values outside [0, 1].
    """
    if (mean is None) != (std is None):
        raise ValueError("Normalisation is undone with both mean= and std=; got one of them.")
    pixels = _channels_last(image)
    batched = pixels.ndim == 4
    pixels = pixels if batched else pixels[None]
    if pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"image must have shape {_FORMS}, got {tuple(image.shape)}.")
    if pixels.dtype == np.uint8:
        values = pixels.astype(np.float32) / 255.0
    elif pixels.dtype == np.bool_ or np.issubdtype(pixels.dtype, np.floating):
        values = pixels.astype(np.float32)
    else:
        raise TypeError(f"image must be float in [0, 1] or uint8, got {pixels.dtype}.")
    if mean is not None and std is not None:
        values = _undo(values, mean, std)
    elif not (values.min() >= -1e-3 and values.max() <= 1.001):
        raise ValueError(
            f"image holds values from {values.min():.3g} to {values.max():.3g}, expected [0, 1]; give the mean= and "
            "std= of its normalisation, or scale it."
        )
    if not np.isfinite(values).all():
        raise ValueError("image holds NaN or infinities.")
    colour: NDArray[np.float32] = np.broadcast_to(values.clip(0.0, 1.0), (*values.shape[:3], 3))
    return colour, batched


def to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in [0, 1] as 0..255.

    Example:
        >>> to_bytes(np.array([0.0, 0.5, 1.0]))
        array([  0, 128, 255], dtype=uint8)
    """
    return (values * 255.0 + 0.5).astype(np.uint8)


def _channels_last(image: Any) -> NDArray[Any]:
    if isinstance(image, Tensor):
        if image.ndim not in (3, 4):
            raise ValueError(f"image must have shape {_FORMS}, got {tuple(image.shape)}.")
        plain = image.detach().cpu()
        return (plain.float() if plain.dtype in (torch.float16, torch.bfloat16) else plain).movedim(-3, -1).numpy()
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3, 4):
            raise ValueError(f"image must have shape {_FORMS}, got {image.shape}.")
        return image[..., None] if image.ndim == 2 else image
    if isinstance(image, list | tuple) and image and all(hasattr(one, "convert") for one in image):
        sizes = {one.size for one in image}
        if len(sizes) > 1:
            raise ValueError(f"Pillow images of one batch must have one size, got {sorted(sizes)}.")
        return np.stack([np.asarray(one.convert("RGB")) for one in image])
    if hasattr(image, "convert"):
        return np.asarray(image.convert("RGB"))
    raise TypeError(f"image must be a tensor, an array or a Pillow image, got {type(image).__name__}.")


def _undo(values: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    centre, spread = (np.asarray(numbers, dtype=np.float32).reshape(-1) for numbers in (mean, std))
    for name, numbers in (("mean", centre), ("std", spread)):
        if len(numbers) not in (1, values.shape[-1]):
            raise ValueError(f"{name} has {len(numbers)} numbers for an image of {values.shape[-1]} channels.")
    result: NDArray[np.float32] = values * spread + centre
    return result
