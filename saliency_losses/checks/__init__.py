"""Trying a guided step before training: what would go wrong, and what it would cost."""

from saliency_losses.checks.examine import preflight
from saliency_losses.checks.facts import Finding, GradientNorms, Reached, StepCost
from saliency_losses.checks.report import Preflight

__all__ = ["Finding", "GradientNorms", "Preflight", "Reached", "StepCost", "preflight"]
