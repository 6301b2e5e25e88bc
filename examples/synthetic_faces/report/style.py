"""How figures look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .comparison import KINDS

INK, FAINT, GUIDED, CONTROL, PLAIN, OTHER = "#1f2430", "#d9dce3", "#2a78b8", "#6f7785", "#d1495b", "#c9882b"
WIDE = 10.8
COLOURS = dict(zip(KINDS, (PLAIN, GUIDED, OTHER, CONTROL), strict=True))


@contextmanager
def drawing(path: Path, invalid: bool, **options: Any) -> Iterator[Figure]:
    """A figure that is saved at the end; marked where its comparison is invalid."""
    with plt.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "text.parse_math": False,
        }
    ):
        figure = plt.figure(**{"layout": "constrained", **options})
        try:
            yield figure
            if invalid:
                figure.suptitle("INVALID: gate failed", color=PLAIN, fontweight="bold")
            figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})
        finally:
            plt.close(figure)


def quiet(axis: Axes, grid: Literal["x", "y", "both"] = "x") -> None:
    """Faint lines of one direction and no frame."""
    axis.grid(axis=grid, color=FAINT, lw=0.6)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, colors=INK)


def heading(axis: Axes, text: str) -> None:
    """A title at the left."""
    axis.set_title(text, fontsize=11, fontweight="bold", loc="left")


def short(title: str, width: int) -> str:
    """The title, cut where it is longer."""
    return title if len(title) <= width else title[: width - 1].rstrip() + "…"


def broken(title: str, width: int, lines: int = 3) -> str:
    """The title on several lines, first broken after a colon or comma; what is too long is cut."""
    first = re.split(r"(?<=[:,]) ", title, maxsplit=1)
    pieces = [line for part in first for line in wrap(part, width)] or [""]
    return "\n".join(pieces if len(pieces) <= lines else [*pieces[: lines - 1], pieces[lines - 1][: width - 1] + "…"])
