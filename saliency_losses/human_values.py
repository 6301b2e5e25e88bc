"""What the values of maps say that cannot be meant."""

import warnings

import torch
from torch import Tensor

from saliency_losses.human import HumanMaps
from saliency_losses.sizing import to_size

__all__ = ["check_values", "warn_of_lost", "warn_of_negative"]


def check_values(
    human: HumanMaps, allowed: tuple[float, float], per_sample: int | None, *, warn_empty: bool, reader: str
) -> bool:
    """Raise for values that no human map has, and warn of maps that say nothing; whether it warned.

    Args:
        human: The maps.
        allowed: Smallest and largest value.
        per_sample: How many maps each sample has, where there are several.
        warn_empty: Whether all-zero maps are worth a warning: they are where nobody said which samples have a map.
        reader: What reads the maps.

    Raises:
        ValueError: A value is NaN, infinite, or outside the range; the message names the maps.
    """
    maps, annotated, known, as_bytes = human
    flat = maps.flatten(1)
    if known is not None:
        flat = torch.where(known.flatten(1), flat, max(allowed[0], 0.0))
    low, high = flat.aminmax(dim=1)
    finite = torch.isfinite(low) & torch.isfinite(high)
    unknown = "What is unknown is marked by annotated=, (B,) for samples or in the shape of the maps for pixels"
    reads = f"{reader} reads values from {allowed[0]:g} to {allowed[1]:g}"
    for bad, what, remedy in (
        (~finite, "NaN or infinite values", f"{unknown}."),
        (
            finite & (low < allowed[0]),
            f"values below {allowed[0]:g}",
            f"{reads}. {unknown}; what misleads is for 'robust'.",
        ),
        (
            finite & (high > allowed[1]),
            f"values above {allowed[1]:g}",
            f"{reads}. Divide a map by its maximum, or pass uint8 or bool.",
        ),
    ):
        if bool((bad & annotated).any()):
            found = f"{float(low[bad & annotated].amin()):g}..{float(high[bad & annotated].amax()):g}"
            raise ValueError(
                f"human_saliency has {what} in {_listed(bad & annotated, per_sample)} (got {found}). {remedy}"
            )
    if allowed[1] < float("inf"):
        _check_scale(float((high * annotated).amax()), as_bytes)
    empty = annotated & (high <= 0) & (low >= 0)
    if not warn_empty or not bool(empty.any()):
        return False
    warnings.warn(
        f"human_saliency is all zero in {_listed(empty, per_sample)} and annotated= was not given. If these samples "
        "have no map, pass annotated=(B,) bool: they are being trained as 'nothing here is salient'.",
        UserWarning,
        stacklevel=2,
    )
    return True


def warn_of_lost(human: HumanMaps, size: tuple[int, ...], per_sample: int | None) -> bool:
    """Warn of maps of which ``sizing="nearest"`` leaves nothing at the size of the model's map; whether it did.

    Args:
        human: The maps.
        size: Of the model's map.
        per_sample: How many maps each sample has, where there are several.
    """
    maps, annotated, known, _ = human
    marks = (maps != 0) if known is None else (maps != 0) & known
    kept = to_size(marks.to(maps.dtype), size, "nearest").flatten(1).any(1)
    lost = annotated & marks.flatten(1).any(1) & ~kept
    if not bool(lost.any()):
        return False
    warnings.warn(
        f"human_saliency marks something in {_listed(lost, per_sample)}, but sizing='nearest', which takes one pixel "
        f"of each cell, leaves nothing of it on the model's map of {size}: it is trained as an empty map. Choose "
        "another sizing or a layer with a larger map.",
        UserWarning,
        stacklevel=2,
    )
    return True


def warn_of_negative(saliency: Tensor, readers: str) -> bool:
    """Warn where no map of the model has a positive value, and ``readers`` count nothing else; whether it did."""
    if bool((saliency > 0).any()):
        return False
    warnings.warn(
        f"No map of the model has a positive value in this batch, and {readers} counts nothing else: it trains "
        "nothing. Take an extractor whose maps have both signs around zero (score='contrast'), a lower learning rate, "
        "or a divergence of signed maps, such as 'right_reasons' or 'correlation'.",
        UserWarning,
        stacklevel=2,
    )
    return True


def _check_scale(largest: float, as_bytes: bool) -> None:
    """Refuse masks and labels of a few values that are read, or were divided, as if they went up to 255."""
    if as_bytes and 0.0 < largest <= 3.5 / 255:
        raise ValueError(
            f"human_saliency is uint8 and read as 0..255, but holds only 0 to {round(255 * largest)}: pass a mask as "
            "bool, (mask > 0), and labels as a mask of those that count."
        )
    if abs(largest - 1 / 255) < 1e-6:
        raise ValueError(
            "human_saliency has the largest value 1/255, as a mask of zeros and ones has that was divided by 255, by "
            "torchvision's ToTensor for instance: pass it as bool, (mask > 0)."
        )


def _listed(which: Tensor, per_sample: int | None) -> str:
    indices = which.nonzero().flatten().tolist()
    names = [
        f"sample {index}" if per_sample is None else f"sample {index // per_sample}, map {index % per_sample}"
        for index in indices[:8]
    ]
    return "; ".join(names) + (f" and {len(indices) - 8} more" if len(indices) > 8 else "")
