"""The arms of the experiment: what each network is trained with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import saliency_losses as sl

CHOSEN = Path(__file__).with_name("chosen.json")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: What the command line and the results call it.
        title: What tables and pictures call it.
        extractor: "cam", "grad_cam", or None for plain cross-entropy.
        divergence: Name of the divergence; None in a control stands for that of the best CAM arm.
        maps: Which human maps it sees: its "own", those "shuffled" within the class, or the "class_mean".
        alpha: Weight of the task in the loss; the rest is the map's.
    """

    name: str
    title: str
    extractor: str | None = None
    divergence: str | None = None
    maps: str = "own"
    alpha: float = 1.0

    def build_extractor(self) -> sl.SaliencyExtractor:
        """CAM, or Grad-CAM at the last convolution with its published ReLU.

        Without the ReLU, Grad-CAM would here be CAM times a number.
        """
        return sl.extractors.GradCAM(relu=True) if self.extractor == "grad_cam" else sl.extractors.CAM()


_ARMS = (
    Arm("cross_entropy", "cross-entropy"),
    Arm("cyborg", "CYBORG: CAM, MSE", "cam", "mse"),
    Arm("cam_kl", "CAM, KL", "cam", "kl"),
    Arm("cam_correlation", "CAM, correlation", "cam", "correlation"),
    Arm("grad_cam", "Grad-CAM, correlation", "grad_cam", "correlation"),
    Arm("shuffled", "control: shuffled maps", "cam", maps="shuffled"),
    Arm("class_mean", "control: class-mean maps", "cam", maps="class_mean"),
)
ARMS = {arm.name: arm for arm in _ARMS}
CAM_ARMS = ("cyborg", "cam_kl", "cam_correlation")
TUNED = tuple(arm.name for arm in _ARMS if arm.extractor)


def best_of(name: str, best_cam_arm: str) -> Arm:
    """The arm, with the best CAM arm's divergence where it is a control."""
    arm = ARMS[name]
    return replace(arm, divergence=ARMS[best_cam_arm].divergence) if arm.maps != "own" else arm


def chosen() -> dict[str, Any]:
    """What ``python -m examples.synthetic_faces.tune`` chose, and the scores it chose by."""
    settings: dict[str, Any] = json.loads(CHOSEN.read_text())
    return settings


def load(names: list[str]) -> list[Arm]:
    """The named arms with their chosen settings.

    Raises:
        ValueError: There is no arm of that name; the message lists those that exist.
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise ValueError(f"unknown arm {', '.join(map(repr, unknown))}; choose from {', '.join(ARMS)}")
    settings = chosen()
    alphas = {"cross_entropy": 1.0, **settings["alpha"]}
    return [replace(best_of(name, settings["best_cam_arm"]), alpha=alphas[name]) for name in names]
