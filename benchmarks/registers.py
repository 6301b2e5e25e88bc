"""Registers, stack and shared memory of the kernels, compiled without a GPU: ``python -m benchmarks.registers``.

What is compiled is what is launched: Triton derives the types of the arguments, their divisibility and constant ones
from real tensors on the CPU, for a device that is only named.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import saliency_losses as sl
from saliency_losses.divergences.base import Divergence

CAPABILITIES = (80, 90)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
KINDS = ("mse", "mae", "kl", "js", "correlation", "cosine", "energy", "right_reasons", "dice", "soft_iou")
SUMS = ("mse+kl", "mse+kl+correlation+dice")
SHAPES = ((256, 49), (256, 196), (256, 4096), (32, 50176), (1024, 50176))  # rows and cells
_REGISTERS, _WARPS, _PROGRAMS = 65536, 64, 32  # of an H100's multiprocessor
_SHARED = 227 * 1024


class Resources(NamedTuple):
    """What one program takes.

    Attributes:
        warps: Of 32 threads.
        registers: Per thread.
        spills: Bytes of stack per thread, where registers go that do not fit.
        shared: Bytes of shared memory.
    """

    warps: int
    registers: int
    spills: int
    shared: int

    @property
    def resident(self) -> int:
        """Warps that an H100's multiprocessor holds at once; 64 at most.

        Example:
            >>> Resources(warps=16, registers=92, spills=0, shared=64).resident
            16
        """
        per_warp = -(-self.registers * 32 // 256) * 256
        programs = min(_REGISTERS // (per_warp * self.warps), _WARPS // self.warps, _PROGRAMS)
        return self.warps * min(programs, _SHARED // (self.shared + 1024))


def divergences(parts: str) -> list[Divergence]:
    """The divergences of these names, joined by ``+``."""
    return [sl.create_divergence(name) for name in parts.split("+")]


def launches(
    parts: list[Divergence], model: Tensor, human: Tensor, upstream: Tensor | None = None, sizes: tuple[int, ...] = ()
) -> dict[str, list[Any]]:
    """What is launched forward and backward for these maps, (B, n) and (B, N); see the plan for the sizes."""
    from saliency_losses.kernels import launch
    from saliency_losses.kernels.plan import Plan, plan_of

    plan = Plan(tuple(part for part in (plan_of(part)[0] for part in parts) if part is not None), sizes)
    weights = torch.ones(len(plan.parts), len(model))
    written = launch.empty_forward(model, weights, plan)
    upstream = torch.ones(len(model)) if upstream is None else upstream
    gradient = torch.empty(model.shape, dtype=model.dtype)
    return {
        "forward": launch.forward_launches(model, human, weights, *written, plan),
        "backward": [launch.backward_launch(model, human, weights, written[2], upstream, gradient, plan)],
    }


class _Named:
    """A device that is not there: all that Triton asks of one before it launches."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability  # compiled kernels are kept per device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


@contextmanager
def _device(capability: int) -> Iterator[None]:
    from triton.runtime import driver

    driver.set_active(_Named(capability))
    try:
        yield
    finally:
        with suppress(RuntimeError):  # no device to go back to
            driver.reset_active()


def compiled(launch: Any, capability: int) -> Any:
    """The kernel of a launch as it runs on devices of this compute capability.

    Raises:
        RuntimeError: Triton was told to interpret kernels.
    """
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise RuntimeError(
            "Kernels can be compiled or interpreted, not both in one process, and TRITON_INTERPRET is set: unset it."
        )
    with _device(capability):
        return launch.kernel.run(*launch.arguments, grid=launch.grid, warmup=True, **launch.options)


def resources(kernel: Any) -> Resources:
    """What a compiled kernel takes."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", said)
    if found is None:
        raise RuntimeError(f"cuobjdump was expected to name registers and stack, it said: {said}")
    registers, stack, local = map(int, found.groups())
    return Resources(kernel.metadata.num_warps, registers, stack + local, kernel.metadata.shared)


def rows(parts: str, rows: int, cells: int, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """What the kernels of these parts take, for every capability."""
    model, human = torch.empty(rows, cells, dtype=dtype), torch.empty(rows, cells, dtype=dtype)
    case = {"parts": parts, "rows": rows, "cells": cells, "dtype": str(dtype).removeprefix("torch.")}
    for direction, several in launches(divergences(parts), model, human).items():
        for launch, capability in product(several, CAPABILITIES):
            found = resources(compiled(launch, capability))
            name = {"kernel": launch.kernel.__name__, "direction": direction, "arch": f"sm_{capability}"}
            yield {**name, **case, **found._asdict(), "resident": found.resident}


def main() -> None:
    """Compile, print and write."""
    import triton

    parser = argparse.ArgumentParser(description="Registers, spills and shared memory of the kernels, without a GPU.")
    names = "+".join(f"sm_{capability}" for capability in CAPABILITIES)
    default = Path(__file__).parent / "results" / sl.__version__ / f"kernels--{names}.json"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    cases = [(parts, *shape, torch.float32) for parts in (*KINDS, *SUMS) for shape in SHAPES]
    cases += [("mse", *shape, dtype) for dtype in DTYPES[1:] for shape in SHAPES]
    found = []
    for case in cases:
        for row in rows(*case):
            print("  ".join(f"{value!s:>{max(len(key), 7)}}" for key, value in row.items()), flush=True)
            found.append(row)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    setting = {"suite": "kernels", "version": sl.__version__, "torch": torch.__version__, "triton": triton.__version__}
    arguments.output.write_text(json.dumps({**setting, "rows": found}, indent=1) + "\n")
    print(f"{len(found)} kernels, {sum(row['spills'] > 0 for row in found)} with spills: {arguments.output}")


if __name__ == "__main__":
    main()
