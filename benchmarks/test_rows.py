"""The quick rows of the suites under pytest-benchmark, to compare two states of the code.

``pytest benchmarks --benchmark-save=before``, then ``pytest benchmarks --benchmark-compare``. On a GPU, a call returns
when the device has finished.
"""

from typing import Any

import pytest
import torch

from benchmarks.grid import Case, cases
from benchmarks.parity import DTYPES
from benchmarks.scaling import Axis, axes
from benchmarks.settings import Settings
from benchmarks.step import load, networks
from benchmarks.timing import Work
from benchmarks.traffic import Direction
from benchmarks.training import steps, train
from benchmarks.variants import draw, make, work

SETTINGS = Settings(device="cuda" if torch.cuda.is_available() else "cpu", quick=True, rounds=20, peers=False)
torch.set_num_threads(SETTINGS.threads)
NETWORK = networks(SETTINGS)[0]
PASSES = [
    (case, name, direction) for case in cases(SETTINGS) for name in case.variants for direction in case.directions
]
STEPS = [step.name for step in steps(load(NETWORK, SETTINGS.device), peers=False)]
POINTS = [(axis, name, point) for axis in axes(SETTINGS) for name in axis.makers for point in axis.points]


def measure(benchmark: Any, one: Work) -> None:
    """Time what runs, without what prepares it."""

    def run(state: object) -> None:
        one.run(state)
        if SETTINGS.device == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(run, setup=lambda: ((one.prepare(),), {}), rounds=SETTINGS.rounds, warmup_rounds=3)


@pytest.mark.parametrize(("case", "variant", "direction"), PASSES, ids=str)
def test_divergence(benchmark: Any, case: Case, variant: str, direction: Direction) -> None:
    """One pass over one batch of maps."""
    torch.compiler.reset()
    maps = draw(case.batch, case.size, DTYPES[case.dtype], SETTINGS.device, human_size=case.human_size)
    measure(benchmark, work(make(case.name, variant), maps, direction))


@pytest.mark.parametrize("name", STEPS)
def test_step(benchmark: Any, name: str) -> None:
    """One training step."""
    data = load(NETWORK, SETTINGS.device)
    (step,) = (step for step in steps(data, peers=False) if step.name == name)
    measure(benchmark, train(step.loss, torch.optim.SGD(data.model.parameters(), lr=1e-4, momentum=0.9)))


@pytest.mark.parametrize(("axis", "name", "point"), POINTS, ids=lambda value: getattr(value, "name", str(value)))
def test_scaling(benchmark: Any, axis: Axis, name: str, point: int) -> None:
    """One point of one axis."""
    measure(benchmark, axis.makers[name](point))
