"""Accuracy over epochs."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from statistics import mean

from .comparison import Comparison, Row
from .style import COLOURS, WIDE, drawing, quiet, short


def draw_epochs(path: Path, comparison: Comparison, invalid: bool) -> bool:
    """Training and validation accuracy of each arm, mean and range over seeds; whether there is any."""
    rows = [row for row in comparison.rows if any(result.epochs for result in row.by_seed.values())]
    if not rows:
        return False
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    with drawing(path, invalid, figsize=(WIDE, 1.7 * lines + 0.5)) as figure:
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axis, row in zip(axes.flat, rows, strict=False):
            for key, style in (("train_accuracy", (0, (2, 1.5))), ("validation_accuracy", "-")):
                epochs, centre, low, high = band(row, key)
                axis.plot(epochs, centre, color=COLOURS[row.kind], lw=1.6, ls=style)
                axis.fill_between(epochs, low, high, color=COLOURS[row.kind], alpha=0.2, lw=0)
            quiet(axis, "y")
            axis.set_title(short(row.title, 36), fontsize=8.5, loc="left", color=COLOURS[row.kind])
        for axis in axes.flat[len(rows) :]:
            axis.set_visible(False)
        figure.supxlabel("epoch", fontsize=10)
        figure.supylabel("accuracy", fontsize=10)
    return True


def band(row: Row, key: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Epochs, and the mean, least and largest of the seeds that reached each."""
    by_epoch: dict[float, list[float]] = {}
    for result in row.by_seed.values():
        for epoch in result.epochs:
            if key in epoch and isfinite(epoch[key]):
                by_epoch.setdefault(epoch["epoch"], []).append(epoch[key])
    epochs = sorted(by_epoch)
    values = [by_epoch[epoch] for epoch in epochs]
    return epochs, [mean(v) for v in values], [min(v) for v in values], [max(v) for v in values]
