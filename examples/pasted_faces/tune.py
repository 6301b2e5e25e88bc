"""Chooses each arm's alpha on validation patches: ``python -m examples.pasted_faces.tune``.

Validation scenes have the textures that training has, so none of the test's combinations of label and texture occurs.
The criterion is the mean of two accuracies: on these scenes, and on the same scenes with what people marked moved to
where they marked a scene of the other class. This takes human maps, and knows nothing of textures. Every arm has the
same candidates and seeds.
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

from examples.synthetic_faces.jobs import run_all, succeeded

from .arms import ARMS, CHOSEN, TUNED, Arm
from .data import Scenes, transplant
from .evaluate import answers, held_out
from .train import Plan, train

ALPHAS = (0.9, 0.5, 0.1, 0.05, 0.02, 0.01)
FIRST_SEED, VALIDATION_SEED = 10_000, 80_000
SCORES = ("criterion", "plain", "moved")


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
        guided = train(self.arm, self.seed, self.plan, report)
        scenes, _ = held_out("validation", self.plan.renders, self.seed, VALIDATION_SEED)
        images = (scenes.images, transplant(scenes, opposite(scenes)))
        plain, moved = (float((answers(guided.model, part) == scenes.targets).float().mean()) for part in images)
        scores = dict(zip(SCORES, ((plain + moved) / 2, plain, moved), strict=True))
        return {"arm": self.arm.name, "alpha": self.arm.alpha, "seed": self.seed, **scores}


def opposite(scenes: Scenes) -> Scenes:
    """For each scene, one of the other class."""
    partners = torch.empty_like(scenes.targets)
    faces, others = (scenes.targets.eq(label).nonzero().flatten() for label in (1, 0))
    partners[faces], partners[others] = others, faces
    return Scenes(*(values[partners] for values in scenes))


def choose(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The alpha of best mean criterion for each arm, and all the scores."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for result in results:
        same = [r for r in results if (r["arm"], r["alpha"]) == (result["arm"], result["alpha"])]
        means = {key: round(mean(r[key] for r in same), 4) for key in SCORES}
        scores.setdefault(result["arm"], {})[str(result["alpha"])] = means
    best = {name: max(by_alpha, key=lambda a: by_alpha[a]["criterion"]) for name, by_alpha in scores.items()}
    return {"alpha": {name: float(alpha) for name, alpha in best.items()}, "scores": scores}


def main() -> None:
    """Tries every alpha for every arm with a saliency loss, and writes what came out best next to this file."""
    parser = argparse.ArgumentParser(prog="python -m examples.pasted_faces.tune", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="trainings per candidate (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    options = parser.parse_args()
    console = Console()
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    candidates = [
        Candidate(replace(ARMS[name], alpha=alpha), seed, Plan())
        for seed in seeds
        for name in TUNED
        for alpha in ALPHAS
    ]
    settings = {"seeds": options.seeds, **choose(succeeded(run_all(candidates, options.workers, console, "tuning")))}
    CHOSEN.write_text(json.dumps(settings, indent=2) + "\n")
    console.print_json(data=settings["alpha"])
    console.print(f"Written to {CHOSEN}")


if __name__ == "__main__":
    main()
