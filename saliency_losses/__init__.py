"""Train networks to look where people look: saliency-guided losses for PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

from saliency_losses import divergences, extractors, maps, testing, weighting
from saliency_losses.checks import Preflight, preflight
from saliency_losses.diagnosis import Diagnosis, diagnose, sweep_weights
from saliency_losses.divergences import Divergence, create_divergence, list_divergences, register_divergence
from saliency_losses.extractors import (
    Explanation,
    SaliencyExtractor,
    create_extractor,
    list_extractors,
    list_layers,
    register_extractor,
)
from saliency_losses.guided import LossOutput, SaliencyGuidedLoss
from saliency_losses.weighting import Weighting, create_weighting, list_weightings, register_weighting

if TYPE_CHECKING:
    from saliency_losses import data, metrics, viz

__version__ = "0.1.0"

__all__ = [
    "Diagnosis",
    "Divergence",
    "Explanation",
    "LossOutput",
    "Preflight",
    "SaliencyExtractor",
    "SaliencyGuidedLoss",
    "Weighting",
    "create_divergence",
    "create_extractor",
    "create_weighting",
    "data",
    "diagnose",
    "divergences",
    "extractors",
    "list_divergences",
    "list_extractors",
    "list_layers",
    "list_weightings",
    "maps",
    "metrics",
    "preflight",
    "register_divergence",
    "register_extractor",
    "register_weighting",
    "sweep_weights",
    "testing",
    "viz",
    "weighting",
]


def __getattr__(name: str) -> Any:
    """Imports the packages that no training step needs when they are first used."""
    if name in ("data", "metrics", "viz"):
        return importlib.import_module(f"saliency_losses.{name}")
    raise AttributeError(f"module 'saliency_losses' has no attribute {name!r}")
