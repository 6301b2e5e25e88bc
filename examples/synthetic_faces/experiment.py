"""One training with its evaluation, and the gate that a comparison of arms has to pass first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

from .arms import Arm
from .data import SIZE, Faces, HeldOut, render, training_set
from .evaluate import evaluate, explain
from .generators import TRAINING
from .train import Plan, train

LEARNABLE, PREFERRED = 0.90, 0.75
GALLERY_SEED, GALLERY_SIZE = 95_006, 192


@dataclass(frozen=True)
class Trial:
    """An arm, a seed, and whether the training generator leaves its fingerprint."""

    arm: Arm
    seed: int
    plan: Plan
    fingerprint: bool = True

    @property
    def title(self) -> str:
        """What the progress bar calls it."""
        return f"{self.arm.name}{'' if self.fingerprint else ' without fingerprint'}, seed {self.seed}"

    @property
    def steps(self) -> int:
        """Each epoch is reported."""
        return self.plan.epochs

    def run(self, report: Callable[[str], None]) -> dict[str, Any]:
        """Trains and measures; the maps are for the pictures."""
        faces = training_set(self.plan.images, self.seed, TRAINING if self.fingerprint else None)
        guided = train(self.arm, faces, self.seed, self.plan, report)
        test = HeldOut.render(self.plan.test)
        metrics, generators = evaluate(guided, test)
        classes = (test.authentic, test.fakes["fingerprint and defect"])
        return {
            "arm": self.arm.name,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "metrics": metrics,
            "auc_by_generator": generators,
            "gallery_maps": explain(guided, gallery()).numpy(),
            "average_maps": [explain(guided, faces).mean(0).numpy() for faces in classes],
        }


def gallery(size: int = SIZE) -> Faces:
    """The faces in the pictures: fakes of the training generator, then authentic ones."""
    return render(3, GALLERY_SEED, fake=True, size=size) + render(2, GALLERY_SEED, fake=False, size=size)


@dataclass(frozen=True)
class Gate:
    """Whether the set-up can tell anything: the visible cue is learnable, and the shortcut preferred."""

    without_fingerprint: float
    with_fingerprint: float

    @classmethod
    def of(cls, results: list[dict[str, Any]]) -> Gate:
        """Averages the AUC on unseen generators of cross-entropy over seeds, without and with fingerprint."""
        plain = [result for result in results if result["arm"] == "cross_entropy"]
        auc = {
            printed: mean(r["metrics"]["auc_unseen"] for r in plain if r["fingerprint"] == printed)
            for printed in (False, True)
        }
        return cls(auc[False], auc[True])

    @property
    def passed(self) -> bool:
        """Whether arms may be compared."""
        return self.without_fingerprint >= LEARNABLE and self.with_fingerprint <= PREFERRED

    @property
    def lines(self) -> list[str]:
        """The gate in words."""

        def verdict(passed: bool) -> str:
            return "passed" if passed else "FAILED"

        without, printed = self.without_fingerprint, self.with_fingerprint
        return [
            f"Visible cue learnable: cross-entropy trained without fingerprint reaches {without:.3f} AUC on "
            f"unseen generators (at least {LEARNABLE:.2f}): {verdict(without >= LEARNABLE)}.",
            f"Shortcut preferred: cross-entropy trained with fingerprint reaches {printed:.3f} "
            f"(at most {PREFERRED:.2f}): {verdict(printed <= PREFERRED)}.",
        ]
