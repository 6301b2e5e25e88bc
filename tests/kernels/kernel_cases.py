"""What kernels are compared on: divergences of every kind and normaliser, and rows that are hard to get right."""

import copy
import os
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import saliency_losses as sl
from saliency_losses.divergences import (
    JS,
    KL,
    L2,
    MAE,
    MSE,
    Correlation,
    Cosine,
    Dice,
    Divergence,
    Energy,
    MaxAbs,
    MinMax,
    RightReasons,
    SoftIoU,
    Softmax,
    SumToOne,
    ZScore,
    ZScoreReLU,
)
from saliency_losses.divergences.evaluate import evaluate
from saliency_losses.kernels.plan import KINDS

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

NORMALIZERS = {
    "none": "none",
    "minmax": MinMax(),
    "minmax held": MinMax(detach=True),
    "minmax floor": MinMax(floor=0.5, eps=1e-3),
    "max_abs": MaxAbs(),
    "max_abs held": MaxAbs(detach=True),
    "max_abs floor": MaxAbs(floor=0.5),
    "max_abs positive": MaxAbs(positive=True),
    "l2": L2(),
    "l2 held": L2(detach=True),
    "l2 floor": L2(floor=0.5),
    "zscore": ZScore(),
    "zscore held": ZScore(detach=True),
    "zscore floor": ZScore(floor=0.3, eps=1e-3),
    "zscore_relu": ZScoreReLU(),
    "zscore_relu held": ZScoreReLU(detach=True),
}
DISTRIBUTIONS = {
    "sum": SumToOne(),
    "sum held": SumToOne(detach=True),
    "sum minimum": SumToOne(minimum=0.1, log_floor=1e-3),
    "softmax": Softmax(),
    "softmax held": Softmax(detach=True),
    "softmax cold": Softmax(temperature=0.3),
    "softmax raw": Softmax(standardize=False, temperature=2.0),
}


def parts() -> dict[str, Divergence]:
    """Divergences by what they are, each kind, option and normaliser on each side among them."""
    found: dict[str, Divergence] = {name: sl.create_divergence(name) for name in KINDS}
    found["energy eps"] = Energy(eps=0.3)
    found["right_reasons never_here"] = RightReasons(human="never_here")
    found["dice unsquared"] = Dice(squared=False)
    found["correlation eps"] = Correlation(eps=0.1)
    for name, normalizer in {**NORMALIZERS, **DISTRIBUTIONS}.items():
        for make in (MSE, MAE, Dice, SoftIoU, RightReasons, Energy):
            found[f"{make.__name__} of {name}"] = make(normalize=normalizer)
        found[f"MSE to {name}"] = MSE(human_normalize=normalizer)
        found[f"Dice to {name}"] = Dice(squared=False, human_normalize=normalizer)
        if not getattr(normalizer, "floor", 0.0):
            found[f"Cosine of {name}"] = Cosine(normalize=normalizer)
            found[f"Cosine to {name}"] = Cosine(human_normalize=normalizer)
    for one, model in DISTRIBUTIONS.items():
        for other, human in DISTRIBUTIONS.items():
            for make in (KL, JS):
                found[f"{make.__name__} of {one} to {other}"] = make(normalize=model, human_normalize=human)
            found[f"KL of {one} to {other}, reversed"] = KL(
                normalize=model, human_normalize=human, direction="model_human", floor=1e-4
            )
    return found


PARTS = parts()
# A share of the products in which every kind, option, and normaliser of either side occurs.
QUICK = (
    *KINDS,
    *("energy eps", "right_reasons never_here", "dice unsquared", "correlation eps"),
    *(f"MSE of {name}" for name in (*NORMALIZERS, *DISTRIBUTIONS)),
    *(f"Cosine of {name}" for name in ("minmax", "softmax", "zscore_relu")),
    *(f"Dice of {name}" for name in ("none", "zscore", "sum", "minmax held")),
    *(f"SoftIoU of {name}" for name in ("none", "max_abs positive", "softmax")),
    *(f"MAE of {name}" for name in ("none", "zscore_relu", "softmax cold")),
    *(f"RightReasons of {name}" for name in ("max_abs", "sum")),
    *(f"Energy of {name}" for name in ("minmax", "zscore", "softmax")),
    *(f"MSE to {name}" for name in ("none", "max_abs", "l2", "zscore", "zscore_relu", "sum", "softmax", "softmax raw")),
    *(f"Dice to {name}" for name in ("none", "max_abs positive", "minmax floor")),
    *("KL of sum to sum", "KL of softmax raw to sum", "KL of softmax to softmax", "KL of softmax cold to sum"),
    *("KL of softmax held to sum minimum", "KL of softmax raw to sum, reversed", "KL of sum to sum minimum, reversed"),
    *("JS of sum to softmax", "JS of softmax cold to sum", "JS of sum minimum to softmax raw"),
)


