"""What the host does before a kernel runs: ``python -m benchmarks.host``.

Microseconds per forward and backward pass, medians, with the launches themselves left out and memory on the CPU: what
remains is checks, dispatch, allocation and autograd. The kernels' two ways into autograd are compared with each other,
with an operation that does nothing, and with eager PyTorch on the same maps (which does its arithmetic, too).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

import saliency_losses as sl
from saliency_losses.divergences.evaluate import evaluate


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, model: Tensor) -> Tensor:
        return torch.empty(len(model))

    @staticmethod
    def backward(ctx: object, upstream: Tensor) -> Tensor:
        return torch.empty(len(upstream), 7, 7)


def median(step: Callable[[], object], repeats: int) -> float:
    """Microseconds of a call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return 1e6 * statistics.median(seconds)


def measured(repeats: int) -> dict[str, float]:
    """Microseconds by what is done, on 256 maps of 7x7."""
    from saliency_losses.kernels import autograd, launch
    from saliency_losses.kernels.plan import Plan, plan_of
    from saliency_losses.kernels.select import select

    part, eager = sl.create_divergence("mse", backend="triton"), sl.create_divergence("mse", backend="eager")
    model, human = torch.rand(256, 7, 7, requires_grad=True), torch.rand(256, 7, 7)
    weights, upstream = torch.ones(1, 256), torch.ones(256)
    flat, flat_human = model.flatten(1), human.flatten(1)
    plan = Plan(tuple(found for found in (plan_of(part)[0],) if found is not None))
    text = str((*plan.sizes, [list(own) for own in plan.parts]))

    def both(total: Tensor) -> object:
        return torch.autograd.grad(total, model, upstream)

    steps: dict[str, Callable[[], object]] = {
        "an operation that does nothing": lambda: both(_Nothing.apply(model)),
        "autograd.Function": lambda: both(autograd._Fused.apply(flat, flat_human, weights, plan, None)[0]),
        "custom operator": lambda: both(autograd._forward(flat, flat_human, weights, text)[0]),
        "of which: launches": lambda: launch.backward(
            flat, flat_human, weights, launch.forward(flat, flat_human, weights, plan)[2], upstream, plan
        ),
        "dispatch": lambda: select([part], weights, model, human, None),
        "evaluate": lambda: both(evaluate([part], weights, model, human, None)[0]),
        "divergence": lambda: both(part(model, human)),
        "divergence, eager": lambda: both(eager(model, human)),
    }
    with mock.patch.object(launch, "_run", return_value=None):
        for step in steps.values():
            median(step, 20)
        return {name: median(step, repeats) for name, step in steps.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Microseconds of the host per forward and backward pass.")
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported, so that maps on the CPU are dispatched
    torch.set_num_threads(1)
    for name, microseconds in measured(repeats).items():
        print(f"{name:32s}{microseconds:8.1f} us")


if __name__ == "__main__":
    main()
