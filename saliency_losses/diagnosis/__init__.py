"""Is guidance working? Gradients, held-out alignment with controls, and what they mean in words."""

from saliency_losses.diagnosis.alignment import Alignment, Gain
from saliency_losses.diagnosis.gradients import Gradients, Spread
from saliency_losses.diagnosis.report import diagnose
from saliency_losses.diagnosis.result import Diagnosis
from saliency_losses.diagnosis.sweep import Sweep, sweep_weights

__all__ = ["Alignment", "Diagnosis", "Gain", "Gradients", "Spread", "Sweep", "diagnose", "sweep_weights"]
