"""What a divergence is to a kernel: a tuple of names and numbers, or the reasons why there is none."""

from typing import Any, NamedTuple

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence
from saliency_losses.divergences.normalizer import NORMALIZERS, Normalizer
from saliency_losses.sizing import Sizing

__all__ = ["KINDS", "NORMS", "Part", "Plan", "enlarged_sizes", "plan_of"]

KINDS = ("correlation", "cosine", "dice", "energy", "js", "kl", "mae", "mse", "right_reasons", "soft_iou")
NORMS = ("none", "minmax", "max_abs", "l2", "zscore", "zscore_relu", "sum", "softmax")
_BROADEST = 2048  # columns that are on chip at once
_AFFINE = ("none", "unit", "minmax", "max_abs", "l2", "zscore", "sum")


class Part(NamedTuple):
    """One divergence; the fields after ``norm`` describe the model's side, those after ``human_norm`` the human's.

    Attributes:
        kind: Which comparison.
        number: An option of it.
        moments: Whether its sums follow from the row's moments, so that long rows are visited once.
        norm: The normaliser; ``"unit"`` is the map up to a power of two, for comparisons that do not depend on scale.
        eps: Relative flatness.
        floor: Added to what is divided by, in units of the map.
        minimum: A map with values below it is shifted to it.
        temperature: Of the softmax.
        log_floor: Added to a probability where its logarithm is taken.
        held: Whether statistics are constants.
    """

    kind: str
    number: float
    moments: bool
    norm: str
    eps: float
    floor: float
    minimum: float
    temperature: float
    log_floor: float
    held: bool
    human_norm: str
    human_eps: float
    human_floor: float
    human_minimum: float
    human_temperature: float
    human_log_floor: float
    human_held: bool


class Plan(NamedTuple):
    """What one kernel evaluates.

    Attributes:
        parts: The divergences.
        sizes: ``(height, width, HEIGHT, WIDTH, aligned)`` where the kernel enlarges the model's maps to the human's.
    """

    parts: tuple[Part, ...]
    sizes: tuple[int, ...] = ()


def plan_of(divergence: Divergence) -> tuple[Part | None, list[str]]:
    """What a kernel needs to know of a divergence, or ``None`` and the reasons why no kernel evaluates it.

    Example:
        >>> from saliency_losses.divergences import MSE, SSIM
        >>> plan_of(MSE())[0].norm
        'minmax'
        >>> plan_of(SSIM())
        (None, ['there is no kernel for SSIM'])
    """
    name = DIVERGENCES.name_of(divergence)
    if name not in KINDS or DIVERGENCES.find(name) is not type(divergence):
        return None, [f"there is no kernel for {type(divergence).__name__}"]
    reasons: list[str] = []
    kind, option = name, ""
    options: Any = divergence
    replaced = sorted({"compare", "values"} & vars(divergence).keys())
    reasons += [f"there is no kernel for {type(divergence).__name__} with another {method}" for method in replaced]
    if divergence.logs and not divergence.normalize.distribution:
        reasons.append(f"{divergence.normalize} gives no distribution over positions")
    if name == "kl":
        kind = "kl" if options.direction == "human_model" else "kl_model_human"
        option = "floor"
        if options.form != "exact":
            reasons.append(f"there is no kernel for form={options.form!r} of KL")
    elif name == "energy":
        option = "eps"
        if options.floor:
            reasons.append("there is no kernel for Energy with a floor")
    elif name == "dice":
        kind = "dice" if options.squared else "dice_unsquared"
    elif name == "right_reasons":
        kind = "right_reasons" if options.human == "look_here" else "never_here"
    number = float(getattr(options, option, 0.0))
    reasons += _beyond_float32(type(divergence).__name__, **{option: number})
    sides = [_side(which, reasons) for which in (divergence.normalize, divergence.human_normalize)]
    if name == "cosine" and any(side[2] for side in sides):
        reasons.append("there is no kernel for Cosine of maps normalised with a floor, which may vanish when squared")
    if reasons:
        return None, reasons
    if name in ("cosine", "energy") and sides[0][0] == "none":
        sides[0] = ("unit", *sides[0][1:])
    if name == "cosine" and sides[1][0] == "none":
        sides[1] = ("unit", *sides[1][1:])
    return Part(kind, number, _has_moments(kind, sides), *sides[0], *sides[1]), []


_Side = tuple[str, float, float, float, float, float, bool]


def _side(normalizer: Normalizer, reasons: list[str]) -> _Side:
    name = NORMALIZERS.name_of(normalizer)
    if name not in NORMS or NORMALIZERS.find(name) is not type(normalizer):
        reasons.append(f"there is no kernel for the normaliser {normalizer}")
    elif normalizer.per_batch:
        reasons.append(f"there is no kernel for statistics of the whole batch, as {normalizer} takes")
    if name == "softmax" and not getattr(normalizer, "standardize", True):
        name = "softmax_raw"
    if name == "max_abs" and getattr(normalizer, "positive", False):
        name = "max_abs_relu"
    numbers = {"eps": 1e-6, "floor": 0.0, "minimum": 0.0, "temperature": 1.0, "log_floor": 0.0}
    eps, floor, minimum, temperature, log_floor = (
        float(getattr(normalizer, key, default)) for key, default in numbers.items()
    )
    reasons += _beyond_float32(
        normalizer, eps=eps, floor=floor, minimum=minimum, temperature=temperature, log_floor=log_floor
    )
    return name, eps, floor, minimum, temperature, log_floor, bool(getattr(normalizer, "detach", False))


def _beyond_float32(owner: object, **options: float) -> list[str]:
    return [
        f"there is no kernel for {owner} with {name}={value}: outside 2**-126 to 2**126"
        for name, value in options.items()
        if value and not 2.0**-126 <= abs(value) <= 2.0**126
    ]


def _has_moments(kind: str, sides: list[_Side]) -> bool:
    if kind == "kl":
        return sides[0][0] in ("softmax", "softmax_raw") and sides[1][0] == "sum" and sides[1][3] == 0.0
    return kind in ("mse", "correlation", "cosine") and all(side[0] in _AFFINE for side in sides)


def enlarged_sizes(model: Tensor, human: Tensor, sizing: Sizing) -> tuple[int, ...]:
    r"""The sizes of a plan whose kernel enlarges the model's maps; none where they are brought to size before.

    Args:
        model: (B, \*s).
        human: (B, \*S).
        sizing: How they come to one size.

    Example:
        >>> import torch
        >>> enlarged_sizes(torch.ones(1, 7, 7), torch.ones(1, 224, 224), "enlarge")
        (7, 7, 224, 224, 0)
    """
    small, large = tuple(model.shape[1:]), tuple(human.shape[1:])
    fits = len(small) == 2 and small != large and all(a <= b for a, b in zip(small, large, strict=True))
    if sizing not in ("enlarge", "enlarge_aligned") or not fits or large[1] > _BROADEST:
        return ()
    return (*small, *large, int(sizing == "enlarge_aligned"))
