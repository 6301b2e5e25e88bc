"""The cost of a guided training step as a multiple of a plain one: ``python -m benchmarks.step``.

Rounds are interleaved, so that a machine that slows down slows all rows alike; a row is the median over rounds of the
ratio to the plain step of the same round. Losses are checked to be finite before anything is timed.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

import saliency_losses as sl
from saliency_losses.extractors import CAM, GradCAM, InputGradient

Step = Callable[[], Tensor]

EXTRACTORS: dict[str, sl.SaliencyExtractor] = {
    "cam": CAM(),
    "grad_cam, last layer": GradCAM(),
    "grad_cam, layer4": GradCAM(layer="layer4"),
    "grad_cam, layer3": GradCAM(layer="layer3"),
    "grad_cam, layer2": GradCAM(layer="layer2"),
    "input_gradient": InputGradient(),
}


def make_steps(model: nn.Module, batch: int, pixels: int) -> dict[str, Step]:
    """One function per row: a whole training step that returns its loss."""
    images, human = torch.randn(batch, 3, pixels, pixels), torch.rand(batch, pixels, pixels)
    labels = torch.arange(batch) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step(loss: Callable[[], Tensor]) -> Step:
        def run() -> Tensor:
            optimizer.zero_grad()
            value = loss()
            torch.autograd.backward(value)
            optimizer.step()
            return value.detach()

        return run

    steps = {"plain": step(lambda: F.cross_entropy(model(images), labels))}
    for name, extractor in EXTRACTORS.items():
        guided = sl.SaliencyGuidedLoss(model, extractor, "mse")
        steps[name] = step(partial(_guided_loss, guided, images, labels, human))
    return steps


def _guided_loss(guided: sl.SaliencyGuidedLoss, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
    loss: Tensor = guided(images, labels, human).loss
    return loss


def measure(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    """Median and quartiles of each row's ratio to the plain step, and its median time in seconds."""
    for name, step in steps.items():
        for _ in range(2):
            if not step().isfinite():
                raise RuntimeError(f"{name}: the loss is not finite, so there is nothing to time.")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        order = list(steps)[:: 1 if number % 2 else -1]
        for name in order:
            start = time.perf_counter()
            steps[name]()
            times[name].append(time.perf_counter() - start)
    rows = {}
    for name, own in times.items():
        ratios = [mine / plain for mine, plain in zip(own, times["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {"ratio": middle, "low": low, "high": high, "seconds": statistics.median(own)}
    return rows


def main() -> None:
    """Measure, print a table, and save it with its conditions where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="a torchvision model with layers layer2 to layer4")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a JSON file for rows and conditions")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    model = get_model(arguments.model, weights=None, num_classes=10).train()
    rows = measure(make_steps(model, arguments.batch, arguments.pixels), arguments.rounds)
    conditions = {key: value for key, value in vars(arguments).items() if key != "output"} | {
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    print(f"{'step':24}{'x plain':>9}{'quartiles':>16}{'ms':>9}")
    for name, row in rows.items():
        quartiles = f"{row['low']:.3f}-{row['high']:.3f}"
        print(f"{name:24}{row['ratio']:9.3f}{quartiles:>16}{1e3 * row['seconds']:9.1f}")
    if arguments.output:
        arguments.output.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
