"""One training with its evaluation, and the gate that a comparison of arms has to pass first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch

from .arms import Arm
from .data import Scenes, paste, split_patches, swapped, tied
from .evaluate import answers, evaluate, explain
from .train import Plan, train

LEARNABLE, PREFERRED = 0.85, 0.50
GALLERY_SEED = 95_004


@dataclass(frozen=True)
class Trial:
    """An arm and a seed."""

    arm: Arm
    seed: int
    plan: Plan

    @property
    def title(self) -> str:
        """What the progress bar calls it."""
        return f"{self.arm.name}, seed {self.seed}"

    @property
    def steps(self) -> int:
        """Each epoch is reported."""
        return self.plan.epochs

    def run(self, report: Callable[[str], None]) -> dict[str, Any]:
        """Trains and measures; what it says of the gallery is for the picture."""
        guided = train(self.arm, self.seed, self.plan, report)
        metrics, patches = evaluate(guided, self.seed, self.plan.renders)
        scenes = gallery(self.seed)
        return {
            "arm": self.arm.name,
            "seed": self.seed,
            "metrics": metrics,
            "patches": patches,
            "gallery": (explain(guided, scenes).numpy(), answers(guided.model, scenes.images).tolist()),
        }


def gallery(seed: int) -> Scenes:
    """The test scenes in the picture: two faces and two others, each as in training and with the texture swapped."""
    pool = split_patches("test")
    patches = pool[[0, 1, len(pool) // 2 + 2, len(pool) // 2 + 4]]
    parts = (paste(patches, how(patches, seed), "test", GALLERY_SEED) for how in (tied, swapped))
    return Scenes(*(torch.stack(pair, 1).flatten(0, 1) for pair in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Gate:
    """Whether the set-up can tell anything: the patch is learnable, and the texture preferred.

    Attributes:
        mixed: Mean worst-group accuracy of cross-entropy that trained with random textures.
        tied: The same of cross-entropy that trained with textures that go with the label.
    """

    mixed: float
    tied: float

    @classmethod
    def of(cls, results: list[dict[str, Any]]) -> Gate:
        """Averages over seeds."""
        names = ("mixed", "cross_entropy")
        worst = [mean(r["metrics"]["worst_group"] for r in results if r["arm"] == name) for name in names]
        return cls(*worst)

    @property
    def passed(self) -> bool:
        """Whether arms may be compared."""
        return self.mixed >= LEARNABLE and self.tied <= PREFERRED

    @property
    def lines(self) -> list[str]:
        """The gate in words."""
        verdicts = ["passed" if good else "FAILED" for good in (self.mixed >= LEARNABLE, self.tied <= PREFERRED)]
        return [
            f"Patch learnable: cross-entropy trained with random textures reaches {self.mixed:.3f} in the worst group "
            f"(at least {LEARNABLE:.2f}): {verdicts[0]}.",
            f"Texture preferred: cross-entropy trained with textures that go with the label reaches {self.tied:.3f} "
            f"(at most {PREFERRED:.2f}): {verdicts[1]}.",
        ]
