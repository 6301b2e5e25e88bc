"""Divergences: how far a model's map is from a human's, one value per map."""

from typing import Any

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean
from saliency_losses.divergences.correlation import Correlation, pearson
from saliency_losses.divergences.kl import KL, kullback_leibler
from saliency_losses.divergences.mse import MSE, mean_squared_error
from saliency_losses.divergences.right_reasons import RightReasons, squared_saliency

__all__ = [
    "KL",
    "MSE",
    "Correlation",
    "Divergence",
    "RightReasons",
    "create_divergence",
    "kullback_leibler",
    "list_divergences",
    "masked_mean",
    "mean_squared_error",
    "pearson",
    "register_divergence",
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
        >>> list_divergences()
        ['correlation', 'kl', 'mse', 'right_reasons']
    """
    return DIVERGENCES.names()


register_divergence = DIVERGENCES.register
