"""Points per sample, in whatever form they come, as one padded tensor."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from saliency_losses.maps.reading import as_float, first_of, has_values

__all__ = ["Outside", "PerSample", "Points", "read_points", "weights_inside"]

PerSample: TypeAlias = Tensor | Sequence[Any]
Outside: TypeAlias = Literal["error", "drop"]


class Points(NamedTuple):
    """Points of a batch.

    Attributes:
        x: To the right, (B, N).
        y: Down, (B, N).
        weight: (B, N), zero where there is no point.
        single: Whether they came as one sample, (N, 2).
    """

    x: Tensor
    y: Tensor
    weight: Tensor
    single: bool

    def shaped(self, maps: Tensor) -> Tensor:
        """(B, H, W), or (H, W) for one sample."""
        return maps.squeeze(0) if self.single else maps


def read_points(points: PerSample, weights: PerSample | None) -> Points:
    """Points in any accepted form.

    Args:
        points: (N, 2) for one sample, (B, N, 2), or B of (N_i, 2).
        weights: ``None`` for one each, or likewise (N,), (B, N), or B of (N_i,).

    Raises:
        ValueError: A shape that does not fit; the message names the sample.
    """
    single = isinstance(points, Tensor) and points.ndim == 2
    samples = [points] if single else points
    if isinstance(samples, Tensor):
        if samples.ndim != 3 or samples.shape[2] != 2:
            raise ValueError(
                f"fixations must have shape (N, 2), (B, N, 2), or be B of (N_i, 2), got {tuple(samples.shape)}."
            )
        xy = as_float(samples)
        real = torch.ones_like(xy[..., 0])
    else:
        listed = [_sample(one, index, 2) for index, one in enumerate(samples)]
        if not listed:
            raise ValueError("fixations is an empty list: a batch has at least one sample, which may be empty.")
        xy = pad_sequence(listed, batch_first=True)
        real = pad_sequence([torch.ones_like(one[:, 0]) for one in listed], batch_first=True)
    return Points(xy[..., 0], xy[..., 1], real if weights is None else _weights(weights, samples, real, single), single)


def _weights(weights: PerSample, samples: PerSample, real: Tensor, single: bool) -> Tensor:
    given = [weights] if single else weights
    if isinstance(given, Tensor):
        if given.shape != real.shape:
            raise ValueError(f"weights must have shape {tuple(real.shape)}, got {tuple(given.shape)}.")
        weight = given.to(real)
    else:
        if len(given) != len(samples):
            raise ValueError(f"weights has {len(given)} samples, fixations has {len(samples)}.")
        listed = [_sample(one, index, None) for index, one in enumerate(given)]
        for index, one in enumerate(listed):
            count = int(real[index].shape[0]) if isinstance(samples, Tensor) else len(samples[index])
            if len(one) != count:
                raise ValueError(f"Sample {index} has {count} fixations but {len(one)} weights.")
        weight = pad_sequence(listed, batch_first=True).to(real)
    at = first_of(~(weight.isfinite() & (weight >= 0))) if has_values(weight) and weight.device.type == "cpu" else None
    if at is not None:
        raise ValueError(
            f"Sample {at[0]}, fixation {at[1]}: a weight must be finite and not negative, got {float(weight[at]):g}."
        )
    return weight


def _sample(values: Any, index: int, columns: int | None) -> Tensor:
    tensor = as_float(torch.as_tensor(values))
    if columns is not None and tensor.numel() == 0:
        return tensor.reshape(0, columns)
    shape = "(N,)" if columns is None else f"(N, {columns})"
    if tensor.ndim != (1 if columns is None else 2) or (columns is not None and tensor.shape[1] != columns):
        what = "weights" if columns is None else "fixations"
        raise ValueError(
            f"Sample {index}: {what} must have shape {shape}, got {tuple(tensor.shape)}. One sample alone is a tensor "
            "(N, 2), several are a list."
        )
    return tensor


def weights_inside(points: Points, size: tuple[int, int], outside: Outside) -> Tensor:
    """The weights, with zeros for points that are left out.

    Args:
        points: The points.
        size: (height, width) of the map.
        outside: ``"error"`` to raise, which waits for the device; ``"drop"`` to leave out what has no place, NaN
            coordinates included.

    Raises:
        ValueError: A point outside the map, or without finite coordinates; the message names it. Or an unknown option.
    """
    if outside not in ("error", "drop"):
        raise ValueError(f"outside must be 'error' or 'drop', got {outside!r}.")
    height, width = size
    x, y, weight, _ = points
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    used = (weight > 0) & weight.isfinite()
    at = first_of(used & ~inside) if outside == "error" and has_values(x) else None
    if at is not None:
        raise ValueError(
            f"Sample {at[0]}: fixation {at[1]} at (x={float(x[at]):g}, y={float(y[at]):g}) is outside a map of height "
            f"{height} and width {width}. Coordinates are (x, y) in the map's pixels, not (row, column) or shares of "
            "the image; outside='drop' leaves such fixations out."
        )
    return torch.where(used & inside, weight, 0.0)
