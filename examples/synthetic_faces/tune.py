"""Chooses each arm's weight on faces of the training generator: ``python -m examples.synthetic_faces.tune``.

The criterion is the mean of two AUCs on validation faces: of the faces as they are, and of the faces with
everything outside the region that annotators mark on average taken from other, authentic validation faces.
Both classes get authentic surroundings, so that what is left to decide by is what people decide by. This takes
human maps and a single generator, and knows nothing of what a fingerprint looks like or where it is.

Every arm has the same number of candidates and the same seeds.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from . import arm as arms
from . import plan as plans
from .evaluate import auc, score
from .jobs import run_all, succeeded
from .rendered import Faces, generators, render
from .sources import RenderedSource
from .train import train
from .trial import Trial

CHOSEN = Path(__file__).with_name("tuning.json")
CANDIDATES: dict[str, tuple[float, ...]] = {
    "alpha": (0.1, 0.05, 0.02, 0.01, 0.005),
    "saliency_weight": (10.0, 20.0, 50.0, 100.0, 200.0),
    "background_blur": (0.02, 0.04, 0.08, 0.16, 0.32),
    "head_weight": (1.0, 3.0, 10.0, 30.0, 100.0),
}
UNTUNED = ("cross_entropy", "cross_entropy_7x", "cyborg_2023")
FIRST_SEED, VALIDATION_SEED = 10_000, 85_000
MARKED_MASS = 0.8


@dataclass(frozen=True)
class Candidate:
    """An arm with one value of what is tuned, and one seed."""

    trial: Trial
    source: RenderedSource
    name: str
    tuned: str
    value: float

    @property
    def title(self) -> str:
        """What the progress bar calls it."""
        return f"{self.name}, {self.tuned} {self.value}, seed {self.trial.seed}"

    @property
    def steps(self) -> int:
        """Each epoch is reported."""
        return self.trial.plan.epochs

    def run(self, report: Callable[[str], None]) -> dict[str, Any]:
        """Trains and validates."""
        with TemporaryDirectory() as folder:
            model = train(self.trial, self.source, Path(folder), report=report).guided.model
        count = self.trial.plan.test
        authentic, donors = (render(count, VALIDATION_SEED + offset, False) for offset in (0, 1))
        fake = render(count, VALIDATION_SEED, True, generators.TRAINING)
        region = marked_region(torch.cat([authentic.human, fake.human]))
        plain = auc(*(score(model, part.images).numpy() for part in (authentic, fake)))
        moved = auc(*(score(model, transplant(part, donors, region)).numpy() for part in (authentic, fake)))
        scores = {"plain": plain, "transplanted": moved, "criterion": (plain + moved) / 2}
        return {"arm": self.name, "tuned": self.tuned, "value": self.value, "seed": self.trial.seed, **scores}


def marked_region(human: Tensor) -> Tensor:
    """The smallest region (S, S) that holds most of what annotators mark in all the faces (N, S, S)."""
    average = human.mean(0)
    falling = average.flatten().sort(descending=True).values
    threshold = falling[int((falling.cumsum(0) < MARKED_MASS * falling.sum()).sum())]
    return (average >= threshold).float()


def transplant(faces: Faces, donors: Faces, region: Tensor) -> Tensor:
    """The images with everything outside ``region`` taken from the donors."""
    return torch.lerp(donors.images, faces.images, region)


def tuned_setting(arm: arms.Arm) -> str:
    """The one number of an arm that is tuned."""
    return next(name for name in CANDIDATES if getattr(arm, name))


def choose(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The value of best mean criterion for each arm, and all the scores."""
    chosen: dict[str, Any] = {}
    for name in dict.fromkeys(result["arm"] for result in results):
        found = [result for result in results if result["arm"] == name]
        tuned = found[0]["tuned"]
        scores = {
            str(value): {
                key: round(mean(r[key] for r in found if r["value"] == value), 4)
                for key in ("criterion", "plain", "transplanted")
            }
            for value in CANDIDATES[tuned]
        }
        best = max(scores, key=lambda value: scores[value]["criterion"])
        chosen[name] = {"tuned": tuned, "best": float(best), "scores": scores}
    return chosen


def write_back(name: str, tuned: str, value: float) -> None:
    """Puts the value into the arm's YAML file."""
    path = arms.FOLDER / f"{name}.yaml"
    text, count = re.subn(rf"^{tuned}: .*$", f"{tuned}: {value}", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{path} has {count} lines with {tuned}:, expected one")
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Tries every candidate for every arm and writes what came out best into the arms' files."""
    tunable = [name for name in arms.names() if name not in UNTUNED]
    parser = argparse.ArgumentParser(prog="python -m examples.synthetic_faces.tune", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="trainings per candidate (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="one thread each (default: %(default)s)")
    options = parser.parse_args()
    console, plan = Console(), plans.load("small")
    source = RenderedSource(plan.images, plan.validation, plan.test)
    candidates = [
        Candidate(
            Trial(arms.change(arm, {tuned_setting(arm): value}), plan, seed), source, name, tuned_setting(arm), value
        )
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds)
        for name, arm in ((name, arms.load(name)) for name in tunable)
        for value in CANDIDATES[tuned_setting(arm)]
    ]
    chosen = choose(succeeded(run_all(candidates, options.processes, console, "candidates")))
    CHOSEN.write_text(json.dumps({"seeds": options.seeds, "arms": chosen}, indent=1) + "\n", encoding="utf-8")
    for name, found in chosen.items():
        write_back(name, found["tuned"], found["best"])
        console.print(f"{name}: {found['tuned']} {found['best']} (criterion {found['scores'][str(found['best'])]})")
    console.print(f"Written to {CHOSEN} and the arms' files")


if __name__ == "__main__":
    main()
