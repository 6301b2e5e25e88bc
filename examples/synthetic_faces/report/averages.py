"""The average map of every arm beside the average human map, for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saliency_losses.viz import average_map

from .study import Comparison, Row
from .style import COLOURS, INK, broken, drawing

CLASSES = ("authentic", "synthetic")
ACROSS = 7


def draw_averages(path: Path, comparison: Comparison, invalid: bool) -> bool:
    """Draws them; whether there are any."""
    human = [_average(comparison.rows, f"human/{name}") for name in CLASSES]
    arms = [
        (row.title, COLOURS[row.kind], [_average([row], f"average/{name}") for name in CLASSES])
        for row in comparison.rows
    ]
    columns = [("people", INK, human), *arms]
    shown = [column for column in columns if any(cell is not None for cell in column[2])]
    if not any(title != "people" for title, _, _ in shown):
        return False
    draw_sheet(path, shown, CLASSES, invalid)
    return True


def draw_sheet(
    path: Path,
    columns: Sequence[tuple[str, str, Sequence[NDArray[Any] | None]]],
    labels: Sequence[str],
    invalid: bool,
) -> None:
    """Columns of pictures or maps under their titles, in blocks one below the other; the first leads each block."""
    first, others = columns[0], columns[1:]
    wide = min(ACROSS, len(others))
    blocks = [[first, *others[start : start + wide]] for start in range(0, len(others), wide)]
    lines, size = len(labels), (1.35 * (wide + 1) + 0.4, (1.35 * len(labels) + 0.55) * len(blocks) + 0.1)
    with drawing(path, invalid, figsize=size) as figure:
        axes = figure.subplots(lines * len(blocks), wide + 1, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for number, block in enumerate(blocks):
            for column, (title, colour, cells) in enumerate(block):
                for line, cell in enumerate(cells):
                    axis = axes[number * lines + line, column]
                    if cell is not None:
                        axis.imshow(cell, cmap="magma", vmin=0.0, vmax=1.0, interpolation="bicubic")
                    if line == 0:
                        axis.set_title(broken(title, 17), fontsize=8, color=colour, va="bottom")
                    if column == 0:
                        axis.text(-0.06, 0.5, labels[line], transform=axis.transAxes, rotation=90, ha="right",
                                  va="center", fontsize=9)  # fmt: skip


def _average(rows: Sequence[Row], key: str) -> NDArray[np.float32] | None:
    """The mean over trainings, all scaled to [0, 1] before and after; None without a map."""
    found = [result.maps[key] for row in rows for result in row.by_seed.values() if key in result.maps]
    same = [one for one in found if one.shape == found[0].shape and np.isfinite(one).all()]
    return average_map(average_map(same)[None]) if same else None
