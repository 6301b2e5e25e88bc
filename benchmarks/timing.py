"""Timers of one interface, and rounds in which all variants take turns."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch

from benchmarks.schema import Spread, Times

__all__ = [
    "CPUTimer",
    "CUDATimer",
    "Sample",
    "Timer",
    "Work",
    "decisive",
    "graphed",
    "interleave",
    "ratio",
    "spread",
    "times",
]

_LEAST = 5e-3  # seconds that a variant takes in a round: shorter calls are repeated


class Work(NamedTuple):
    """What is timed, ``run``, and what comes before it and is not, ``prepare``, which gives the argument of ``run``."""

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None


class Sample(NamedTuple):
    """Seconds by the host's clock, until the host may go on, and between events on the device."""

    wall: float
    host: float | None = None
    device: float | None = None


class Timer(Protocol):
    """Times one call.

    Attributes:
        most: How often a short call is repeated in a round at most.
    """

    most: int

    def sample(self, work: Work) -> Sample:
        """The times of one call."""


class CPUTimer:
    """The host's clock around the call."""

    most = 50

    def sample(self, work: Work) -> Sample:
        """See :class:`Timer`."""
        state = work.prepare()
        start = time.perf_counter()
        work.run(state)
        return Sample(time.perf_counter() - start)


class CUDATimer:
    """The host's clock around a synchronised call, then events around a call that waits in the queue.

    Both begin with a write that is larger than the cache. In the second, the device is busy with it while the host
    issues the call, so that its events see the device alone, as long as the write outlasts the host.
    """

    most = 8

    def __init__(self) -> None:
        cache = torch.cuda.get_device_properties().L2_cache_size
        self.flush = torch.empty(max(4 * cache, 2**30), dtype=torch.int8, device="cuda")
        event: Any = torch.cuda.Event
        self.start, self.end = (event(enable_timing=True) for _ in range(2))

    def sample(self, work: Work) -> Sample:
        """See :class:`Timer`."""
        state = work.prepare()
        self.flush.zero_()
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = work.run(state)
        issued = time.perf_counter()
        torch.cuda.synchronize()
        wall = time.perf_counter() - start
        del result
        state = work.prepare()
        self.flush.zero_()
        self.start.record()
        result = work.run(state)
        self.end.record()
        torch.cuda.synchronize()
        del result
        return Sample(wall, issued - start, self.start.elapsed_time(self.end) / 1e3)


def interleave(works: Mapping[str, Work], timer: Timer, rounds: int) -> dict[str, list[Sample]]:
    """The medians of each variant in each round, in which all take turns; the order alternates.

    Every variant has run three times before.
    """
    counts = {}
    for name, work in works.items():
        shortest = min(timer.sample(work).wall for _ in range(3))
        counts[name] = max(1, min(timer.most, round(_LEAST / shortest)))
    samples: dict[str, list[Sample]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        for name in names if number % 2 else reversed(names):
            taken = [timer.sample(works[name]) for _ in range(counts[name])]
            samples[name].append(Sample(*(_median(column) for column in zip(*taken, strict=True))))
    return samples


def _median(column: Sequence[float | None]) -> Any:
    known = [value for value in column if value is not None]
    return statistics.median(known) if known else None


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles.

    Raises:
        ValueError: There are fewer than two values.
    """
    known = list(values)
    if len(known) < 2:
        raise ValueError(f"Quartiles need at least two rounds, got {len(known)}.")
    low, median, high = statistics.quantiles(known, n=4, method="inclusive")
    return {"low": low, "median": median, "high": high}


def times(samples: Sequence[Sample]) -> Times:
    """Medians and quartiles of samples."""
    host, device = ([value for value in column if value is not None] for column in list(zip(*samples, strict=True))[1:])
    return {
        "wall": spread(sample.wall for sample in samples),
        "host": spread(host) if host else None,
        "device": spread(device) if device else None,
    }


def decisive(found: Times) -> Spread:
    """The device's own time, or the host's where there is no other device."""
    return found["device"] or found["wall"]


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], by: Literal["device", "wall"] = "device") -> Spread:
    """Our time over theirs, round by round; by the host's clock also where the device has none of its own."""
    return spread(_seconds(mine, by) / _seconds(other, by) for mine, other in zip(ours, theirs, strict=True))


def _seconds(sample: Sample, by: str) -> float:
    return sample.wall if by == "wall" or sample.device is None else sample.device


def graphed(work: Work) -> Work:
    """The work as a CUDA graph that is replayed.

    Raises:
        RuntimeError: It cannot be captured.
    """
    make_stream: Any = torch.cuda.Stream
    stream = make_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work.run(work.prepare())
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work.run(work.prepare())

    def replay(state: object) -> object:
        graph.replay()
        return kept

    return Work(replay)
