"""Stored results as plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

from benchmarks.timing import decisive
from docs.benchmark_tables import VARIANTS, ours, shape

# Okabe and Ito's palette, which does not rely on red against green.
COLOURS = dict(zip(VARIANTS, ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7"), strict=True))
MARKERS = {"mse": "o", "kl": "s", "correlation": "^"}


def draw(record: Any, path: Path) -> None:
    """Write the plot of a record."""
    {"divergences": _divergences, "step": _steps, "scaling": _scaling}[record["suite"]](record).savefig(path, dpi=110)


def _divergences(record: Any) -> Figure:
    rows = [row for row in record["rows"] if row["direction"] == "both" and row["dtype"] == "float32"]
    several = len({row["size"] for row in rows}) > 1
    figure = Figure(figsize=(10 if several else 6, 5), layout="constrained")
    *others, right = figure.subplots(1, 1 + several, squeeze=False)[0]
    for left in others:
        _shares(left, rows)
    base = "eager" if ours(record) == "triton" else "plain"
    _bars(right, _largest(rows), base)
    return figure


def _shares(axes: Axes, rows: Sequence[Any]) -> None:
    """The share of a copy's bandwidth against the positions of a map, at the largest batch of each size."""
    largest: dict[tuple[str, int], Any] = {}
    for row in sorted(rows, key=lambda row: int(row["batch"])):
        largest[row["divergence"], row["size"]] = row
    for name, marker in MARKERS.items():
        for variant, colour in COLOURS.items():
            found = [row for (own, _), row in sorted(largest.items()) if own == name and variant in row["variants"]]
            sizes = [row["size"] for row in found]
            shares = [row["variants"][variant]["copy_share"] for row in found]
            axes.plot(sizes, shares, marker=marker, color=colour, label=f"{name}, {variant}" if found else "")
    axes.set(xscale="log", xlabel="side of a square map (pixels)", ylabel="least bytes per second, of a copy's")
    sizes = sorted({row["size"] for row in rows})
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(bottom=0.0)
    axes.set_title("forward and backward, float32, largest batch of each size", fontsize=10)
    axes.legend(fontsize=7)


def _largest(rows: Sequence[Any]) -> list[Any]:
    """The rows of the maps on which most divergences were measured; of those, the largest."""
    shapes = [(row["batch"], row["size"]) for row in rows]
    chosen = max(shapes, key=lambda each: (shapes.count(each), each[0] * each[1] ** 2))
    return [row for row in rows if (row["batch"], row["size"]) == chosen]


def _bars(axes: Axes, rows: Sequence[Any], base: str) -> None:
    """Times as a multiple of one variant's."""
    rows = sorted(
        (row for row in rows if base in row["variants"]), key=lambda row: str(row["divergence"]), reverse=True
    )
    shown = [name for name in VARIANTS if name != base and any(name in row["variants"] for row in rows)]
    for number, name in enumerate(shown):
        found = [(place, row) for place, row in enumerate(rows) if name in row["variants"]]
        height = 0.8 / len(shown)
        places = [place + (number - (len(shown) - 1) / 2) * height for place, _ in found]
        times = [[decisive(row["variants"][one]["times"])["median"] for one in (name, base)] for _, row in found]
        axes.barh(places, [own / other for own, other in times], height, color=COLOURS[name], label=name)
    axes.axvline(1.0, color=COLOURS["plain"], linewidth=1)
    axes.set_yticks(range(len(rows)), [row["divergence"] for row in rows], fontsize=8)
    axes.set(xlabel=f"time, as a multiple of {base}")
    axes.set_title(f"forward and backward, {shape(rows[0])}", fontsize=10)
    axes.legend(fontsize=8)


def _steps(record: Any) -> Figure:
    keys = list(dict.fromkeys((row["model"], row["batch"], row["pixels"]) for row in record["rows"]))
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False, sharey=True)[0], keys, strict=True):
        rows = [row for row in record["rows"] if (row["model"], row["batch"], row["pixels"]) == key]
        middle = [row["ratio"]["median"] for row in rows]
        low = [row["ratio"]["median"] - row["ratio"]["low"] for row in rows]
        high = [row["ratio"]["high"] - row["ratio"]["median"] for row in rows]
        axes.barh([row["name"] for row in rows], middle, xerr=[low, high], color=COLOURS["compile"], label="measured")
        limits = [(row["limit"], place) for place, row in enumerate(rows) if row["limit"] is not None]
        axes.plot(
            *zip(*limits, strict=True), "|", color=COLOURS["plain"], markersize=11, markeredgewidth=2, label="limit"
        )
        axes.axvline(1.0, color=COLOURS["plain"], linewidth=1)
        axes.set(xlabel="time of a step, as a multiple of a plain one")
        axes.set_title(f"{key[0]}, {key[1]} images of {key[2]} x {key[2]}", fontsize=10)
        axes.tick_params(axis="y", labelsize=8)
        axes.legend(fontsize=8, loc="upper right")
    axes.invert_yaxis()
    return figure


def _scaling(record: Any) -> Figure:
    names = list(dict.fromkeys(row["axis"] for row in record["rows"]))
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    panels = list(figure.subplots(2, -(-len(names) // 2), squeeze=False).flat)
    for axes, name in zip(panels, names, strict=False):
        rows = [row for row in record["rows"] if row["axis"] == name]
        for row, colour in zip(rows, list(COLOURS.values())[1:], strict=False):
            low, middle, high = ([1e3 * one[key] for one in row["seconds"]] for key in ("low", "median", "high"))
            label = f"{row['variant']}: {row['exponent']['median']:.2f}"
            axes.plot(row["points"], middle, marker="o", color=colour, label=label)
            axes.fill_between(row["points"], low, high, color=colour, alpha=0.3)
        slowest = max(1e3 * row["seconds"][-1]["high"] for row in rows)
        fastest = min(1e3 * row["seconds"][0]["low"] for row in rows)
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="time (ms)", ylim=(fastest / 2, slowest * 2))
        axes.set_xticks(rows[0]["points"], list(map(str, rows[0]["points"])))
        axes.yaxis.set(
            major_locator=LogLocator(subs=(1.0, 2.0, 5.0)), major_formatter=FuncFormatter(lambda y, _: f"{y:g}")
        )
        axes.minorticks_off()
        axes.set_title(rows[0]["case"], fontsize=8)
        axes.legend(fontsize=8, title="exponent", title_fontsize=8)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure
