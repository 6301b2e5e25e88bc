"""Which number a map explains: the score, linear in the logits unless the caller brings a function."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from saliency_losses.extractors.values import looks_at_values

__all__ = ["Score", "check_score", "class_weights", "find_logits", "is_linear", "pinned", "purpose_of", "scores"]

_OF_PROBABILITIES = ("log_probability", "log_probabilities", "cross_entropy")

Named = Literal["true", "predicted", "contrast", "log_probability", "log_probabilities", "cross_entropy"]
Score = Named | int | Callable[[Any, Any], Tensor]
"""The number that a map explains.

``"true"`` is the logit of the given class; ``"predicted"`` the largest logit; ``"contrast"`` the given class's logit
minus the largest other; an integer that class's logit; ``"log_probability"`` is the log-probability of the given class,
``"log_probabilities"`` the sum of those of all classes (Ross et al. 2017), ``"cross_entropy"`` the task loss of the
sample (Petryk et al. 2022), where float classes are the target's probabilities; a callable ``(output, targets)`` gives
one number per sample, (B,), for outputs that are not logits. Float classes (B, C) weigh the logits. A single logit
speaks for class 1 and, negated, for class 0.
"""


def check_score(score: Score) -> Score:
    """``score`` itself, if it is one.

    Raises:
        ValueError: It is neither a known name, nor a class index, nor a callable.
    """
    if score in get_args(Named) or callable(score):
        return score
    if isinstance(score, int) and not isinstance(score, bool) and score >= 0:
        return score
    raise ValueError(
        f"score must be one of {', '.join(map(repr, get_args(Named)))}, a class index or a "
        f"callable(output, targets) -> (B,), got {score!r}."
    )


def is_linear(score: Score) -> bool:
    """Whether the score sums logits with constant weights."""
    return not callable(score) and score not in _OF_PROBABILITIES


def purpose_of(score: Score) -> Hashable:
    """What tells this score from others, without keeping a callable alive."""
    return (id(score), repr(score)) if callable(score) else score


def find_logits(output: Any) -> Tensor | None:
    """The logits (B, C), or (B,) for one logit: the output itself, or its entry ``logits``; else ``None``.

    Example:
        >>> find_logits({"logits": torch.zeros(2, 3)}).shape
        torch.Size([2, 3])
    """
    if not isinstance(output, Tensor):
        output = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return output if isinstance(output, Tensor) and output.ndim in (1, 2) else None


def logits_of(output: Any) -> Tensor:
    """The logits as (B, C); one logit is (B, 1).

    Raises:
        ValueError: The output holds none; the message says to bring a ``score`` callable.
    """
    logits = find_logits(output)
    if logits is None:
        got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"The model returned {got}, expected logits of shape (B, C) or an output with an entry 'logits'. "
            "Say which number the map explains: score=lambda output, targets: ... of shape (B,)."
        )
    return logits if logits.ndim == 2 else logits.unsqueeze(1)


def scores(score: Score, output: Any, classes: Any) -> Tensor:
    """The explained numbers: (B,), or (B, K) for ``classes`` of shape (B, K).

    Raises:
        ValueError: The output holds no logits, the classes do not fit them, or the callable's result is not
            one number per sample.
    """
    if callable(score):
        value = score(output, classes)
        if not isinstance(value, Tensor) or value.ndim not in (1, 2):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"score(output, targets) must return a tensor of shape (B,) or (B, K), got {got}.")
        return _for_each_class(value, classes)
    logits = logits_of(output)
    if not is_linear(score):
        return _of_probabilities(cast(str, score), logits, classes)
    weights = class_weights(score, logits, classes)
    return (weights * (logits if weights.ndim == 2 else logits.unsqueeze(1))).sum(-1)


def _of_probabilities(score: str, logits: Tensor, classes: Any) -> Tensor:
    """The named score of the log-probabilities: those of softmax, or of sigmoid where there is one logit."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
        if isinstance(classes, Tensor) and classes.is_floating_point():
            share = _checked(classes, len(classes), 1)
            classes = torch.stack([1.0 - share, share], 1)
    logs = logits.log_softmax(1)
    if score == "log_probabilities":
        return _for_each_class(logs.sum(1), classes)
    weights = class_weights("true", logits, classes)
    value = (weights * (logs if weights.ndim == 2 else logs.unsqueeze(1))).sum(-1)
    return value if score == "log_probability" else -value


