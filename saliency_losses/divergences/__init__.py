"""Divergences: how far a model's map is from a human's, one value per map."""

from typing import Any

from saliency_losses.divergences.area import Area
from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean, masked_sum
from saliency_losses.divergences.correlation import Correlation, pearson
from saliency_losses.divergences.entropy import Entropy, normalized_entropy
from saliency_losses.divergences.gini import Gini, gini_index
from saliency_losses.divergences.kl import KL, kullback_leibler
from saliency_losses.divergences.mse import MSE, mean_squared_error
from saliency_losses.divergences.normalizers import (
    L2,
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
from saliency_losses.divergences.pyramid import Pyramid, pyramid_error, pyramid_level
from saliency_losses.divergences.right_reasons import RightReasons, squared_saliency
from saliency_losses.divergences.sinkhorn import Sinkhorn, sinkhorn_divergence
from saliency_losses.divergences.ssim import SSIM
from saliency_losses.divergences.sum import Sum
from saliency_losses.divergences.total_variation import TotalVariation, total_variation

__all__ = [
    "KL",
    "L2",
    "MSE",
    "SSIM",
    "Area",
    "Correlation",
    "Divergence",
    "Entropy",
    "Gini",
    "MaxAbs",
    "MinMax",
    "Normalizer",
    "Prior",
    "Pyramid",
    "Raw",
    "RightReasons",
    "Sinkhorn",
    "Softmax",
    "Sum",
    "SumToOne",
    "TotalVariation",
    "ZScore",
    "ZScoreReLU",
    "create_divergence",
    "create_normalizer",
    "gini_index",
    "kullback_leibler",
    "list_divergences",
    "list_normalizers",
    "masked_mean",
    "masked_sum",
    "mean_squared_error",
    "normalized_entropy",
    "pearson",
    "pyramid_error",
    "pyramid_level",
    "register_divergence",
    "register_normalizer",
    "sinkhorn_divergence",
    "squared_saliency",
    "total_variation",
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


def list_divergences() -> list[str]:
    """The names of all divergences, those of installed plugins included.

    Example:
        >>> {"correlation", "kl", "mse"} <= set(list_divergences())
        True
    """
    return DIVERGENCES.names()


register_divergence = DIVERGENCES.register
