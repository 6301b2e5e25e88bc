"""What is common to every function on maps: which tensors are maps, in which dtype, and how errors name them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from saliency_losses.extractors.values import looks_at_values

__all__ = [
    "as_batch",
    "as_float",
    "check_numbers",
    "check_size",
    "first_of",
    "full_precision",
    "has_values",
    "read_maps",
    "read_samples",
]


_FORMS = {1: "(N,) or (B, N)", 2: "(H, W) or (B, H, W)", 3: "(D, H, W) or (B, D, H, W)"}


def read_maps(maps: Tensor, name: str, rank: int = 2, *, numbers: bool = True) -> Tensor:
    r"""Maps as floats: uint8 scaled from 0..255, bool as 0 and 1, half precision as float32.

    Args:
        maps: (\*, H, W), or of another rank.
        name: What the caller calls them.
        rank: How many of the last axes are a map's own.
        numbers: Whether each pixel must hold one; on the CPU NaN is refused then.

    Raises:
        TypeError: Not a tensor, or a dtype that says nothing about its range.
        ValueError: Too few axes, a map without pixels, NaN, or on the CPU a uint8 mask of zeros and ones.

    Example:
        >>> read_maps(torch.tensor([[0, 255]], dtype=torch.uint8), "maps")
        tensor([[0., 1.]])
    """
    if not isinstance(maps, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(maps).__name__}; convert it with torch.as_tensor.")
    if maps.ndim < rank or 0 in maps.shape[-rank:]:
        raise ValueError(f"{name} must have shape {_FORMS[rank]} with pixels in it, got {tuple(maps.shape)}.")
    if maps.dtype == torch.uint8:
        if looks_at_values(maps) and maps.numel() and maps.max() == 1:
            raise ValueError(
                f"{name} is uint8 and read as 0..255, but holds only 0 and 1: pass a mask as bool (.bool())."
            )
        return maps.to(torch.float32) / 255.0
    if maps.dtype != torch.bool and not maps.is_floating_point():
        raise TypeError(
            f"{name} must be float, uint8 (0..255) or bool, got {maps.dtype}; class numbers become a map by "
            "mask_to_map(mask, labels=...)."
        )
    if numbers:
        check_numbers(maps, name)
    return as_float(maps)


def check_numbers(maps: Tensor, name: str) -> None:
    """Refuse NaN on the CPU: no comparison holds for it, so it would pass for a pixel that nobody marked.

    Raises:
        ValueError: There is one.
    """
    if looks_at_values(maps) and bool(maps.isnan().any()):
        raise ValueError(
            f"{name} holds NaN. Where nothing is known, put zeros and say so: by present= for annotators, and to the "
            "guided loss by annotated=, (B,) for samples or in the shape of the maps for pixels."
        )


def read_samples(samples: Sequence[Any], name: str, own: tuple[int, ...]) -> list[Tensor]:
    r"""B of (N_i, \*own) as float tensors of one dtype on one device; samples without anything may have any shape.

    Raises:
        ValueError: No sample at all, or a shape that does not fit; the message names the sample.

    Example:
        >>> [tuple(one.shape) for one in read_samples([[(1, 2), (3, 4)], []], "fixations", (2,))]
        [(2, 2), (0, 2)]
    """
    listed = [as_float(torch.as_tensor(one)) for one in samples]
    if not listed:
        raise ValueError(f"{name} is an empty list: a batch has at least one sample, which may be empty.")
    listed = [one if one.numel() else one.new_zeros(0, *own) for one in listed]
    form = f"(N, {own[0]})" if own else "(N,)"
    for index, one in enumerate(listed):
        if one.ndim != 1 + len(own) or tuple(one.shape[1:]) != own:
            raise ValueError(
                f"Sample {index}: {name} must have shape {form}, got {tuple(one.shape)}. One sample alone is a tensor, "
                "several are a list."
            )
    device = next((one.device for one in listed if len(one)), listed[0].device)
    dtype = torch.float64 if any(len(one) and one.dtype == torch.float64 for one in listed) else torch.float32
    return [one.to(device=device, dtype=dtype) for one in listed]


def as_float(values: Tensor) -> Tensor:
    """Float64 as it is, everything else in float32."""
    return values if values.dtype == torch.float64 else values.to(torch.float32)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """``size`` itself, if it is a height and a width.

    Raises:
        ValueError: It is not.
    """
    whole = isinstance(size, tuple | list) and all(isinstance(side, int) and side > 0 for side in size)
    if not whole or len(size) != 2:
        raise ValueError(f"size must be (height, width) in whole pixels, got {size!r}.")
    return size


def has_values(tensor: Tensor) -> bool:
    """Whether there are numbers to look at, which there are not on the meta device and in a graph."""
    return tensor.device.type != "meta" and not torch.compiler.is_compiling()


def first_of(wrong: Tensor) -> tuple[int, ...] | None:
    """The index of the first true element, or ``None``. Waits for the device.

    Example:
        >>> first_of(torch.tensor([[False, False], [False, True]]))
        (1, 1)
    """
    found = wrong.nonzero()
    return tuple(found[0].tolist()) if len(found) else None


def as_batch(maps: Tensor) -> Tensor:
    r"""(\*, H, W) as (M, H, W).

    Example:
        >>> as_batch(torch.zeros(2, 3, 4, 5)).shape
        torch.Size([6, 4, 5])
    """
    return maps.reshape(maps.shape[:-2].numel(), *maps.shape[-2:])


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """No autocast: a map is computed once and worth its digits."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
