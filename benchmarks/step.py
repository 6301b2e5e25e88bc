"""The cost of a guided training step as a multiple of a plain one, against the limit and against other ways.

The limit is 1 + f, where f is the share of the forward pass's floating-point operations above the layer: the least that
a step costs which differentiates that part twice.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.parity import ParityError
from benchmarks.schema import Copy, Errors, ParityRow, Spread, StepRow
from benchmarks.settings import Budget, Settings
from benchmarks.timing import Sample, Timer, decisive, interleave, ratio, times
from benchmarks.training import Data, Step, saved_bytes, share_above, steps, train
from saliency_losses.table import aligned

__all__ = ["measure", "parity", "table"]

_SAME = 1e-2  # the difference of two losses, and of their gradients, that are the same formula in float32


class Network(NamedTuple):
    """A torchvision model with layers layer1 to layer4, and the batch that it is trained on."""

    name: str
    batch: int
    pixels: int

    def __str__(self) -> str:
        return f"{self.name}, {self.batch} images of {self.pixels} x {self.pixels}"


def networks(settings: Settings) -> list[Network]:
    """What is trained on a device."""
    if settings.quick:
        return [Network("resnet18", 2, 64)]
    if settings.device == "cuda":
        return [Network("resnet50", 32, 224), Network("resnet18", 8, 128)]
    return [Network("resnet18", 8, 128), Network("resnet50", 4, 96)]


def parity(settings: Settings, budget: Budget) -> list[ParityRow]:
    """Steps that differ only in who computes the same loss, against each other."""
    if not importlib.util.find_spec("torchvision"):
        budget.leave_out("step", "torchvision is not installed")
        return []
    data = load(Network("resnet18", 4, 64), settings.device)
    every = {step.name: step for step in steps(data, peers=False)}
    pairs = [(step, every[step.same_as]) for step in every.values() if step.same_as]
    limit: Errors = {"value": _SAME, "gradient": _SAME}
    return [
        {
            "case": f"{step.name} against {other.name}, resnet18 on {settings.device}",
            "errors": _differences(step, other, data),
            "eager": None,
            "allowed": limit,
        }
        for step, other in pairs
    ]


def load(network: Network, device: str) -> Data:
    """The model with random weights, and random images and maps."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    model = get_model(network.name, weights=None, num_classes=10).train()
    images = torch.randn(network.batch, 3, network.pixels, network.pixels)
    human = torch.rand(network.batch, network.pixels, network.pixels)
    labels = torch.arange(network.batch) % 10
    return Data(model.to(device), images.to(device), labels.to(device), human.to(device))


def _differences(step: Step, other: Step, data: Data) -> Errors:
    parameters = list(data.model.parameters())
    found: list[tuple[Tensor, Tensor]] = []
    for loss in (step.loss, other.loss):
        value = loss()
        grads = torch.autograd.grad(value, parameters, materialize_grads=True)
        found.append((value.detach(), torch.cat([grad.flatten() for grad in grads])))
    values, gradients = zip(*found, strict=True)
    return {"value": _apart(*values), "gradient": _apart(*gradients)}


def _apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).norm() / two.norm())


def measure(settings: Settings, budget: Budget, timer: Timer, copy: Copy) -> Iterator[StepRow]:
    """All steps of one network in turns, then of the next."""
    if not importlib.util.find_spec("torchvision"):
        return
    for network in networks(settings):
        if not budget.starts(str(network)):
            continue
        data = load(network, settings.device)
        optimizer = torch.optim.SGD(data.model.parameters(), lr=1e-4, momentum=0.9)
        every = list(steps(data, settings.peers))
        above = share_above(data.model, data.images)
        _finite(network, every)
        works = {step.name: train(step.loss, optimizer) for step in every}
        samples = interleave(works, timer, settings.rounds)
        for step in every:
            yield {
                "model": network.name,
                "batch": network.batch,
                "pixels": network.pixels,
                "name": step.name,
                "times": times(samples[step.name]),
                "ratio": ratio(samples[step.name], samples["plain"]),
                "limit": None if step.layer is None else 1.0 + above[step.layer],
                "saved_bytes": saved_bytes(step.loss, data.model),
                "kernel_share": _saved_by_kernel(step.name, samples),
            }


def _finite(network: Network, every: Sequence[Step]) -> None:
    for step in every:
        if not step.loss().isfinite():
            raise ParityError(f"{network}: the loss of {step.name} is not finite, so there is nothing to time.")


def _saved_by_kernel(name: str, samples: Mapping[str, Sequence[Sample]]) -> Spread | None:
    """The share of the step without a kernel that the kernel saves."""
    without = samples.get(f"{name}, no kernel")
    if without is None:
        return None
    kept = ratio(samples[name], without)
    return {"low": 1.0 - kept["high"], "median": 1.0 - kept["median"], "high": 1.0 - kept["low"]}


def table(rows: Sequence[StepRow]) -> str:
    """One line per step."""
    heading = ("model", "step", "x plain", "quartiles", "limit", "ms", "saved MiB", "kernel saves")
    return aligned(heading, map(_line, rows))


def _line(row: StepRow) -> tuple[str, ...]:
    share = row["kernel_share"]
    return (
        f"{row['model']} {row['batch']} x {row['pixels']}^2",
        row["name"],
        f"{row['ratio']['median']:.3f}",
        f"{row['ratio']['low']:.2f}-{row['ratio']['high']:.2f}",
        "" if row["limit"] is None else f"{row['limit']:.2f}",
        f"{1e3 * decisive(row['times'])['median']:.1f}",
        f"{row['saved_bytes'] / 2**20:.1f}",
        "" if share is None else f"{share['median']:.1%}",
    )
