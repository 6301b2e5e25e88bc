"""The cost of a guided training step as a multiple of a plain one: ``python -m benchmarks.step``.

Rounds are interleaved, so that a machine that slows down slows all rows alike; a row is the median over rounds of the
ratio to the plain step of the same round. Losses are checked to be finite before anything is timed. The limit is
1 + f, where f is the share of the forward pass's floating-point operations above the layer: the least that a step
costs which differentiates that part twice. Peers are timed where they are installed.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

import saliency_losses as sl
from benchmarks import handwritten
from saliency_losses.extractors import CAM, GradCAM, InputGradient

Step = Callable[[], Tensor]
LAYERS = ("layer4", "layer3", "layer2", "layer1")


class Row(NamedTuple):
    """What is timed: a name, the loss, and the layer that the limit is computed for (``""`` is the input)."""

    name: str
    loss: Callable[[], Tensor]
    layer: str | None


def make_rows(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor, peers: bool) -> list[Row]:
    """The plain step and all others."""

    def ours(extractor: sl.SaliencyExtractor) -> Callable[[], Tensor]:
        guided = sl.SaliencyGuidedLoss(model, extractor, "mse")

        def loss() -> Tensor:
            value: Tensor = guided(images, labels, human).loss
            return value

        return loss

    def theirs(loss: handwritten.Loss) -> Callable[[], Tensor]:
        return partial(loss, model, images, labels, human)

    rows = [Row("plain", lambda: F.cross_entropy(model(images), labels), None)]
    rows += [Row("cam", ours(CAM()), "layer4"), Row("  by hand", theirs(handwritten.cam), "layer4")]
    for layer in LAYERS:
        rows.append(Row(f"grad_cam {layer}", ours(GradCAM(layer=layer)), layer))
        rows.append(Row("  coupled", ours(GradCAM(layer=layer, batch_statistics="coupled")), layer))
        rows.append(Row("  by hand", theirs(handwritten.grad_cam(layer)), layer))
    rows.append(Row("input_gradient", ours(InputGradient()), ""))
    rows.append(Row("  by hand", theirs(handwritten.input_gradient), ""))
    if peers:
        rows.append(Row("captum LayerGradCam layer4", theirs(handwritten.captum_layer_grad_cam("layer4")), "layer4"))
        rows.append(Row("captum Saliency", theirs(handwritten.captum_saliency), ""))
        if importlib.util.find_spec("pytorch_grad_cam"):
            rows.append(Row("pytorch-grad-cam layer4 *", theirs(handwritten.pytorch_grad_cam("layer4")), None))
        if importlib.util.find_spec("torchcam"):
            rows.append(Row("torchcam layer4 *", theirs(handwritten.torchcam("layer4")), None))
    return rows


def share_above(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Which share of the forward pass's operations lies above each layer; ``""`` is the input."""
    counted = {"": 0}
    counter = FlopCounterMode(display=False)
    handles = [
        model.get_submodule(layer).register_forward_hook(
            lambda module, args, output, layer=layer: counted.update({layer: counter.get_total_flops()})
        )
        for layer in LAYERS
    ]
    with counter:
        model(images)
    for handle in handles:
        handle.remove()
    total = counter.get_total_flops()
    return {layer: 1.0 - below / total for layer, below in counted.items()}


def saved_bytes(loss: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes of the different storages that the graph of a loss keeps, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss()
    return sum(size for size, _ in kept.values())


def make_step(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Step:
    """A whole training step that returns its loss."""

    def run() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        optimizer.step()
        return value.detach()

    return run


def measure(steps: list[Step], rounds: int) -> list[dict[str, float]]:
    """Median and quartiles of each row's ratio to the first, and its median time in seconds."""
    for number, step in enumerate(steps):
        for _ in range(2):
            if not step().isfinite():
                raise RuntimeError(f"Row {number}: the loss is not finite, so there is nothing to time.")
    times: list[list[float]] = [[] for _ in steps]
    for count in range(rounds):
        for number in range(len(steps))[:: 1 if count % 2 else -1]:
            start = time.perf_counter()
            steps[number]()
            times[number].append(time.perf_counter() - start)
    rows = []
    for own in times:
        ratios = [mine / plain for mine, plain in zip(own, times[0], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append({"ratio": middle, "low": low, "high": high, "seconds": statistics.median(own)})
    return rows


def main() -> None:
    """Measure, print a table, and save it with its conditions where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="a torchvision model with layers layer1 to layer4")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-peers", action="store_true", help="time neither Captum nor other packages")
    parser.add_argument("--output", type=Path, help="a JSON file for rows and conditions")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    model = get_model(arguments.model, weights=None, num_classes=10).train()
    batch, pixels = arguments.batch, arguments.pixels
    images, human = torch.randn(batch, 3, pixels, pixels), torch.rand(batch, pixels, pixels)
    labels = torch.arange(batch) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    rows = make_rows(model, images, labels, human, not arguments.no_peers)
    above = share_above(model, images)
    results: list[dict[str, Any]] = []
    for row, numbers in zip(
        rows, measure([make_step(row.loss, optimizer) for row in rows], arguments.rounds), strict=True
    ):
        limit = None if row.layer is None else 1.0 + above[row.layer]
        results.append({"name": row.name, **numbers, "limit": limit, "saved": saved_bytes(row.loss, model)})
    conditions = {key: value for key, value in vars(arguments).items() if key != "output"} | {
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    print(f"{'step':27}{'x plain':>9}{'quartiles':>14}{'limit':>8}{'ms':>9}{'saved MiB':>11}")
    for result in results:
        quartiles = f"{result['low']:.2f}-{result['high']:.2f}"
        least = "" if result["limit"] is None else f"{result['limit']:.2f}"
        print(
            f"{result['name']:27}{result['ratio']:9.3f}{quartiles:>14}{least:>8}{1e3 * result['seconds']:9.1f}"
            f"{result['saved'] / 2**20:11.1f}"
        )
    print("* maps only: nothing can be trained through them")
    if arguments.output:
        arguments.output.write_text(json.dumps({"conditions": conditions, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
