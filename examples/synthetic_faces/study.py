"""A study: trainings, each in a folder of its own, that are finished or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import distributed, networks
from .claim import claimed
from .evaluate import evaluate
from .results import Result
from .sources import Source
from .train import Trained, train
from .trial import Trial


@dataclass(frozen=True)
class Training:
    """A trial on a source, within the folder of a study."""

    trial: Trial
    source: Source
    study: Path

    @property
    def folder(self) -> Path:
        """Where all of it is kept."""
        trial = self.trial
        return self.study / self.source.label / trial.arm.name / trial.plan.network / f"seed-{trial.seed}"

    @property
    def title(self) -> str:
        """What progress bars call it."""
        return f"{self.trial.arm.name}, {self.source.label}, seed {self.trial.seed}"

    @property
    def steps(self) -> int:
        """Each epoch is reported."""
        return self.trial.plan.epochs

    @property
    def finished(self) -> bool:
        """Whether its result is there.

        Raises:
            ValueError: It is there, but with other settings.
        """
        if not (self.folder / "result.json").exists():
            return False
        differing = _differing(Result.load(self.folder).settings, self.trial.settings(self.source))
        if differing:
            raise ValueError(
                f"{self.folder} holds a training with other settings ({', '.join(differing)}); choose another "
                "--output, or remove that folder"
            )
        return True

    def run(self, report: Callable[[str], None]) -> Path | None:
        """Trains, going on where a former run was interrupted, and measures, under ``torchrun`` in the first process.

        Returns:
            The folder; None in the other processes.

        Raises:
            Busy: Another process is at it.
        """
        start = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with distributed.joined():
                first = distributed.rank() == 0
                if first:
                    held.enter_context(claimed(self.folder))
                done = distributed.from_first(lambda: self.finished)
                trained = None if done else train(self.trial, self.source, self.folder, report=report)
            if first and trained is not None:
                self._measure(trained, start)
        return self.folder if first else None

    def _measure(self, trained: Trained, start: float) -> None:
        arm, plan = self.trial.arm, self.trial.plan
        compared = networks.explained(arm, plan).guide(trained.guided.model)
        metrics, scores, maps = evaluate(compared, self.source)
        settings = self.trial.settings(self.source)
        seconds = time.perf_counter() - start
        Result(
            arm.name, arm.title, plan.network, self.trial.seed, settings, metrics, trained.epochs, scores, maps, seconds
        ).save(self.folder)


def _differing(found: object, wanted: object, path: str = "") -> list[str]:
    """The settings, by dotted name, in which two of them differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = dict.fromkeys([*found, *wanted])
        return [name for key in keys for name in _differing(found.get(key), wanted.get(key), f"{path}{key}.")]
    return [] if found == wanted else [f"{path[:-1]}: {found!r} there, {wanted!r} here"]


def load_results(study: Path) -> list[Result]:
    """The results of all finished trainings in the folder of a study."""
    return [Result.load(path.parent) for path in sorted(study.rglob("result.json"))]
