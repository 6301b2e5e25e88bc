"""Chooses each arm's alpha on faces of the training generator: ``python -m examples.synthetic_faces.tune``.

The criterion is the mean of two AUCs on validation faces: of the faces as they are, and of the faces with
everything outside the region that annotators mark on average taken from other, authentic validation faces.
Both classes get authentic surroundings, so that what is left to decide by is what people decide by. This takes
human maps and a single generator, and knows nothing of what a fingerprint looks like or where it is.

Every arm has the same candidates and seeds. The controls take the divergence of the CAM arm that scores best.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from .arms import ARMS, CAM_ARMS, CHOSEN, TUNED, Arm, best_of
from .data import Faces, render, training_set
from .evaluate import auc, score
from .jobs import run_all
from .train import Plan, train

ALPHAS = (0.5, 0.1, 0.05, 0.02, 0.01, 0.005)
FIRST_SEED, VALIDATION_SEED = 10_000, 80_000
MARKED_MASS = 0.8


@dataclass(frozen=True)
class Candidate:
    """An arm with one alpha and one seed."""

    arm: Arm
    seed: int
    plan: Plan

    @property
    def title(self) -> str:
        """What the progress bar calls it."""
        return f"{self.arm.name}, alpha {self.arm.alpha}, seed {self.seed}"

    @property
    def steps(self) -> int:
        """Each epoch is reported."""
        return self.plan.epochs

    def run(self, report: Callable[[str], None]) -> dict[str, Any]:
        """Trains and validates."""
        faces = training_set(self.plan.images, self.seed)
        guided = train(self.arm, faces, self.seed, self.plan, report)
        authentic, fake, donors = (
            render(self.plan.test, VALIDATION_SEED + offset, is_fake)
            for offset, is_fake in ((0, False), (0, True), (1, False))
        )
        region = marked_region(faces.human)
        plain = auc(*(score(guided.model, part.images) for part in (authentic, fake)))
        moved = auc(*(score(guided.model, transplant(part, donors, region)) for part in (authentic, fake)))
        scores = {"plain": plain, "transplanted": moved, "criterion": (plain + moved) / 2}
        return {"arm": self.arm.name, "alpha": self.arm.alpha, "seed": self.seed, **scores}


def marked_region(human: Tensor) -> Tensor:
    """The smallest region (S, S) that holds most of what annotators mark in all the faces (N, S, S)."""
    average = human.mean(0)
    falling = average.flatten().sort(descending=True).values
    threshold = falling[int((falling.cumsum(0) < MARKED_MASS * falling.sum()).sum())]
    return (average >= threshold).float()


def transplant(faces: Faces, donors: Faces, region: Tensor) -> Tensor:
    """The images with everything outside ``region`` taken from the donors."""
    return torch.lerp(donors.images, faces.images, region)


def choose(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The alpha of best mean criterion for each arm, and all the scores."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(result["arm"] for result in results):
        for alpha in ALPHAS:
            found = [r for r in results if r["arm"] == name and r["alpha"] == alpha]
            means = {key: round(mean(r[key] for r in found), 4) for key in ("criterion", "plain", "transplanted")}
            scores.setdefault(name, {})[str(alpha)] = means
    best = {name: max(by_alpha, key=lambda a: by_alpha[a]["criterion"]) for name, by_alpha in scores.items()}
    return {"alpha": {name: float(alpha) for name, alpha in best.items()}, "scores": scores}


def main() -> None:
    """Tries every alpha for every arm and writes what came out best next to this file."""
    parser = argparse.ArgumentParser(prog="python -m examples.synthetic_faces.tune", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="trainings per candidate (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    options = parser.parse_args()
    console, plan = Console(), Plan()

    def candidates(arms: list[Arm]) -> list[Candidate]:
        seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
        return [Candidate(replace(arm, alpha=alpha), seed, plan) for seed in seeds for arm in arms for alpha in ALPHAS]

    guided = [ARMS[name] for name in TUNED if ARMS[name].maps == "own"]
    results = run_all(candidates(guided), options.workers, console, "guided arms")
    scores = choose(results)["scores"]
    best = max(CAM_ARMS, key=lambda name: max(s["criterion"] for s in scores[name].values()))
    controls = [best_of(name, best) for name in TUNED if ARMS[name].maps != "own"]
    results += run_all(candidates(controls), options.workers, console, f"controls, with the divergence of {best}")

    settings = {"best_cam_arm": best, "seeds": options.seeds, "candidates": list(ALPHAS), **choose(results)}
    CHOSEN.write_text(json.dumps(settings, indent=2) + "\n")
    console.print_json(data=settings)
    console.print(f"Written to {CHOSEN}")


if __name__ == "__main__":
    main()
