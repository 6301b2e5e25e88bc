"""What a human map says, in the shape of the model's maps."""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from saliency_losses.extractors.values import looks_at_values
from saliency_losses.sizing import to_size

__all__ = ["HumanMaps", "check_given", "check_values", "read_human", "warn_of_lost"]


class HumanMaps(NamedTuple):
    r"""Human maps, one per map of the model.

    Attributes:
        maps: (M, \*S), float, with zeros where nothing is known; M is B, or B * K.
        annotated: Whether there is a map at all, (M,) bool.
        known: Which pixels are known, (M, \*S) bool, or ``None`` where all pixels of annotated maps are.
        bytes: Whether the maps came as uint8.
    """

    maps: Tensor
    annotated: Tensor
    known: Tensor | None
    bytes: bool = False


def read_human(human: Any, annotated: Any, saliency: Tensor, maps_per_sample: bool) -> HumanMaps:
    r"""Human maps and annotations in any accepted form, checked against the model's maps.

    Args:
        human: (B, \*S) or (B, 1, \*S), or (B, K, \*S) for K maps per sample; float, uint8 (scaled from 0..255),
            int8 (-1, 0, 1) or bool.
        annotated: ``None``; (B,) or (B, K): is there a map; or the shape of the human maps: is the pixel known.
        saliency: The model's maps, (B, \*s) or (B, K, \*s).
        maps_per_sample: Whether there is an axis K.

    Raises:
        TypeError: A dtype that is not accepted.
        ValueError: A shape or device that does not fit; the message says what was expected.
    """
    batch = len(saliency)
    check_given(human, annotated, batch)
    lead = tuple(saliency.shape[: 2 if maps_per_sample else 1])
    rank = saliency.ndim - len(lead)
    form = f"({', '.join(map(str, lead))}, {'*S of ' + str(rank) + ' axes'})"
    if human.device != saliency.device:
        raise ValueError(
            f"human_saliency is on {human.device}, the model's map on {saliency.device}; move it: "
            "human_saliency.to(images.device)."
        )
    if not maps_per_sample and human.ndim == rank + 2 and human.shape[1] == 1:
        human = human.squeeze(1)
    if human.ndim != rank + len(lead) or tuple(human.shape[: len(lead)]) != lead or 0 in human.shape:
        extra = "" if maps_per_sample else f", ({batch}, 1, ...) or, with classes of shape (B, K), ({batch}, K, ...)"
        hint = (
            " If its axis holds tokens of a grid, give the extractor that: reshape=(height, width)."
            if rank == 1
            else ""
        )
        raise ValueError(
            f"human_saliency has shape {tuple(human.shape)}, expected {form}{extra}: the model's map has shape "
            f"{tuple(saliency.shape)}.{hint}"
        )
    as_bytes = human.dtype == torch.uint8
    if as_bytes:
        human = human.to(torch.float32) / 255.0
    elif human.dtype in (torch.bool, torch.int8) or human.is_floating_point():
        human = human.to(torch.promote_types(saliency.dtype, torch.float32))
    else:
        raise TypeError(
            f"human_saliency must be float, uint8, int8 or bool, got {human.dtype}; convert it with .float()."
        )
    human = human.detach().flatten(0, len(lead) - 1)
    rows, known = _read_annotated(annotated, human, lead)
    return HumanMaps(human, rows, known, as_bytes)


def check_given(human: Any, annotated: Any, batch: int) -> None:
    """Refuse what no map of the model is needed to refuse.

    Raises:
        TypeError: The human maps are no tensor.
        ValueError: They are not those of the batch, or there are none where ``annotated`` says that there are.
    """
    if human is None:
        if isinstance(annotated, Tensor) and looks_at_values(annotated) and bool(annotated.any()):
            raise ValueError("annotated says that there are maps, but human_saliency is None.")
        return
    if not isinstance(human, Tensor):
        hint = " Pass its .maps, and .known as annotated=." if hasattr(human, "maps") else ""
        raise TypeError(f"human_saliency must be a tensor or None, got {type(human).__name__}.{hint}")
    if human.ndim == 0 or len(human) != batch:
        raise ValueError(
            f"human_saliency has shape {tuple(human.shape)}, so {len(human) if human.ndim else 'no'} maps, but the "
            f"batch has {batch} samples."
        )


def _read_annotated(annotated: Any, human: Tensor, lead: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    r"""Which maps exist, (M,), and which of their pixels are known, (M, \*S) or ``None`` for all."""
    if annotated is None:
        return torch.ones(len(human), dtype=torch.bool, device=human.device), None
    annotated = torch.as_tensor(annotated, device=human.device)
    if annotated.is_floating_point():
        raise TypeError(
            f"annotated must be bool (is there a map, is the pixel known), got {annotated.dtype}; weights go to "
            "sample_weight."
        )
    if annotated.dtype != torch.bool and looks_at_values(annotated) and bool((annotated > 1).any()):
        raise ValueError("annotated must be bool, or 0 and 1, for each sample; got larger integers: are these indices?")
    annotated = annotated.bool()
    shape, full = tuple(annotated.shape), (*lead, *human.shape[1:])
    if shape == lead:
        return annotated.flatten(), None
    if shape == lead[:1]:
        return annotated.unsqueeze(1).expand(lead).flatten(), None
    if len(lead) == 1 and shape == (lead[0], 1, *human.shape[1:]):
        annotated = annotated.squeeze(1)
    if tuple(annotated.shape) == full:
        known = annotated.flatten(0, len(lead) - 1)
        return known.flatten(1).any(1), known
    raise ValueError(
        f"annotated has shape {shape}, expected {' or '.join(map(str, dict.fromkeys((lead[:1], lead))))} (is there a "
        f"map) or {full} (is the pixel known)."
    )


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
