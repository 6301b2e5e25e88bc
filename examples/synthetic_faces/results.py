"""What a finished training leaves behind: ``result.json`` and ``arrays.npz`` in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import write

Array = NDArray[Any]
KINDS = ("scores", "maps")


@dataclass(frozen=True)
class Result:
    """One training and its evaluation.

    Attributes:
        arm: The arm's name.
        title: The arm's title.
        network: The architecture.
        seed: Of the training.
        settings: The arm, the plan and the data, as they were written down when training began.
        metrics: Numbers by name: "auc_unseen" (mean over generators), "auc/<group>", and where there are paired renders
            "auc_fingerprint_free", "flip_rate_<removed>", "logit_change_<removed>" (removed: fingerprint, defect);
            where there are maps "alignment", "alignment_shuffled", "alignment_occlusion",
            "alignment_occlusion_shuffled".
        epochs: One dictionary per epoch: "epoch", "loss", "task_loss", "saliency_loss", "train_accuracy",
            "validation_accuracy", "seconds".
        scores: How fake each test image is to the network, (n,) by group, see
            :meth:`~.sources.base.Source.tests`; the decision's threshold is zero. The same position in "training/..."
            and "paired/..." is the same face.
        maps: Average raw maps of the true class, (h, w) by "average/authentic" and "average/synthetic"; the human ones
            by "human/authentic" and "human/synthetic"; "gallery/<group>": maps (n, h, w) of the group's first images.
        seconds: How long training and evaluation took.
    """

    arm: str
    title: str
    network: str
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, float]
    epochs: list[dict[str, float]]
    scores: dict[str, Array] = field(repr=False)
    maps: dict[str, Array] = field(repr=False)
    seconds: float = 0.0

    def save(self, folder: Path) -> None:
        """Writes both files; ``result.json`` last and at once, so that where it exists all is there."""
        arrays = {f"{kind}/{key}": value for kind in KINDS for key, value in getattr(self, kind).items()}
        plain = {key: value for key, value in vars(self).items() if key not in KINDS}
        text = json.dumps(plain, indent=1) + "\n"
        write(folder / "arrays.npz", lambda file: np.savez_compressed(file, **arrays))
        write(folder / "result.json", lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Reads what :meth:`save` wrote."""
        plain = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
            named = [(key.partition("/"), stored[key]) for key in stored.files]
        arrays: dict[str, Any] = {kind: {key: a for (k, _, key), a in named if k == kind} for kind in KINDS}
        return cls(**plain, **arrays)
