"""What a divergence costs beside the shortest plain PyTorch of the same value: ``python -m benchmarks.divergences``.

Forward and backward on the CPU, on dense maps. Rounds are interleaved and a row is the median over rounds of the ratio
to the plain formula of the same round. Values and gradients are compared before anything is timed. Memory is the peak
beyond the inputs that PyTorch's profiler sees, in batches of maps: one is what the model's maps take.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import saliency_losses as sl
from benchmarks.shortest import SHORTEST, Formula
from saliency_losses.divergences import KL, MAE, MSE, Divergence

Step = Callable[[], float]


def make_step(compare: Formula, model: Tensor, human: Tensor, weights: Tensor) -> Step:
    """Forward and backward; returns its time in seconds."""

    def run() -> float:
        model.grad = None
        start = time.perf_counter()
        torch.autograd.backward((compare(model, human) * weights).sum())
        return time.perf_counter() - start

    return run


def check_same(name: str, ours: Formula, plain: Formula, model: Tensor, human: Tensor) -> None:
    """Refuse to time what differs.

    Raises:
        RuntimeError: Values or gradients differ.
    """
    model, human = model.detach()[:4].clone().requires_grad_(), human[:4]
    values = [compare(model, human) for compare in (ours, plain)]
    grads = [torch.autograd.grad(value.sum(), model)[0] for value in values]
    for what, (first, second) in (("values", values), ("gradients", grads)):
        error = float((first - second).detach().abs().max() / second.detach().abs().max().clamp_min(1e-12))
        if not error < 1e-3:
            raise RuntimeError(
                f"The {what} of {name} differ from the plain formula's by {error:.1e}; nothing is timed."
            )


def peak_maps(step: Step, model: Tensor) -> float:
    """The most memory that PyTorch holds in a step beyond what it held before, in batches of maps."""
    model.grad = None
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        step()
    results: Any = profiler.kineto_results
    events = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = accumulate(size for _, size in events)
    return max(held, default=0) / (model.numel() * model.element_size())


def measure(ours: Step, plain: Step, rounds: int) -> dict[str, float]:
    """Median and quartiles of the ratio, and median times in seconds."""
    for step in (ours, plain):
        step()
    times = [(ours(), plain()) if number % 2 else (plain(), ours())[::-1] for number in range(rounds)]
    low, middle, high = statistics.quantiles([mine / theirs for mine, theirs in times], n=4)
    return {
        "ratio": middle,
        "low": low,
        "high": high,
        "seconds": statistics.median(mine for mine, _ in times),
        "plain_seconds": statistics.median(theirs for _, theirs in times),
    }


def flattened(formula: Formula) -> Formula:
    """The formula for maps of any number of axes."""
    return lambda model, human: formula(model.flatten(1), human.flatten(1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=sorted(SHORTEST))
    parser.add_argument("--output", type=Path, help="a JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = options.batch, options.size, options.size
    model, human = torch.randn(shape, requires_grad=True), torch.rand(shape)
    human[:, : options.size // 2] = 0.0
    weights = torch.rand(options.batch)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, {options.threads} thread(s)")
    print(f"{shape} float32, {options.rounds} rounds\n")
    print(f"{'divergence':<24}{'ms':>8}{'plain':>8}{'ratio':>7}{'quartiles':>14}{'memory':>8}{'plain':>7}")
    results: dict[str, dict[str, Any]] = {}

    def row(name: str, divergence: Divergence, plain: Formula) -> None:
        check_same(name, divergence, plain, model, human)
        steps = [make_step(compare, model, human, weights) for compare in (divergence, plain)]
        found = measure(steps[0], steps[1], options.rounds)
        found |= {key: peak_maps(step, model) for key, step in zip(("maps", "plain_maps"), steps, strict=True)}
        results[name] = found
        print(
            f"{name:<24}{found['seconds'] * 1e3:8.1f}{found['plain_seconds'] * 1e3:8.1f}{found['ratio']:7.2f}"
            f"{found['low']:8.2f}-{found['high']:.2f}{found['maps']:9.1f}{found['plain_maps']:7.1f}",
            flush=True,
        )

    for name in options.only:
        row(name, sl.create_divergence(name), flattened(SHORTEST[name]))
    parts = 0.5 * MSE() + 0.3 * MAE() + 0.2 * KL()
    row("sum against the parts", parts, lambda model, human: sum(w * part(model, human) for w, part in parts.terms()))
    if options.output:
        options.output.write_text(json.dumps({"shape": shape, "torch": torch.__version__, "rows": results}, indent=1))


if __name__ == "__main__":
    main()
