"""Maps as metrics compare them: checked, at one size, flat, and in double precision where the device has it."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from saliency_losses.divergences.evaluate import working_dtype
from saliency_losses.human import read_human
from saliency_losses.human_values import check_values
from saliency_losses.sizing import Sizing, bring_to_size, check_sizing, to_size

__all__ = ["MASK", "FixationSizing", "Maps", "check_fixation_sizing", "read_fixations", "read_maps", "read_pair"]

FixationSizing = Literal["enlarge", "enlarge_aligned", "same"]
"""How a model's map comes to the size of the fixations, which stay where they are.

``"enlarge"`` resizes it linearly, ``"enlarge_aligned"`` with the centres of the corner pixels aligned; ``"same"``
refuses another size.
"""

_ANY, _COUNTS, MASK = (-torch.inf, torch.inf), (0.0, torch.inf), (0.0, 1.0)  # what values human maps may have


class Maps(NamedTuple):
    r"""Model maps and what they are compared with.

    Attributes:
        model: (B, N), with zeros in rows that do not count.
        human: Likewise.
        rows: Which count, (B,).
        size: The N positions, as axes.
        dtype: Of the metric's values.
    """

    model: Tensor
    human: Tensor
    rows: Tensor
    size: tuple[int, ...]
    dtype: torch.dtype

    def values(self, values: Tensor, defined: Tensor | None = None) -> Tensor:
        """The metric's values, (B,), NaN for rows that do not count and where it is not defined."""
        there = self.rows if defined is None else self.rows & defined
        return torch.where(there, values, torch.nan).to(self.dtype)


def check_fixation_sizing(sizing: FixationSizing) -> FixationSizing:
    """``sizing`` itself, if fixations stay where they are under it.

    Raises:
        ValueError: They do not.
    """
    if sizing not in get_args(FixationSizing):
        raise ValueError(
            f"sizing must be one of {', '.join(get_args(FixationSizing))}, got {sizing!r}: fixations are pixels, so "
            "that the model's map comes to their size."
        )
    return sizing


def read_maps(name: str, model: Any, annotated: Any) -> Maps:
    r"""Model maps alone.

    Args:
        name: Of the metric, for messages.
        model: (B, \*s).
        annotated: Which of them count, (B,); all by default.

    Raises:
        TypeError: The maps are no floating-point tensor.
        ValueError: A shape that does not fit, or a map that counts is not finite.
    """
    exact = _exact(name, model)
    blank = exact.new_zeros(len(exact), *[1] * (exact.ndim - 1))
    rows = _rows(name, blank, annotated, exact)[1]
    flat = _finite(name, exact, rows).flatten(1)
    return Maps(flat, flat, rows, tuple(exact.shape[1:]), working_dtype(model, None))


def read_pair(
    name: str, model: Any, human: Any, annotated: Any, sizing: Sizing, allowed: tuple[float, float] = _ANY
) -> Maps:
    r"""Model maps and human maps at one size.

    Args:
        name: Of the metric, for messages.
        model: (B, \*s).
        human: (B, \*S) or (B, 1, \*S).
        annotated: Which samples count, (B,); all by default.
        sizing: How both come to one size.
        allowed: Smallest and largest value of human maps.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: A shape, device or option that does not fit, or a value that is not allowed in a map that counts.
    """
    check_sizing(sizing)
    exact, maps, rows = _both(name, model, human, annotated, allowed)
    exact, maps, _ = bring_to_size(exact, maps, None, sizing)
    return Maps(exact.flatten(1), maps.flatten(1), rows, tuple(maps.shape[1:]), working_dtype(model, human))


def read_fixations(name: str, model: Any, fixations: Any, annotated: Any, sizing: FixationSizing) -> Maps:
    r"""Model maps at the size of the fixations, and how often each pixel was fixated; arguments as above.

    Raises:
        TypeError: As above.
        ValueError: As above, or a count is not whole.
    """
    check_fixation_sizing(sizing)
    exact, counts, rows = _both(name, model, fixations, annotated, _COUNTS)
    if fixations.is_floating_point() and bool((counts != counts.round()).any()):
        raise ValueError(
            f"{name} counts fixations, but human_saliency holds fractions: a heat map is compared by cc, sim, kl or "
            "spearman; saliency_losses.maps.fixations_to_counts makes counts of fixations."
        )
    size = tuple(counts.shape[1:])
    exact = bring_to_size(exact, counts, None, sizing)[0] if sizing == "same" else to_size(exact, size, sizing)
    return Maps(exact.flatten(1), counts.flatten(1), rows, size, working_dtype(model, fixations))


def _both(
    name: str, model: Any, human: Any, annotated: Any, allowed: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Both maps, with zeros in rows that do not count, and which do."""
    exact = _exact(name, model)
    if not isinstance(human, Tensor):
        raise TypeError(f"{name} compares with human maps, a tensor of shape (B, *S), got {type(human).__name__}.")
    maps, rows = _rows(name, human, annotated, exact, allowed)
    maps = torch.where(rows.view(-1, *[1] * (maps.ndim - 1)), maps.to(exact.dtype), 0.0)
    return _finite(name, exact, rows), maps, rows


def _exact(name: str, model: Any) -> Tensor:
    """The maps in double precision, which only MPS devices lack."""
    if not isinstance(model, Tensor) or not model.is_floating_point():
        got = model.dtype if isinstance(model, Tensor) else type(model).__name__
        raise TypeError(f"{name} expected the model's maps as a floating-point tensor, got {got}.")
    if model.ndim < 2 or model.numel() == 0:
        raise ValueError(f"{name} expected non-empty maps of shape (B, *s), got {tuple(model.shape)}.")
    return model.detach().to(torch.float32 if model.device.type == "mps" else torch.float64)


def _rows(
    name: str, human: Tensor, annotated: Any, model: Tensor, allowed: tuple[float, float] = _ANY
) -> tuple[Tensor, Tensor]:
    """Human maps, checked, and which of them count."""
    read = read_human(human, annotated, model, maps_per_sample=False)
    if read.known is not None:
        raise ValueError(
            f"{name} takes annotated of shape ({len(model)},), is there a map, got {tuple(annotated.shape)}: which "
            "pixels are known is read by divergences alone."
        )
    check_values(read, allowed, None, warn_empty=False, reader=name)
    return read.maps, read.annotated


def _finite(name: str, model: Tensor, rows: Tensor) -> Tensor:
    """Model maps with zeros in rows that do not count."""
    bad = (rows & ~model.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"{name} got model maps with NaN or infinite values in sample(s) {', '.join(map(str, bad[:8]))}"
            f"{' and more' if len(bad) > 8 else ''}; find out where they come from, or leave them out by annotated=."
        )
    return torch.where(rows.view(-1, *[1] * (model.ndim - 1)), model, 0.0)
