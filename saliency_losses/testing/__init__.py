"""The contract of extractors and divergences, as checks for this package and for yours."""

from saliency_losses.testing.divergences import check_divergence
from saliency_losses.testing.extractors import check_extractor, smooth_network
from saliency_losses.testing.gradients import check_gradients

__all__ = ["check_divergence", "check_extractor", "check_gradients", "smooth_network"]
