"""How much and how a network is trained: the same for every arm; one YAML file each in ``presets/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .settings import changed, find, read

FOLDER = Path(__file__).with_name("presets")


@dataclass(frozen=True)
class Plan:
    """Hyper-parameters.

    Attributes:
        network: Name of the architecture, see :mod:`.networks`.
        feature_tap: "pooled", the tensor that is pooled, or "official", what CYBORG's published code taps.
        pretrained: Path of a file of weights, or None.
        images: Rendered training images, half of them authentic.
        validation: Rendered validation images.
        test: Rendered test faces of each class and generator.
        epochs: At most.
        batch: Global batch size, over all processes.
        optimizer: "adamw" or "sgd".
        rate: Learning rate, the highest of the one-cycle schedule.
        momentum: Of SGD.
        weight_decay: Of both.
        schedule: "one_cycle", or "steps": the rate times ``step_factor`` every ``step_epochs`` epochs.
        step_epochs: See ``schedule``.
        step_factor: See ``schedule``.
        keep: Which epoch's weights are tested: the "last", or the "best" by validation accuracy, of equals the last.
        patience: Epochs without a better validation accuracy after which training stops; None: never.
        precision: "float32", "float64", "bfloat16" or "float16"; the last two by autocast.
        compiled: Whether the network is compiled.
        workers: Processes that load images, for data that lies in files.
    """

    network: str = "small"
    feature_tap: Literal["pooled", "official"] = "pooled"
    pretrained: str | None = None
    images: int = 2400
    validation: int = 600
    test: int = 300
    epochs: int = 8
    batch: int = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 6e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: Literal["one_cycle", "steps"] = "one_cycle"
    step_epochs: int = 12
    step_factor: float = 0.1
    keep: Literal["last", "best"] = "last"
    patience: int | None = None
    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    compiled: bool = False
    workers: int = 0


def load(name: str) -> Plan:
    """The preset of that name, or of that YAML file.

    Raises:
        ValueError: There is no such preset, or its file holds something else; the message says what.
    """
    return changed(Plan(), read(find(FOLDER, name, "preset")))