def rows(count: int, seed: int = 0) -> dict[str, Tensor]:
    """Model maps that have broken kernels, (N,) each."""
    generator = torch.Generator().manual_seed(seed)
    normal, uniform = torch.randn(count, generator=generator), torch.rand(count, generator=generator)
    hot = torch.zeros(count)
    hot[count // 2] = 3.0
    ties = uniform + 0.1
    ties[0] = ties[-1] = 2.0
    ties[count // 3] = ties[2 * count // 3] = -1.0
    far = normal.clone()
    far[::3] *= 1e15
    far[::2] *= 1e-15
    return {
        "normal": normal,
        "rectified": normal.relu(),
        "constant": torch.full((count,), 0.7),
        "zero": torch.zeros(count),
        "one hot": hot,
        "one cold": -hot,
        "ties": ties,
        "negative": -uniform - 0.1,
        "nearly flat": 1.0 + 1e-5 * normal,
        "flat but for rounding": 1.0 + 1e-7 * normal,
        "far from zero": 100.0 + normal,
        "huge": 1e37 * normal,
        "large": 9e17 * normal,
        "tiny": 1e-30 * normal,
        "denormal": 1e-40 * normal,
        "far apart": far,
        "last cells": (torch.arange(count) >= 0.75 * count) + 0.01 * normal,
    }


def humans(count: int, seed: int = 1) -> dict[str, Tensor]:
    """Human maps likewise; normalised, they equal the model's at extremes alone, so that there are no other kinks."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, generator=generator)
    place = (torch.arange(count) + 0.3) / count
    hot = torch.zeros(count)
    hot[count // 3] = 1.0
    return {
        "uniform": uniform,
        "bump": torch.exp(-((place - 0.5) / 0.1).square()),
        "mask": ((place > 0.3) & (place < 0.5)).float(),
        "empty": torch.zeros(count),
        "full": torch.ones(count),
        "one hot": hot,
        "negative cells": uniform - 0.3,
        "nearly flat": 1.0 + 1e-5 * uniform,
        "large": 9e17 * uniform,
        "tiny": 1e-30 * uniform,
        "denormal": 1e-40 * uniform,
    }


class Found(NamedTuple):
    """What one way of evaluation gives, in double precision: (P, B), (B,), (B, *s)."""

    values: Tensor
    total: Tensor
    gradient: Tensor


def found(
    parts: list[Divergence], backend: str, model: Tensor, human: Tensor, weights: Tensor, upstream: Tensor
) -> Found:
    """Values, weighted sum and gradient by one backend, the weighted sum not being the last operation."""
    chosen = [copy.copy(part) for part in parts]
    for part in chosen:
        part.backend = backend
    leaf = model.detach().requires_grad_()
    total, values = evaluate(chosen, weights, leaf, human, None)
    (gradient,) = torch.autograd.grad((total * upstream.to(total.dtype)).sum(), leaf)
    assert gradient.dtype == leaf.dtype
    assert gradient.shape == leaf.shape
    return Found(values.double(), total.detach().double(), gradient.double())


def three(
    parts: list[Divergence], model: Tensor, human: Tensor, weights: Tensor | None = None
) -> tuple[Found, Found, Found]:
    """By kernels, by PyTorch in single precision, and by PyTorch in double precision, which is the definition."""
    weights = torch.ones(len(parts), len(model)) if weights is None else weights
    upstream = torch.rand(len(model)) + 0.5
    return (
        found(parts, "triton", model, human, weights, upstream),
        found(parts, "eager", model, human, weights, upstream),
        found(parts, "eager", model.double(), human.double(), weights.double(), upstream),
    )


def errors(result: Found, exact: Found, model: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row: of the sum, relative to it or to 1, and of the gradient, relative to it or to an ordinary one."""
    magnitude = model.double().flatten(1).abs().amax(1).clamp_min(1e-45)
    ordinary = 1.0 / model[0].numel() / magnitude
    size = torch.maximum(exact.gradient.flatten(1).abs().amax(1), ordinary)
    of_total = (result.total - exact.total).abs() / exact.total.abs().clamp_min(1.0)
    return of_total, (result.gradient - exact.gradient).flatten(1).abs().amax(1) / size


def agree(
    parts: list[Divergence],
    model: Tensor,
    human: Tensor,
    *,
    weights: Tensor | None = None,
    value: float = 2e-6,
    gradient: float = 2e-5,
    names: list[str] | None = None,
) -> None:
    """Kernels are as near to the definition as PyTorch in single precision, up to a factor or a tolerance."""
    kernel, single, exact = three(parts, model, human, weights)
    names = names or [str(index) for index in range(len(model))]
    own, others = errors(kernel, exact, model), errors(single, exact, model)
    for index, name in enumerate(names):
        for mine, other, least, what in zip(own, others, (value, gradient), ("sum", "gradient"), strict=True):
            if other[index].isfinite():
                assert mine[index] <= least + 4.0 * other[index], f"{what} of {name}: {mine[index]} and {other[index]}"
            else:
                assert not mine[index].isfinite(), f"{what} of {name} is finite"
    for mine, other, reference in zip(kernel.values, single.values, exact.values, strict=True):
        far = (mine - reference).abs() > value * reference.abs().clamp_min(1.0) + 4.0 * (other - reference).abs()
        assert not far.any(), [names[int(index)] for index in far.nonzero()]


def require_interpreter() -> None:
    """Fail where kernels would not be interpreted: these tests must not pass by being skipped."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.fail("Kernels are interpreted here: run these tests alone, with TRITON_INTERPRET=1.")
