"""Files as tensors: images and maps, by Pillow or by a decoder of the user's."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from saliency_losses.data.errors import DataError
from saliency_losses.data.files import File
from saliency_losses.data.pictures import open_picture, picture_values

__all__ = ["Decode", "read_image", "read_map_file"]

Decode: TypeAlias = Callable[[str], Any]
"""From a path to a picture of Pillow's, an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W)."""

_LUMA = (0.299, 0.587, 0.114)
_COLOURED, _BLACK = 8.5 / 255.0, 3.5 / 255.0


def read_image(file: File, decode: Decode | None, channels: int) -> Tensor:
    """An image as float32 (channels, H, W).

    Bytes and 16-bit integers are scaled to [0, 1], floats stay as they are. Grey is repeated for three channels,
    colours are weighted by their luma (ITU-R 601) for one, alpha is dropped.

    Args:
        file: Where it is.
        decode: What reads it instead of Pillow.
        channels: 1 or 3.

    Raises:
        DataError: It cannot be read; the message names the file and its row.
    """
    values = _read(file, "image", decode)
    if len(values) in (2, 4):
        values = values[:-1]
    if len(values) not in (1, 3):
        raise DataError(
            f"{file.where}: image {file.path!r} was decoded to {len(values)} channels; expected 1 to 4. Tensors are "
            "(C, H, W), arrays (H, W, C)."
        )
    if len(values) == 1 and channels == 3:
        return values.repeat(3, 1, 1)
    if len(values) == 3 and channels == 1:
        return (values * values.new_tensor(_LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    return values.contiguous()


def read_map_file(file: File, decode: Decode | None) -> Tensor:
    """A map as float32 (H, W) in [0, 1]; a decoder's may go down to -1, where looking is wrong.

    What is transparent was not marked: alpha is a factor.

    Args:
        file: Where it is.
        decode: What reads it instead of Pillow.

    Raises:
        DataError: It cannot be read, is coloured, or has values out of range; the message names the file and its row.
    """
    values = _read(file, "map", decode)
    name = f"{file.where}: map {file.path!r}"
    if len(values) in (2, 4):
        values = values[:-1] * values[-1:]
    if len(values) not in (1, 3):
        raise DataError(f"{name} was decoded to {len(values)} channels; a map has one.")
    if len(values) == 3 and float((values.amax(0) - values.amin(0)).max()) > _COLOURED:
        raise DataError(
            f"{name} is coloured, and colours have no order. Save the map in grey, black where nobody looked, or pass "
            "decode_map= that reads the colours back."
        )
    values = values.mean(0) if len(values) > 1 else values[0]
    low, high = float(values.min()), float(values.max())
    if low < -1.0 or high > 1.0:
        raise DataError(
            f"{name} has values from {low:g} to {high:g}; a map lies in [0, 1]. Let decode_map= divide it by its "
            "largest value."
        )
    if low >= 0.0 and 0.0 < high < _BLACK:
        raise DataError(
            f"{name} is black but for values up to {high * 255:.2g} in 255: a mask of zeros and ones, labels, bytes in "
            "16 bits, or a density? Save its largest value as white, or pass decode_map= that returns bool, or floats "
            "up to 1."
        )
    return values


def _read(file: File, what: str, decode: Decode | None) -> Tensor:
    """Float32 (C, H, W)."""
    path = file.checked(what)
    option = "decode" if what == "image" else "decode_map"
    name = f"{file.where}: {what} {path!r}"
    try:
        values = open_picture(path) if decode is None else _values(decode(path))
    except DataError as error:
        raise DataError(f"{name} {error}") from error
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # decoders raise what they like
        reason = str(error).rstrip(".") or type(error).__name__
        remedy = (
            f"Copy it again if it is broken, read other formats by {option}=, or leave its row out: dataset.verified()."
            if decode is None
            else f"It was read by {option}={getattr(decode, '__name__', repr(decode))}."
        )
        raise DataError(f"{name} cannot be read: {reason}. {remedy}") from error
    if not all(bool(extreme.isfinite()) for extreme in values.aminmax()):
        raise DataError(f"{name} holds NaN or infinite values; let {option}= put numbers there.")
    return values


def _values(decoded: Any) -> Tensor:
    """What a decoder returned, as float32 (C, H, W)."""
    if isinstance(decoded, Tensor):
        own = decoded.detach().cpu().clone()
        values = own.unsqueeze(0) if own.ndim == 2 else own
    elif isinstance(decoded, np.ndarray):
        array = decoded[..., None] if decoded.ndim == 2 else decoded
        kind = decoded.dtype.newbyteorder("=")
        values = torch.from_numpy(np.array(array, dtype=kind)).movedim(-1, 0) if array.ndim else torch.empty(0)
    elif hasattr(decoded, "getexif"):
        return picture_values(decoded)
    else:
        raise TypeError(f"the decoder returned {type(decoded).__name__}, not a picture, an array or a tensor")
    if values.ndim != 3 or 0 in values.shape:
        raise TypeError(
            f"the decoder returned shape {tuple(decoded.shape)}; expected an array (H, W) or (H, W, C), or a tensor "
            "(H, W) or (C, H, W), with pixels in it"
        )
    largest = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(values.dtype)
    if largest is not None:
        return values.to(torch.float32) / largest
    if values.dtype == torch.bool or values.is_floating_point():
        return values.to(torch.float32)
    raise TypeError(
        f"the decoder returned {values.dtype}, of which nobody says what is white; return uint8, uint16, bool, or "
        "floats in [0, 1]"
    )
