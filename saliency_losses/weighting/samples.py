"""Weights of samples: what is known of how people judged them, as factors."""

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["relative_weights"]


def relative_weights(values: Tensor, *, strength: float = 1.0, priority: Literal["high", "low"] = "high") -> Tensor:
    r"""Weights of samples by reaction time, annotation duration, quality, difficulty or the like.

    .. math:: w_i = \frac{1 + s\, \hat v_i}{\mathrm{mean}_j (1 + s\, \hat v_j)}, \qquad
        \hat v = \frac{v - \min v}{\max v - \min v}

    Compute them once over the data set, and pass those of the batch as ``sample_weight`` (both terms),
    ``task_sample_weight`` or ``saliency_sample_weight`` of a guided step. They multiply: a constant that is added to
    all logits of a sample, or to its loss, as some published psychophysical losses do, changes no gradient.

    Args:
        values: One per sample, (N,); NaN where none is known.
        strength: s; the heaviest sample weighs 1 + s times as much as the lightest.
        priority: Which values weigh more, high or low ones.

    Returns:
        (N,), positive, of mean one over the samples with a value; 1 for the others, and for all where the values are
        equal.

    Raises:
        ValueError: The values are not (N,) or not finite, or an option is out of range.

    Example:
        >>> relative_weights(torch.tensor([0.5, 2.0, 3.5, float("nan")]))
        tensor([0.6667, 1.0000, 1.3333, 1.0000])

    Reference:
        Dulay and Scheirer, Using Human Perception to Regularize Transfer Learning, arXiv:2211.07885, 2022; Webster,
        Scheirer and Czajka, Psychophysically-Guided Training for Fingerprint Presentation Attack Detection, IEEE T-BIOM
        2026.
    """
    if not isinstance(values, Tensor) or values.ndim != 1 or values.is_complex():
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"values must be a tensor of shape (N,), one number per sample, got {got}.")
    if not 0.0 <= strength < math.inf:
        raise ValueError(f"strength must be finite and not negative, got {strength}.")
    if priority not in ("high", "low"):
        raise ValueError(f"priority must be 'high' or 'low', got {priority!r}.")
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    known = ~values.isnan()
    if bool(values.isinf().any()):
        raise ValueError("values must be finite, or NaN where unknown, got infinite ones.")
    weights = torch.ones_like(values)
    found = values[known]
    if not len(found) or bool(found.min() == found.max()):
        return weights
    place = found / 2 - found.min() / 2
    place = place / place.max()
    raw = 1.0 + strength * (place if priority == "high" else 1.0 - place)
    weights[known] = raw / raw.mean()
    return weights
