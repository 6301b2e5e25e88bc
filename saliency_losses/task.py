"""The task's term: cross-entropy unless the caller brings another loss."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.extractors.score import logits_of
from saliency_losses.extractors.values import looks_at_values

__all__ = ["IGNORED", "TaskLoss", "cross_entropy", "joint_weight", "task_term"]

IGNORED = -100  # PyTorch's default ignore_index

TaskLoss = Callable[[Any, Any], Tensor]


def cross_entropy(output: Any, targets: Any, *, reduction: str = "mean") -> Tensor:
    """Cross-entropy of the logits in ``output``; binary cross-entropy where there is one logit.

    Args:
        output: Logits (B, C), or an output with an entry ``logits``.
        targets: Class indices (B,), where -100 is ignored, or class probabilities (B, C); for one logit 0, 1 or
            between, (B,) or (B, 1).
        reduction: As in PyTorch, but the mean over a batch whose targets are all ignored is 0, not NaN.

    Raises:
        TypeError: The targets are not a tensor.
        ValueError: Their shape, dtype or values do not fit the logits.

    Example:
        >>> cross_entropy(torch.zeros(2, 1), torch.tensor([0, 1]))
        tensor(0.6931)
    """
    logits = logits_of(output)
    batch, count = logits.shape
    if not isinstance(targets, Tensor):
        raise TypeError(f"targets must be a tensor, got {type(targets).__name__}; bring task_loss= for other targets.")
    probabilities = targets.is_floating_point()
    shapes = {(batch,), (batch, 1)} if count == 1 else {(batch, count)} if probabilities else {(batch,)}
    if tuple(targets.shape) not in shapes or (targets.dtype == torch.bool and count > 1):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)} and dtype {targets.dtype}, expected class indices ({batch},) "
            f"or float probabilities ({batch}, {count}) for logits {tuple(logits.shape)}."
        )
    if count == 1:
        targets = targets.flatten().to(logits.dtype)
        if looks_at_values(targets) and bool(((targets < 0) | (targets > 1)).any()):
            raise ValueError(
                f"targets of one logit must lie in [0, 1], got {float(targets.min())}..{float(targets.max())}."
            )
        return F.binary_cross_entropy_with_logits(logits.flatten(), targets, reduction=reduction)
    if probabilities and looks_at_values(targets):
        sums = targets.sum(1)
        if bool((targets < 0).any()) or bool(((sums - 1).abs() > 1e-2).any()):
            raise ValueError(
                "float targets must be class probabilities, not negative and summing to one for each sample. For "
                "several labels at once bring task_loss=, such as torch.nn.BCEWithLogitsLoss()."
            )
    if not probabilities:
        targets = targets.long()
        if looks_at_values(targets) and bool(((targets >= count) | ((targets < 0) & (targets != IGNORED))).any()):
            raise ValueError(f"targets must lie in 0..{count - 1}, got {int(targets.min())}..{int(targets.max())}.")
        if reduction == "mean":
            nothing = (targets == IGNORED).all()
            return torch.where(nothing, 0.0, F.cross_entropy(logits, torch.where(nothing, 0, targets)))
    return F.cross_entropy(logits, targets, reduction=reduction)


def task_term(
    task_loss: TaskLoss | None,
    output: Any,
    targets: Any,
    weight: Tensor | None,
    *,
    own_weight: Tensor | None = None,
    per_sample: bool,
) -> Tensor:
    """The task's loss: a scalar, or (B,) where ``per_sample``.

    Args:
        task_loss: ``(output, targets)`` to a scalar or (B,); :func:`cross_entropy` by default.
        output: Of the model.
        targets: For the loss.
        weight: Factor of each sample, (B,).
        own_weight: Another one, of this term alone.
        per_sample: Whether to leave the mean to the caller.

    Raises:
        ValueError: The loss returned something else, or a scalar where one value per sample is needed.
    """
    weighed = weight is not None or own_weight is not None
    each = per_sample or weighed
    if task_loss is None:
        value = cross_entropy(output, targets, reduction="none" if each else "mean")
    else:
        value = task_loss(output, targets)
    if not isinstance(value, Tensor) or value.ndim > 1 or (each and value.ndim == 0):
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        wanted = (
            "one value per sample, (B,), as sample_weight= and reduction='none' need" if each else "a scalar or (B,)"
        )
        raise ValueError(f"task_loss(output, targets) returned {got}, expected {wanted}.")
    joint = joint_weight(tuple(value.shape), sample_weight=weight, task_sample_weight=own_weight)
    if joint is not None:
        value = value * joint.to(value.dtype)
    if per_sample:
        return value
    if task_loss is None and weighed and not targets.is_floating_point():
        value = value.sum() / (targets != IGNORED).sum().clamp_min(1)
    return value.mean()


def joint_weight(shape: tuple[int, ...], **weights: Tensor | None) -> Tensor | None:
    """The product of those weights that are given; ``None`` if none is.

    Args:
        shape: Of what is weighed, (B,) or (B, K).
        weights: By the name of the argument, each in this shape or (B,).

    Raises:
        ValueError: A weight has another shape, or on the CPU a value that is negative or not finite.

    Example:
        >>> joint_weight((2,), sample_weight=torch.tensor([1.0, 2.0]), task_sample_weight=torch.tensor([3.0, 3.0]))
        tensor([3., 6.])
    """
    joint = None
    for name, weight in weights.items():
        if weight is None:
            continue
        if not isinstance(weight, Tensor) or tuple(weight.shape) not in (shape, shape[:1]):
            got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
            wanted = " or ".join(map(str, dict.fromkeys((shape[:1], shape))))
            raise ValueError(f"{name} must be a tensor of shape {wanted}, got {got}.")
        if looks_at_values(weight) and not bool((weight.isfinite() & (weight >= 0)).all()):
            raise ValueError(
                f"{name} must be finite and not negative, got {weight.min().item():g}..{weight.max().item():g}."
            )
        weight = weight.view(*weight.shape, *[1] * (len(shape) - weight.ndim))
        joint = weight if joint is None else joint * weight
    return joint
