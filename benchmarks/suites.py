"""The suites by name."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks import divergences, scaling, step
from benchmarks.schema import Copy, ParityRow, SuiteName
from benchmarks.settings import Budget, Settings
from benchmarks.timing import Timer

__all__ = ["SUITES", "Suite"]


class Suite(NamedTuple):
    """What makes a suite.

    Attributes:
        parity: What must agree before anything is timed.
        measure: The rows, one after the other.
        table: Rows as text.
        share: Of a run's time.
    """

    parity: Callable[[Settings, Budget], list[ParityRow]]
    measure: Callable[[Settings, Budget, Timer, Copy], Iterator[Any]]
    table: Callable[[Sequence[Any]], str]
    share: float


SUITES: dict[SuiteName, Suite] = {
    "divergences": Suite(divergences.parity, divergences.measure, divergences.table, share=0.7),
    "step": Suite(step.parity, step.measure, step.table, share=0.2),
    "scaling": Suite(scaling.parity, scaling.measure, scaling.table, share=0.1),
}
