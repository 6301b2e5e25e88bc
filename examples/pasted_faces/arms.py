"""The arms of the comparison: what each network is trained with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import saliency_losses as sl

CHOSEN = Path(__file__).with_name("chosen.json")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: What the results call it.
        title: What tables and pictures call it.
        extractor: None for cross-entropy alone.
        divergence: Name of the divergence.
        maps: Which human maps it sees: its "own", those "shuffled" among all scenes, or a "uniform" one.
        scenes: Textures "tied" to the label or "mixed", or what people marked "moved" on other scenes in each batch.
        alpha: Weight of the task in the loss; the rest is the map's.
    """

    name: str
    title: str
    extractor: Literal["cam", "grad_cam"] | None = None
    divergence: str = "mse"
    maps: Literal["own", "shuffled", "uniform"] = "own"
    scenes: Literal["tied", "mixed", "moved"] = "tied"
    alpha: float = 1.0

    def build_extractor(self) -> sl.SaliencyExtractor:
        """CAM, or Grad-CAM at the last convolution with its published ReLU (without it, it is CAM times a number)."""
        return sl.extractors.GradCAM(relu=True) if self.extractor == "grad_cam" else sl.extractors.CAM()


_ARMS = (
    Arm("cross_entropy", "cross-entropy"),
    Arm("cyborg", "CYBORG: CAM, MSE", "cam", "mse"),
    Arm("cam_correlation", "CAM, correlation", "cam", "correlation"),
    Arm("grad_cam", "Grad-CAM, correlation", "grad_cam", "correlation"),
    Arm("right_reasons", "CAM, right reasons", "cam", "right_reasons"),
    Arm("shuffled", "control: other scenes' maps, correlation", "cam", "correlation", maps="shuffled"),
    Arm("shuffled_mse", "control: other scenes' maps, MSE", "cam", "mse", maps="shuffled"),
    Arm("uniform", "control: uniform map, MSE", "cam", "mse", maps="uniform"),
    Arm("moved", "no saliency loss: marked regions moved", scenes="moved"),
    Arm("mixed", "reference: textures random in training", scenes="mixed"),
)
ARMS = {arm.name: arm for arm in _ARMS}
TUNED = tuple(arm.name for arm in _ARMS if arm.extractor)


def chosen() -> dict[str, Any]:
    """What ``python -m examples.pasted_faces.tune`` chose, and the scores it chose by."""
    settings: dict[str, Any] = json.loads(CHOSEN.read_text())
    return settings


def load() -> list[Arm]:
    """All arms with their chosen settings."""
    alphas = chosen()["alpha"]
    return [replace(arm, alpha=alphas.get(arm.name, 1.0)) for arm in _ARMS]
