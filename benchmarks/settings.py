"""What a run was asked for, and how much of its time is left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.schema import LeftOut
from benchmarks.timing import CPUTimer, CUDATimer, Timer

__all__ = ["Budget", "Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, on what, how often.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        quick: Whether a few small rows are enough.
        rounds: In which all variants of a row take turns.
        threads: Of the CPU.
        peers: Whether other packages are timed where they are installed.
        minutes: After which no row is started; none by default.
    """

    device: str = "cpu"
    quick: bool = False
    rounds: int = 9
    threads: int = 1
    peers: bool = True
    minutes: float | None = None

    def timer(self) -> Timer:
        """The timer of the device."""
        return CUDATimer() if self.device == "cuda" else CPUTimer()

    def as_dict(self) -> dict[str, Any]:
        """What a result file keeps."""
        return asdict(self)


@dataclass(kw_only=True)
class Budget:
    """Time that is left, and the rows that are left out.

    Attributes:
        deadline: By ``time.monotonic``.
        left_out: What was not measured, and why.
    """

    deadline: float = float("inf")
    left_out: list[LeftOut] = field(default_factory=list)

    def starts(self, row: str) -> bool:
        """Whether there is time for a row; if not, it is noted as left out."""
        late = time.monotonic() > self.deadline
        if late:
            self.leave_out(row, "the time was up")
        return not late

    def leave_out(self, row: str, reason: str) -> None:
        """Note that a row is not measured."""
        self.left_out.append({"row": row, "reason": reason})

    @contextmanager
    def leaving_out(self, row: str, *errors: type[Exception]) -> Iterator[None]:
        """Note that a row is not measured, and why, where one of these errors says so."""
        try:
            yield
        except errors as error:
            self.leave_out(row, f"{type(error).__name__}: {error}".splitlines()[0])