def pinned(score: Score, output: Any, classes: Any) -> tuple[Score, Any]:
    """The score and classes with the predicted class settled by this output, for further passes of the model.

    Example:
        >>> pinned("predicted", torch.tensor([[1.0, 3.0]]), None)
        ('true', tensor([1]))
    """
    if callable(score) or (classes is not None and score != "predicted"):
        return score, classes
    logits = logits_of(output).detach()
    predicted = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return ("true" if score == "predicted" else score), predicted


def _for_each_class(value: Tensor, classes: Any) -> Tensor:
    """The scores as (B, K) where K classes are explained.

    Raises:
        ValueError: A score of one number per sample cannot tell K classes apart.
    """
    several = isinstance(classes, Tensor) and classes.ndim == 2 and not classes.is_floating_point()
    if several and value.shape != classes.shape:
        raise ValueError(
            f"classes of shape {tuple(classes.shape)} need a score of the same shape, got {tuple(value.shape)}: this "
            "score does not depend on the class, so ask for one map per sample."
        )
    return value


def class_weights(score: Score, logits: Tensor, classes: Tensor | None) -> Tensor:
    """The constant weights (B, C), or (B, K, C), with which a named score sums the logits.

    A one-logit head stands for two classes: its logit speaks for class 1 and, negated, for class 0.

    Args:
        score: A name or a class index.
        logits: (B, C).
        classes: (B,) or (B, K) integers, (B, C) float weights, or ``None`` for the predicted class.

    Example:
        >>> class_weights("contrast", torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
        tensor([[ 1.,  0., -1.]])
    """
    logits = logits.detach()
    batch, count = logits.shape
    predicted = logits.argmax(1) if count > 1 else (logits[:, 0] > 0).long()
    several = isinstance(classes, Tensor) and classes.ndim == 2 and not classes.is_floating_point()
    if classes is not None and several and score not in ("true", "contrast"):
        raise ValueError(f"classes of shape {tuple(classes.shape)} need score='true' or 'contrast', not {score!r}.")
    if isinstance(score, int):
        if score >= max(count, 2):
            raise ValueError(f"score={score} names a class, but the model has {max(count, 2)} classes.")
        classes = torch.full_like(predicted, score)
    elif score == "predicted" or classes is None:
        classes = predicted
    classes = _checked(classes, batch, count)
    if count == 1:
        return (2.0 * classes.to(logits.dtype) - 1.0).unsqueeze(-1)
    weights = classes if classes.is_floating_point() else _one_hot(classes, count)
    weights = weights.to(logits.dtype)
    if score == "contrast":
        best, second = (_one_hot(index, count) for index in logits.topk(2).indices.unbind(1))
        if weights.ndim == 3:
            best, second = best.unsqueeze(1), second.unsqueeze(1)
        on_best = (weights * best).sum(-1, keepdim=True)
        weights = weights - (weights.sum(-1, keepdim=True) - on_best) * best - on_best * second
    return weights


def _one_hot(index: Tensor, count: int) -> Tensor:
    """As PyTorch's, but of operations that every graph takes."""
    return (index.unsqueeze(-1) == torch.arange(count, device=index.device)).long()


def _checked(classes: Tensor, batch: int, count: int) -> Tensor:
    """The classes as (B,), (B, K) or, where float, (B, C); (B,) for one logit."""
    if not isinstance(classes, Tensor):
        raise TypeError(f"The explained classes must be a tensor, got {type(classes).__name__}.")
    kinds = max(count, 2)
    if classes.is_floating_point():
        if count == 1 and classes.shape in ((batch,), (batch, 1)):
            classes = classes.reshape(batch)
            if looks_at_values(classes) and not bool(((classes >= 0) & (classes <= 1)).all()):
                raise ValueError("Targets of a one-logit model must lie in [0, 1].")
            return classes
        if classes.shape == (batch, count) and count > 1:
            return classes
        raise ValueError(
            f"Float classes weigh the logits and must have shape ({batch}, {count}), got {tuple(classes.shape)}; "
            "class indices must be integers (.long())."
        )
    if classes.dtype == torch.bool:
        raise TypeError("The explained classes are bool; use integers (.long()) or float weights (.float()).")
    if classes.ndim not in (1, 2) or classes.shape[0] != batch:
        raise ValueError(f"Expected class indices of shape ({batch},) or ({batch}, K), got {tuple(classes.shape)}.")
    if looks_at_values(classes) and classes.numel():
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= kinds:
            raise ValueError(
                f"Class indices must lie in 0..{kinds - 1} (the model has {kinds} classes), got {low}..{high}."
            )
    return classes.long()
