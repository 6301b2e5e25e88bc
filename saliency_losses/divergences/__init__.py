"""Divergences: how far a model's map is from a human's, one value per map."""

from typing import Any

from saliency_losses.divergences.attention_l2 import AttentionL2
from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean, masked_sum
from saliency_losses.divergences.correlation import Correlation, pearson
from saliency_losses.divergences.dice import Dice, dice_loss
from saliency_losses.divergences.energy import Energy, energy_outside
from saliency_losses.divergences.foreground_background import ForegroundBackground, relevance_loss
from saliency_losses.divergences.kl import KL, kullback_leibler
from saliency_losses.divergences.masked_l1 import MaskedL1, absolute_saliency
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
from saliency_losses.divergences.ranking import Ranking, ranking_hinge
from saliency_losses.divergences.right_reasons import RightReasons, squared_saliency
from saliency_losses.divergences.robust import Robust, imputed
from saliency_losses.divergences.soft_iou import SoftIoU, jaccard_loss
from saliency_losses.divergences.sum import Sum
from saliency_losses.divergences.threshold import best_threshold

__all__ = [
    "KL",
    "L2",
    "MSE",
    "AttentionL2",
    "Correlation",
    "Dice",
    "Divergence",
    "Energy",
    "ForegroundBackground",
    "MaskedL1",
    "MaxAbs",
    "MinMax",
    "Normalizer",
    "Prior",
    "Ranking",
    "Raw",
    "RightReasons",
    "Robust",
    "SoftIoU",
    "Softmax",
    "Sum",
    "SumToOne",
    "ZScore",
    "ZScoreReLU",
    "absolute_saliency",
    "best_threshold",
    "create_divergence",
    "create_normalizer",
    "dice_loss",
    "energy_outside",
    "imputed",
    "jaccard_loss",
    "kullback_leibler",
    "list_divergences",
    "list_normalizers",
    "masked_mean",
    "masked_sum",
    "mean_squared_error",
    "pearson",
    "ranking_hinge",
    "register_divergence",
    "register_normalizer",
    "relevance_loss",
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


def list_divergences() -> list[str]:
    """The names of all divergences, those of installed plugins included.

    Example:
        >>> {"correlation", "kl", "mse"} <= set(list_divergences())
        True
    """
    return DIVERGENCES.names()


register_divergence = DIVERGENCES.register
