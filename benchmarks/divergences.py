"""What each divergence costs: each way to compute it against the others, and against the least bytes it must move."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from benchmarks.grid import Case, cases
from benchmarks.parity import DTYPES, allowed, check, errors, in_interpreter, require
from benchmarks.schema import Copy, DivergenceRow, Errors, ParityRow, Spread, Variant
from benchmarks.settings import Budget, Settings
from benchmarks.shortest import Formula
from benchmarks.timing import Sample, Timer, Work, decisive, graphed, interleave, ratio, times
from benchmarks.traffic import launches, least_bytes, peak_maps
from benchmarks.variants import draw, has_triton, make, work
from saliency_losses.table import aligned

__all__ = ["measure", "parity", "table"]

PAIRS = [
    ("eager", "plain"),
    ("eager", "compile"),
    ("triton", "plain"),
    ("triton", "eager"),
    ("triton", "compile"),
    ("triton in compile", "triton"),
]
HEADING = (
    *("divergence", "maps", "dtype", "pass", "variant", "ms", "quartiles", "x eager"),
    *("GB/s", "of copy", "maps held", "launches", "error"),
)
_OTHERS = 1e-3  # the error that is overlooked in what stands beside our kernels


def parity(settings: Settings, budget: Budget) -> list[ParityRow]:
    """Kernels against float64: on the GPU, or in the interpreter."""
    if not has_triton():
        budget.leave_out("kernels", "Triton is not installed")
        return []
    found: list[ParityRow] = []
    with budget.leaving_out("kernels", NotImplementedError):
        if settings.device == "cuda":
            found = check([(4, 7), (3, 33), (2, 80), (2, 224)], DTYPES, "cuda")
        else:
            found = in_interpreter([(3, 7), (2, 65)], ["float32"] if settings.quick else DTYPES)
    return found


def measure(settings: Settings, budget: Budget, timer: Timer, copy: Copy) -> Iterator[DivergenceRow]:
    """One row after the other."""
    for case in cases(settings):
        if budget.starts(str(case)):
            with budget.leaving_out(str(case), torch.OutOfMemoryError):
                yield from measure_case(case, settings, budget, timer, copy)


def measure_case(case: Case, settings: Settings, budget: Budget, timer: Timer, copy: Copy) -> Iterator[DivergenceRow]:
    """A row for each pass over one case.

    Raises:
        ParityError: A variant differs from float64.
    """
    torch.compiler.reset()
    maps = draw(case.batch, case.size, DTYPES[case.dtype], settings.device, human_size=case.human_size)
    formulas = {name: make(case.name, name) for name in case.variants}
    found = dict(_errors(case, formulas, maps, budget))
    for direction in case.directions:
        works = {name: work(formulas[name], maps, direction) for name in found}
        graphs = dict(_graphs(case, works, budget)) if settings.device == "cuda" and direction == "both" else {}
        samples = interleave({**works, **graphs}, timer, settings.rounds)
        least = least_bytes(maps[0], maps[1], direction)
        variants: dict[str, Variant] = {}
        for name, one in works.items():
            taken, replayed = times(samples[name]), samples.get(f"{name} graph")
            count, seconds = launches(one) if settings.device == "cuda" else (None, None)
            bandwidth = least / decisive(taken)["median"]
            variants[name] = {
                "times": taken,
                "graph": times(replayed) if replayed else None,
                "errors": found[name],
                "peak_maps": peak_maps(one, maps[0]),
                "launches": count,
                "kernel_seconds": seconds,
                "bandwidth": bandwidth,
                "copy_share": bandwidth / copy["bandwidth"],
            }
        yield {
            "divergence": case.name,
            "batch": case.batch,
            "size": case.size,
            "human_size": case.human_size or case.size,
            "dtype": case.dtype,
            "direction": direction,
            "least_bytes": least,
            "variants": variants,
            "ratios": dict(_ratios(samples)),
        }


def _errors(
    case: Case, formulas: Mapping[str, Formula], maps: Sequence[Tensor], budget: Budget
) -> Iterator[tuple[str, Errors]]:
    """Of the variants that run; eager first, by which the others are judged."""
    eager = errors(case.name, formulas["eager"], maps)
    yield "eager", eager
    for name in (name for name in formulas if name != "eager"):
        with budget.leaving_out(f"{case}: {name}", TorchDynamoException, NotImplementedError):
            found = errors(case.name, formulas[name], maps)
            limit = allowed(eager, case.dtype, 1e-5 if name.startswith("triton") else _OTHERS)
            require([{"case": f"{case}: {name}", "errors": found, "eager": eager, "allowed": limit}])
            yield name, found


def _graphs(case: Case, works: Mapping[str, Work], budget: Budget) -> Iterator[tuple[str, Work]]:
    for name, one in works.items():
        with budget.leaving_out(f"{case}: {name} as a CUDA graph", RuntimeError):
            yield f"{name} graph", graphed(one)


def _ratios(samples: Mapping[str, Sequence[Sample]]) -> Iterator[tuple[str, Spread]]:
    """On the device, and where that is not the host, also by the host's clock; of graphs likewise."""
    for pair in PAIRS:
        for kind in ("", " graph"):
            ours, theirs = (samples.get(name + kind) for name in pair)
            if ours and theirs:
                yield f"{' / '.join(pair)}{kind}", ratio(ours, theirs)
                if ours[0].device is not None:
                    yield f"{' / '.join(pair)}{kind}, wall", ratio(ours, theirs, by="wall")


def table(rows: Sequence[DivergenceRow]) -> str:
    """One line per variant of each row."""
    return aligned(HEADING, (line for row in rows for line in _lines(row)))


def _lines(row: DivergenceRow) -> Iterator[tuple[str, ...]]:
    eager = decisive(row["variants"]["eager"]["times"])["median"]
    for name, variant in row["variants"].items():
        taken = decisive(variant["times"])
        yield (
            row["divergence"],
            f"{row['batch']} x {row['size']}^2",
            row["dtype"],
            row["direction"],
            name,
            f"{1e3 * taken['median']:.3f}",
            f"{1e3 * taken['low']:.3f}-{1e3 * taken['high']:.3f}",
            f"{taken['median'] / eager:.2f}",
            f"{variant['bandwidth'] / 1e9:.1f}",
            f"{variant['copy_share']:.1%}",
            f"{variant['peak_maps']:.1f}",
            "" if variant["launches"] is None else str(variant["launches"]),
            f"{max(variant['errors']['value'], variant['errors']['gradient']):.0e}",
        )
