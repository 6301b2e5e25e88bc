"""Trying a guided step before training: what would go wrong, and what it would cost."""

from saliency_losses.diagnosis.examine import preflight
from saliency_losses.diagnosis.facts import Finding, GradientNorms, Reached, StepCost
from saliency_losses.diagnosis.report import Preflight

__all__ = ["Finding", "GradientNorms", "Preflight", "Reached", "StepCost", "preflight"]
