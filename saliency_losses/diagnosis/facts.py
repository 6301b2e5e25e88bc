"""What a preflight can find, piece by piece."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "GradientNorms", "Reached", "Severity", "StepCost"]

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to know before training.

    Attributes:
        severity: ``"error"`` where guidance fails or trains nothing, ``"warning"`` where it is probably not what was
            meant, ``"note"`` where it is good to know.
        code: A short name that stays the same between versions.
        message: What was found.
        remedy: What to do.
    """

    severity: Severity
    code: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Reached:
    """Which trainable parameters of the model get a gradient from the saliency loss alone.

    Attributes:
        names: Of those that do.
        missed: Of those that do not.
        share: Of the trainable values, in [0, 1].
    """

    names: tuple[str, ...]
    missed: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class GradientNorms:
    """The gradients of both terms, over the parameters that both reach, weighted as they enter the loss.

    Attributes:
        task: Norm of the task's.
        saliency: Norm of the saliency's.
    """

    task: float
    saliency: float

    @property
    def ratio(self) -> float:
        """Saliency over task; NaN where the task's is zero."""
        return self.saliency / self.task if self.task else float("nan")


@dataclass(frozen=True)
class StepCost:
    """What a step costs without and with guidance: forward and backward pass, no optimizer.

    Attributes:
        plain_seconds: Of the task alone, median.
        guided_seconds: Of the guided loss, median.
        plain_bytes: On CUDA the most memory allocated during the step, elsewhere what is saved for the backward pass;
            parameters are not counted.
        guided_bytes: The same of the guided loss.
    """

    plain_seconds: float
    guided_seconds: float
    plain_bytes: int
    guided_bytes: int

    @property
    def time_ratio(self) -> float:
        """Guided over plain."""
        return self.guided_seconds / self.plain_seconds

    @property
    def memory_ratio(self) -> float:
        """Guided over plain; NaN where the plain step saves nothing."""
        return self.guided_bytes / self.plain_bytes if self.plain_bytes else float("nan")
