"""How costs grow with the batch, the size of maps, channels and layers: seconds, and exponents fitted to them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import saliency_losses as sl
from benchmarks.parity import check, compare
from benchmarks.schema import Copy, ParityRow, ScalingRow
from benchmarks.settings import Budget, Settings
from benchmarks.timing import Sample, Timer, Work, interleave, spread, times
from benchmarks.training import Data, train
from benchmarks.variants import draw, make, work
from saliency_losses.extractors import CAM, GradCAM
from saliency_losses.table import aligned

__all__ = ["exponent", "measure", "parity", "table"]

DEPTH = 8
Maker = Callable[[int], Work]


class Axis(NamedTuple):
    """What grows, at which points, and what is timed there: one maker for each variant."""

    name: str
    case: str
    points: tuple[int, ...]
    makers: Mapping[str, Maker]


def axes(settings: Settings) -> list[Axis]:
    """What grows on a device."""
    cuda, quick = settings.device == "cuda", settings.quick
    variants = ("eager", "triton") if cuda else ("eager",)
    batches = (64, 256, 1024, 4096) if cuda else (16, 64, 256) if quick else (16, 64, 256, 1024)
    sizes = (28, 56, 112, 224, 448) if cuda else (28, 56, 112) if quick else (28, 56, 112, 224)
    batch = 256 if cuda else 32
    channels = (32, 64, 128) if quick else (32, 64, 128, 256, 512)
    layers = (1, 2, 4, DEPTH)
    compared = {f"mse {variant}": _divergence("mse", variant, settings.device) for variant in variants}
    return [
        Axis("batch", "maps of 56 x 56", batches, {name: _of_batch(one) for name, one in compared.items()}),
        Axis(
            "positions",
            f"{batch} square maps",
            tuple(size**2 for size in sizes),
            {name: _of_positions(one, batch) for name, one in compared.items()},
        ),
        Axis("channels", "a layer of 16 x 16 positions, 8 images", channels, _of_channels(settings.device)),
        Axis(
            "layers",
            f"grad_cam of so many of {DEPTH} layers, the lowest among them",
            layers,
            {"grad_cam": lambda count: _deep(range(0, DEPTH, DEPTH // count), settings.device)},
        ),
        Axis(
            "layers above",
            f"grad_cam below so many of {DEPTH} layers",
            layers,
            {"grad_cam": lambda count: _deep([DEPTH - count], settings.device)},
        ),
    ]


def _divergence(name: str, variant: str, device: str) -> Callable[[int, int], Work]:
    return lambda batch, size: work(make(name, variant), draw(batch, size, torch.float32, device), "both")


def _of_batch(one: Callable[[int, int], Work]) -> Maker:
    return lambda batch: one(batch, 56)


def _of_positions(one: Callable[[int, int], Work], batch: int) -> Maker:
    return lambda positions: one(batch, math.isqrt(positions))


def _of_channels(device: str) -> dict[str, Maker]:
    def maker(extractor: sl.SaliencyExtractor | None) -> Maker:
        def of(channels: int) -> Work:
            layers = [nn.Conv2d(3, channels, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            return _step(nn.Sequential(*layers, nn.Linear(channels, 10)), extractor, device)

        return of

    return {"plain": maker(None), "cam": maker(CAM()), "grad_cam": maker(GradCAM(layer="1"))}


def _deep(tapped: Sequence[int], device: str) -> Work:
    blocks = [nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.SiLU()) for _ in range(DEPTH)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    model = nn.Sequential(nn.Conv2d(3, 32, 4, 4), *blocks, *head)
    return _step(model, GradCAM(layer=[str(1 + index) for index in tapped]), device)


def _step(model: nn.Module, extractor: sl.SaliencyExtractor | None, device: str) -> Work:
    images, labels, human = torch.randn(8, 3, 64, 64), torch.arange(8), torch.rand(8, 64, 64)
    data = Data(model.to(device), images.to(device), labels.to(device), human.to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    if extractor is None:
        return train(lambda: nn.functional.cross_entropy(data.model(data.images), data.labels), optimizer)
    guided = sl.SaliencyGuidedLoss(model, extractor, "mse")
    return train(lambda: guided(*data[1:]).loss, optimizer)


def parity(settings: Settings, budget: Budget) -> list[ParityRow]:
    """What is timed of divergences, against float64."""
    if settings.device == "cuda":
        return [row for row in check([(8, 56), (8, 224)], ["float32"], "cuda") if row["case"].startswith("mse")]
    return [compare(("mse", 8, 56, "float32"), "eager", settings.device)]


def measure(settings: Settings, budget: Budget, timer: Timer, copy: Copy) -> Iterator[ScalingRow]:
    """All points and variants of an axis in turns."""
    for axis in axes(settings):
        if not budget.starts(axis.name):
            continue
        torch.manual_seed(0)
        works = {f"{name} {point}": make(point) for name, make in axis.makers.items() for point in axis.points}
        samples = interleave(works, timer, settings.rounds)
        for name in axis.makers:
            columns = [samples[f"{name} {point}"] for point in axis.points]
            found = [times(column) for column in columns]
            yield {
                "axis": axis.name,
                "case": axis.case,
                "variant": name,
                "points": list(axis.points),
                "seconds": [one["device"] or one["wall"] for one in found],
                "exponent": spread(_exponents(axis.points, columns)),
                "last_exponent": spread(_exponents(axis.points[-2:], columns[-2:])),
            }


def _exponents(points: Sequence[int], columns: Sequence[Sequence[Sample]]) -> Iterator[float]:
    for samples in zip(*columns, strict=True):
        yield exponent(points, [sample.device or sample.wall for sample in samples])


def exponent(points: Sequence[float], seconds: Sequence[float]) -> float:
    """The power of the points that seconds grow with, by least squares between logarithms.

    Example:
        >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
        2.0
    """
    return float(np.polyfit(np.log(points), np.log(seconds), 1)[0])


def table(rows: Sequence[ScalingRow]) -> str:
    """One line per axis and variant."""
    heading = ("grows", "of", "variant", "points", "ms", "exponent", "quartiles", "at the end")
    return aligned(heading, map(_line, rows))


def _line(row: ScalingRow) -> tuple[str, ...]:
    first, last = (1e3 * row["seconds"][end]["median"] for end in (0, -1))
    return (
        row["axis"],
        row["case"],
        row["variant"],
        f"{row['points'][0]} to {row['points'][-1]}",
        f"{first:.3f} to {last:.3f}",
        f"{row['exponent']['median']:.2f}",
        f"{row['exponent']['low']:.2f}-{row['exponent']['high']:.2f}",
        f"{row['last_exponent']['median']:.2f}",
    )
