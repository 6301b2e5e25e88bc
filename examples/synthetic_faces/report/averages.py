"""The average map of every arm beside the average human map, for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saliency_losses.viz import average_map

from .comparison import Comparison, Row
from .style import COLOURS, INK, broken, drawing

CLASSES = ("authentic", "synthetic")
ACROSS, SIDE, STEP, ABOVE, BESIDE = 7, 1.3, 1.36, 0.55, 0.42
"""Arms in a block; in inches, a picture's side, the way to the next one, and the room for titles and for labels."""


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
    width, tall = (ACROSS + 1) * STEP + BESIDE, len(labels) * STEP + ABOVE
    with drawing(path, invalid, figsize=(width, tall * len(blocks) + 0.3 * invalid), layout="none") as figure:
        axis = figure.add_axes((0.0, 0.0, 1.0, 1.0 - 0.3 * invalid / figure.get_figheight()))
        for number, block in enumerate(blocks):
            for column, (title, colour, cells) in enumerate(block):
                left, top = BESIDE + column * STEP, number * tall + ABOVE
                axis.text(left, top - 0.05, broken(title, 17), fontsize=8, color=colour, va="bottom")
                for line, cell in enumerate(cells):
                    if cell is not None:
                        place = (left, left + SIDE, top + line * STEP + SIDE, top + line * STEP)
                        axis.imshow(cell, "magma", vmin=0.0, vmax=1.0, interpolation="bicubic", extent=place)
            for line, label in enumerate(labels):
                middle = number * tall + ABOVE + line * STEP + SIDE / 2
                axis.text(BESIDE - 0.08, middle, label, rotation=90, ha="right", va="center", fontsize=8)
        axis.set(xlim=(0.0, width), ylim=(tall * len(blocks), 0.0), aspect="auto")
        axis.set_axis_off()


def _average(rows: Sequence[Row], key: str) -> NDArray[np.float32] | None:
    """The mean over trainings, all scaled to [0, 1] before and after; None without a map."""
    found = [result.maps[key] for row in rows for result in row.by_seed.values() if key in result.maps]
    same = [one for one in found if one.shape == found[0].shape and np.isfinite(one).all()]
    return average_map(average_map(same)[None]) if same else None
