"""Points per sample, in whatever form they come, as one padded tensor."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from saliency_losses.maps.reading import as_float, first_of, has_values, read_samples

__all__ = ["Outside", "PerSample", "Points", "check_outside", "check_weights", "read_points", "weights_inside"]

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
    if isinstance(points, Tensor):
        if points.ndim not in (2, 3) or points.shape[-1] != 2:
            raise ValueError(
                f"fixations must have shape (N, 2), (B, N, 2), or be B of (N_i, 2), got {tuple(points.shape)}."
            )
        xy = as_float(points.unsqueeze(0) if single else points)
        counts = [xy.shape[1]] * len(xy)
    else:
        listed = read_samples(points, "fixations", (2,))
        xy = pad_sequence(listed, batch_first=True)
        counts = [len(one) for one in listed]
    real = (torch.arange(xy.shape[1]) < torch.tensor(counts).unsqueeze(1)).to(xy.device)
    weight = real.to(xy)
    if weights is not None:
        given = _weights([weights] if single else weights, counts, xy.shape[1])
        weight = torch.where(real, given.to(xy), 0.0)
    return Points(xy[..., 0], xy[..., 1], weight, single)


def _weights(given: PerSample, counts: list[int], most: int) -> Tensor:
    """(B, N) for samples with ``counts`` fixations, N at ``most``."""
    if isinstance(given, Tensor):
        if tuple(given.shape) != (len(counts), most):
            raise ValueError(f"weights must have shape {(len(counts), most)}, got {tuple(given.shape)}.")
        return given
    if len(given) != len(counts):
        raise ValueError(f"weights has {len(given)} samples, fixations has {len(counts)}.")
    listed = read_samples(given, "weights", ())
    for index, (one, count) in enumerate(zip(listed, counts, strict=True)):
        if len(one) != count:
            raise ValueError(f"Sample {index} has {count} fixations but {len(one)} weights.")
    return pad_sequence(listed, batch_first=True)


def check_outside(outside: Outside) -> None:
    """Raise for an unknown option.

    Raises:
        ValueError: It is neither ``"error"`` nor ``"drop"``.
    """
    if outside not in ("error", "drop"):
        raise ValueError(f"outside must be 'error' or 'drop', got {outside!r}.")


def check_weights(weight: Tensor) -> None:
    """Raise for weights that are no durations. Waits for the device.

    Raises:
        ValueError: A weight is negative or not finite; the message names the sample.
    """
    at = first_of(~(weight.isfinite() & (weight >= 0))) if has_values(weight) else None
    if at is not None:
        raise ValueError(
            f"Sample {at[0]}: fixation {at[1]} has the weight {float(weight[at]):g}; weights are finite, not negative."
        )


def weights_inside(points: Points, size: tuple[int, int], outside: Outside) -> Tensor:
    """The weights, with zeros for points that are left out.

    Args:
        points: The points.
        size: (height, width) of the map.
        outside: ``"error"`` to raise, which waits for the device; ``"drop"`` to leave out what has no place or no
            positive weight, NaN included.

    Raises:
        ValueError: A point outside the map, without finite coordinates or with a weight that is none; the message
            names it. Or several that all look like shares of the image, or an unknown option.
    """
    check_outside(outside)
    height, width = size
    x, y, weight, _ = points
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    used = (weight > 0) & weight.isfinite()
    if outside == "error":
        check_weights(weight)
    at = first_of(used & ~inside) if outside == "error" and has_values(x) else None
    if at is not None:
        raise ValueError(
            f"Sample {at[0]}: fixation {at[1]} at (x={float(x[at]):g}, y={float(y[at]):g}) is outside a map of height "
            f"{height} and width {width}. Coordinates are (x, y) in the map's pixels, not (row, column) or shares of "
            "the image; outside='drop' leaves such fixations out."
        )
    if outside == "error" and min(size) > 2 and has_values(x) and _look_like_shares(x[used], y[used]):
        raise ValueError(
            "All fixations lie between 0 and 1, as shares of the image do: multiply x by its width and y by its "
            "height. outside='drop' takes them as pixels."
        )
    return torch.where(used & inside, weight, 0.0)


def _look_like_shares(x: Tensor, y: Tensor) -> bool:
    """Whether three or more points all lie in the first pixels, and not on their centres."""
    at = torch.stack([x, y])
    return len(x) > 2 and bool(((at >= 0) & (at <= 1)).all()) and bool((at != at.round()).any())
