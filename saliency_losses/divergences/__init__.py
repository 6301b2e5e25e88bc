"""Divergences: how far a model's map is from a human's, one value per map."""

from typing import Any, Literal, overload

from saliency_losses.divergences.area import Area
from saliency_losses.divergences.attention_l2 import AttentionL2
from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean, masked_sum
from saliency_losses.divergences.bce import BCE, mean_binary_cross_entropy
from saliency_losses.divergences.correlation import Correlation, pearson
from saliency_losses.divergences.cosine import Cosine, cosine_similarity
from saliency_losses.divergences.details import DivergenceDetails, DivergenceDetailsTable, details_of
from saliency_losses.divergences.dice import Dice, dice_loss
from saliency_losses.divergences.distributions import SOFTMAX, SUM, Softmax, SumToOne
from saliency_losses.divergences.energy import Energy, energy_outside
from saliency_losses.divergences.entropy import Entropy, normalized_entropy
from saliency_losses.divergences.foreground_background import ForegroundBackground, relevance_loss
from saliency_losses.divergences.gini import Gini, gini_index
from saliency_losses.divergences.huber import Huber, mean_huber
from saliency_losses.divergences.js import JS, jensen_shannon
from saliency_losses.divergences.kl import KL, kullback_leibler
from saliency_losses.divergences.mae import MAE, mean_absolute_error
from saliency_losses.divergences.masked_l1 import MaskedL1, absolute_saliency
from saliency_losses.divergences.mse import MSE, mean_squared_error
from saliency_losses.divergences.normalizer import Normalizer, create_normalizer, list_normalizers, register_normalizer
from saliency_losses.divergences.nss import NSS, mean_at_fixations
from saliency_losses.divergences.ppce import PPCE, mean_log_inside
from saliency_losses.divergences.prior import Prior
from saliency_losses.divergences.pyramid import Pyramid, pyramid_error, pyramid_level
from saliency_losses.divergences.ranking import Ranking, ranking_hinge
from saliency_losses.divergences.right_reasons import RightReasons, squared_saliency
from saliency_losses.divergences.robust import Robust, imputed
from saliency_losses.divergences.scales import L2, MAX_ABS, MINMAX, RAW, MaxAbs, MinMax, Raw, ZScore, ZScoreReLU
from saliency_losses.divergences.sim import SIM, intersection_distance
from saliency_losses.divergences.sinkhorn import Sinkhorn, sinkhorn_divergence
from saliency_losses.divergences.soft_iou import SoftIoU, jaccard_loss
from saliency_losses.divergences.ssim import SSIM
from saliency_losses.divergences.sum import Sum
from saliency_losses.divergences.threshold import best_threshold
from saliency_losses.divergences.total_variation import TotalVariation, total_variation

__all__ = [
    "BCE",
    "JS",
    "KL",
    "L2",
    "MAE",
    "MAX_ABS",
    "MINMAX",
    "MSE",
    "NSS",
    "PPCE",
    "RAW",
    "SIM",
    "SOFTMAX",
    "SSIM",
    "SUM",
    "Area",
    "AttentionL2",
    "Correlation",
    "Cosine",
    "Dice",
    "Divergence",
    "DivergenceDetails",
    "DivergenceDetailsTable",
    "Energy",
    "Entropy",
    "ForegroundBackground",
    "Gini",
    "Huber",
    "MaskedL1",
    "MaxAbs",
    "MinMax",
    "Normalizer",
    "Prior",
    "Pyramid",
    "Ranking",
    "Raw",
    "RightReasons",
    "Robust",
    "Sinkhorn",
    "SoftIoU",
    "Softmax",
    "Sum",
    "SumToOne",
    "TotalVariation",
    "ZScore",
    "ZScoreReLU",
    "absolute_saliency",
    "best_threshold",
    "cosine_similarity",
    "create_divergence",
    "create_normalizer",
    "dice_loss",
    "energy_outside",
    "gini_index",
    "imputed",
    "intersection_distance",
    "jaccard_loss",
    "jensen_shannon",
    "kullback_leibler",
    "list_divergences",
    "list_normalizers",
    "masked_mean",
    "masked_sum",
    "mean_absolute_error",
    "mean_at_fixations",
    "mean_binary_cross_entropy",
    "mean_huber",
    "mean_log_inside",
    "mean_squared_error",
    "normalized_entropy",
    "pearson",
    "pyramid_error",
    "pyramid_level",
    "ranking_hinge",
    "register_divergence",
    "register_normalizer",
    "relevance_loss",
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
        divergence  human map  of the model  of the human  sizing  spatial  smallest  axes  kernel
        kl          saliency   Softmax()     SumToOne()    area    -        1         any   yes
        mse         saliency   MinMax()      MinMax()      area    -        1         any   yes
    """
    return DivergenceDetailsTable(map(details_of, DIVERGENCES.names())) if details else DIVERGENCES.names()


register_divergence = DIVERGENCES.register
