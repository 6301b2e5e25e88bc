"""Bytes: the least that a divergence moves, what a copy moves per second, and what a step holds and launches."""

import json
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.schema import Copy
from benchmarks.timing import Timer, Work, decisive, interleave, times

__all__ = ["Direction", "launches", "least_bytes", "measure_copy", "peak_maps"]

Direction = Literal["forward", "backward", "both"]
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


def least_bytes(model: Tensor, human: Tensor, direction: Direction) -> int:
    """The least that a divergence reads and writes: forward both maps; backward both, and the model's gradient.

    Example:
        >>> maps = torch.zeros(2, 7, 7)
        >>> [least_bytes(maps, maps.half(), direction) for direction in ("forward", "backward", "both")]
        [588, 980, 1568]
    """
    own, other = (maps.numel() * maps.element_size() for maps in (model, human))
    forward, backward = own + other, 2 * own + other
    return {"forward": forward, "backward": backward, "both": forward + backward}[direction]


def measure_copy(device: str, size: int, timer: Timer, rounds: int) -> Copy:
    """A copy of so many bytes within the device's memory."""
    source = torch.rand(size // 4, device=device)
    target = torch.empty_like(source)
    found = times(interleave({"copy": Work(lambda _: target.copy_(source))}, timer, rounds)["copy"])
    seconds = decisive(found)
    return {"bytes": size, "seconds": seconds, "bandwidth": 2 * size / seconds["median"]}


def peak_maps(work: Work, model: Tensor) -> float:
    """The most memory that PyTorch holds in a step beyond what it held before, in batches of the model's maps."""
    state = work.prepare()
    if model.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work.run(state)
        peak = torch.cuda.max_memory_allocated() - before
    else:
        with torch.autograd.profiler.profile(profile_memory=True) as profiler:
            work.run(state)
        results: Any = profiler.kineto_results
        events = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
        peak = max(accumulate(size for _, size in events), default=0)
    return peak / (model.numel() * model.element_size())


def launches(work: Work) -> tuple[int, float]:
    """How many kernels, copies and fills one call puts on the GPU, and the seconds that they run."""
    state = work.prepare()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        work.run(state)
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return count_launches(json.loads(path.read_text())["traceEvents"])


def count_launches(events: Sequence[dict[str, Any]]) -> tuple[int, float]:
    """Of a trace's events, those that ran on the GPU, and their seconds.

    Example:
        >>> count_launches([{"cat": "kernel", "dur": 2.5}, {"cat": "cpu_op", "dur": 9.0}, {"name": "process"}])
        (1, 2.5e-06)
    """
    found = [float(event["dur"]) for event in events if event.get("cat") in _ON_DEVICE]
    return len(found), sum(found) / 1e6
