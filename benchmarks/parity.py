"""Values and gradients against float64, before anything is timed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from benchmarks.conditions import ROOT
from benchmarks.records import within
from benchmarks.schema import Errors, ParityRow
from benchmarks.shortest import Formula
from benchmarks.variants import draw, fusable, make

__all__ = ["DTYPES", "ParityError", "allowed", "check", "compare", "errors", "in_interpreter", "require"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Case = tuple[str, int, int, str]  # divergence, batch, size, dtype
_SOME = 4  # rows at either end of a batch that are compared: all are, in smaller ones


class ParityError(RuntimeError):
    """Something differs from its definition, so that its time means nothing."""


def errors(name: str, compare: Formula, maps: Sequence[Tensor]) -> Errors:
    """How far a variant is from the float64 definition on the same numbers."""
    model, human, weights = (tensor.detach() for tensor in maps)
    model.requires_grad_()
    values = compare(model, human)
    (gradient,) = torch.autograd.grad(values, model, weights.to(values.dtype))
    exact_model, exact_human, exact_weights = (_ends(tensor).detach().double() for tensor in (model, human, weights))
    exact_model.requires_grad_()
    exact = make(name, "eager")(exact_model, exact_human)
    (exact_gradient,) = torch.autograd.grad(exact, exact_model, exact_weights)
    return {"value": _error(values, exact), "gradient": _error(gradient, exact_gradient)}


def _ends(rows: Tensor) -> Tensor:
    return rows if len(rows) <= 2 * _SOME else torch.cat([rows[:_SOME], rows[-_SOME:]])


def _error(found: Tensor, exact: Tensor) -> float:
    found, exact = _ends(found).detach().double(), exact.detach()
    return float((found - exact).abs().max() / exact.abs().max().clamp_min(1e-12))


def allowed(eager: Errors, dtype: str, least: float = 1e-5) -> Errors:
    """The errors that pass: rounding, or twice what they are in eager PyTorch."""
    rounding = max(least, 2 * torch.finfo(DTYPES[dtype]).eps)
    return {"value": max(2 * eager["value"], least), "gradient": max(2 * eager["gradient"], rounding)}


def compare(case: Case, variant: str, device: str) -> ParityRow:
    """A variant, and eager PyTorch beside it, against float64."""
    name, batch, size, dtype = case
    maps = draw(batch, size, DTYPES[dtype], device, seed=1)
    ours, eager = (errors(name, make(name, each), maps) for each in (variant, "eager"))
    where = ", in the interpreter" if variant.startswith("triton") and device == "cpu" else ""
    return {
        "case": f"{name} {batch} x {size} x {size} {dtype}, {variant} on {device}{where}",
        "errors": ours,
        "eager": eager,
        "allowed": allowed(eager, dtype),
    }


def check(sizes: Iterable[tuple[int, int]], dtypes: Iterable[str], device: str) -> list[ParityRow]:
    """Every kernel against float64, at each batch and size and in each dtype."""
    cases = [(name, *size, dtype) for name in fusable() for size in sizes for dtype in dtypes]
    return [compare(case, "triton", device) for case in cases]


def in_interpreter(sizes: Sequence[tuple[int, int]], dtypes: Iterable[str]) -> list[ParityRow]:
    """The same on the CPU, in a process of its own, where Triton interprets its kernels.

    Raises:
        ParityError: The process failed.
    """
    command = [sys.executable, "-m", "benchmarks.parity", json.dumps([list(sizes), list(dtypes)])]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    if result.returncode:
        raise ParityError(f"Kernels fail in Triton's interpreter:\n{result.stderr.strip()}")
    found: list[ParityRow] = json.loads(result.stdout)
    return found


def require(rows: Iterable[ParityRow]) -> None:
    """Nothing, where all comparisons passed.

    Raises:
        ParityError: One did not; the message lists what differs.
    """
    failed = [
        f"  {row['case']}: {row['errors']}, allowed {row['allowed']}, eager {row['eager']}"
        for row in rows
        if not within(row["errors"], row["allowed"])
    ]
    if failed:
        raise ParityError("Nothing is timed, since these differ:\n" + "\n".join(failed))


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted, kinds = json.loads(sys.argv[1])
    print(json.dumps(check([(batch, size) for batch, size in wanted], kinds, "cpu")))
