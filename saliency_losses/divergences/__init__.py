"""Divergences: how far a model's map is from a human's, one value per map."""

from typing import Any, Literal, overload

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean, masked_sum
from saliency_losses.divergences.correlation import Correlation, pearson
from saliency_losses.divergences.details import DivergenceDetails, DivergenceDetailsTable, details_of
from saliency_losses.divergences.kl import KL, kullback_leibler
from saliency_losses.divergences.mse import MSE, mean_squared_error
from saliency_losses.divergences.normalizers import (
    L2,
    MAX_ABS,
    MINMAX,
    RAW,
    SOFTMAX,
    SUM,
    MaxAbs,
    MinMax,
    Normalizer,
    Raw,
    Softmax,
    SumToOne,
    ZScore,
    ZScoreReLU,
    create_normalizer,
    list_normalizers,
    register_normalizer,
)
from saliency_losses.divergences.prior import Prior
from saliency_losses.divergences.right_reasons import RightReasons, squared_saliency
from saliency_losses.divergences.sum import Sum

__all__ = [
    "KL",
    "L2",
    "MAX_ABS",
    "MINMAX",
    "MSE",
    "RAW",
    "SOFTMAX",
    "SUM",
    "Correlation",
    "Divergence",
    "DivergenceDetails",
    "DivergenceDetailsTable",
    "MaxAbs",
    "MinMax",
    "Normalizer",
    "Prior",
    "Raw",
    "RightReasons",
    "Softmax",
    "Sum",
    "SumToOne",
    "ZScore",
    "ZScoreReLU",
    "create_divergence",
    "create_normalizer",
    "kullback_leibler",
    "list_divergences",
    "list_normalizers",
    "masked_mean",
    "masked_sum",
    "mean_squared_error",
    "pearson",
    "register_divergence",
    "register_normalizer",
    "squared_saliency",
]


def create_divergence(name: str, **options: Any) -> Divergence:
    """The divergence of this name.

    Raises:
        ValueError: Unknown name; the message lists the known ones and suggests the nearest.
        TypeError: The divergence does not know an option.

    Example:
        >>> create_divergence("right_reasons", human="never_here")
        RightReasons(human='never_here')
    """
    return DIVERGENCES.create(name, **options)


@overload
def list_divergences() -> list[str]: ...
@overload
def list_divergences(*, details: Literal[False]) -> list[str]: ...
@overload
def list_divergences(*, details: Literal[True]) -> DivergenceDetailsTable: ...
def list_divergences(*, details: bool = False) -> list[str] | DivergenceDetailsTable:
    """The names of all divergences, those of installed plugins included.

    Args:
        details: Instead, what each declares to be: prints as a table.

    Example:
        >>> print(DivergenceDetailsTable(row for row in list_divergences(details=True) if row.name in ("kl", "mse")))
        divergence  human map  of the model  of the human  sizing  spatial  smallest  axes
        kl          saliency   Softmax()     SumToOne()    area    -        1         any
        mse         saliency   MinMax()      MinMax()      area    -        1         any
    """
    return DivergenceDetailsTable(map(details_of, DIVERGENCES.names())) if details else DIVERGENCES.names()


register_divergence = DIVERGENCES.register
