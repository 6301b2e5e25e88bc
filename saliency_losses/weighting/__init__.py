"""Weightings: how the task's and the saliency's terms become one loss."""

from typing import Any

from saliency_losses.weighting.additive import Additive
from saliency_losses.weighting.balanced import Balanced
from saliency_losses.weighting.base import WEIGHTINGS, Weighting
from saliency_losses.weighting.convex import Convex
from saliency_losses.weighting.dynamic import Dynamic, dynamic_shares
from saliency_losses.weighting.normalised import Normalised
from saliency_losses.weighting.samples import relative_weights
from saliency_losses.weighting.schedule import ConstantUntil, Cosine, Linear, OffUntil, Schedule
from saliency_losses.weighting.scheduled import Scheduled
from saliency_losses.weighting.uncertainty import Uncertainty

__all__ = [
    "Additive",
    "Balanced",
    "ConstantUntil",
    "Convex",
    "Cosine",
    "Dynamic",
    "Linear",
    "Normalised",
    "OffUntil",
    "Schedule",
    "Scheduled",
    "Uncertainty",
    "Weighting",
    "create_weighting",
    "dynamic_shares",
    "list_weightings",
    "register_weighting",
    "relative_weights",
]


def create_weighting(name: str, **options: Any) -> Weighting:
    """The weighting of this name.

    Raises:
        ValueError: Unknown name; the message lists the known ones and suggests the nearest.
        TypeError: The weighting does not know an option, or needs one that is missing.

    Example:
        >>> create_weighting("normalised", batches=20)
        Normalised(batches=20)
    """
    return WEIGHTINGS.create(name, **options)


def list_weightings() -> list[str]:
    """The names of all weightings, those of installed plugins included.

    Example:
        >>> list_weightings()
        ['additive', 'balanced', 'convex', 'dynamic', 'normalised', 'uncertainty']
    """
    return WEIGHTINGS.names()


register_weighting = WEIGHTINGS.register
