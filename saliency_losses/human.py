"""What a human map says, in the shape of the model's maps."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from saliency_losses.extractors.values import looks_at_values

__all__ = ["HumanMaps", "check_given", "read_human"]


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
