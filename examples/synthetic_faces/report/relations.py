"""AUC on unseen generators against alignment with human maps, and against the share of annotated images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from .comparison import Comparison, Row
from .style import COLOURS, FAINT, PLAIN, WIDE, drawing, heading, quiet, short


def draw_alignment(path: Path, comparison: Comparison, invalid: bool) -> bool:
    """Each training's alignment with human maps against its AUC on unseen generators; whether there is any."""
    rows = [row for row in comparison.rows if row.values("alignment") and row.values("auc_unseen")]
    if not rows:
        return False
    with drawing(path, invalid, figsize=(WIDE, max(4.2, 0.3 * len(rows) + 1.4))) as figure:
        axis, names = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.5))
        middles = []
        for row in rows:
            colour, points = COLOURS[row.kind], _points(row)
            for own, other, auc in points:
                if other is not None:
                    axis.plot([other, own], [auc, auc], color=colour, lw=0.8, alpha=0.6)
                    axis.plot(other, auc, "|", color=colour, ms=7)
                axis.scatter(own, auc, s=30, color=colour, edgecolor="white", linewidth=0.7, zorder=3)
            middles.append((mean(p[2] for p in points), mean(p[0] for p in points), row))
        quiet(axis, "both")
        heading(axis, "Looking where people look, and generalising")
        axis.set_xlabel("correlation with human maps: dot, of the same face; tick, of another face of the class")
        axis.set_ylabel("AUC, unseen generators")
        low, high = axis.get_ylim()
        axis.set_ylim(low, high)
        right = axis.get_xlim()[1]
        axis.set_xlim(axis.get_xlim()[0], right)
        names.set_axis_off()
        names.set_xlim(0, 1)
        middles.sort(key=lambda middle: middle[0])
        places = spaced([auc for auc, _, _ in middles], (high - low) / max(len(middles) + 1, 14), low, high)
        for (auc, x, row), place in zip(middles, places, strict=True):
            axis.plot([x, right], [auc, auc], color=FAINT, lw=0.7, zorder=0)
            names.plot([-0.06, 0.06], [auc, place], color=COLOURS[row.kind], lw=0.7, clip_on=False)
            names.text(0.08, place, short(row.title, 36), color=COLOURS[row.kind], va="center", fontsize=9)
    return True


def spaced(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places moved apart to at least ``gap``, and into the limits while there is room.

    Example:
        >>> spaced([0.0, 0.1, 2.0], 1.0, 0.0, 5.0)
        [0.0, 1.0, 2.0]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    ceiling = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved if not moved or moved[0] >= low else [low + gap * index for index in range(len(moved))]


def _points(row: Row) -> list[tuple[float, float | None, float]]:
    metrics = [result.metrics for result in row.by_seed.values()]
    both = [m for m in metrics if "alignment" in m and "auc_unseen" in m]
    return [(m["alignment"], m.get("alignment_shuffled"), m["auc_unseen"]) for m in both]


def draw_annotation(path: Path, comparison: Comparison, invalid: bool) -> bool:
    """AUC against the share of annotated images, one line per extractor and divergence; whether shares differ."""
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in comparison.rows:
        if row.kind == "guided" and row.mean("auc_unseen") is not None:
            parts = {k: v for k, v in row.settings.items() if k not in ("name", "title", "annotated")}
            lines.setdefault(repr(sorted(parts.items())), []).append((row.settings.get("annotated", 1.0), row))
    curves = [sorted(line, key=lambda point: point[0]) for line in lines.values() if len({x for x, _ in line}) > 1]
    if not curves:
        return False
    with drawing(path, invalid, figsize=(WIDE, 3.6)) as figure:
        axis = figure.subplots()
        least = min(x for curve in curves for x, _ in curve if x > 0)
        axis.set_xscale("symlog", linthresh=least)
        ends = []
        for index, curve in enumerate(curves):
            colour = f"C{index}"
            axis.plot([x for x, _ in curve], [mean(row.values("auc_unseen")) for _, row in curve], color=colour, lw=1.8)
            for x, row in curve:
                axis.scatter([x] * len(row.values("auc_unseen")), row.values("auc_unseen"), s=20, color=colour)
            last = curve[-1][1]
            ends.append((last.mean("auc_unseen") or 0.0, curve[-1][0], colour, f"{last.settings['extractor']}, "
                         f"{last.settings.get('divergence', 'mse')}"))  # fmt: skip
        baseline = comparison.baseline.mean("auc_unseen") if comparison.baseline else None
        if baseline is not None:
            axis.axhline(baseline, color=PLAIN, lw=1.2, ls=(0, (4, 3)))
            axis.annotate(
                "cross-entropy", (least, baseline), (0, 4), textcoords="offset points", color=PLAIN, fontsize=9
            )
        low, high = axis.get_ylim()
        ends.sort()
        for (_, x, colour, text), place in zip(
            ends, spaced([end[0] for end in ends], (high - low) / 14, low, high), strict=True
        ):
            axis.annotate(text, (x, place), (8, 0), textcoords="offset points", color=colour, va="center", fontsize=9)
        shares = sorted({x for curve in curves for x, _ in curve})
        axis.set_xticks(shares, [f"{100 * x:g} %" for x in shares])
        axis.minorticks_off()
        axis.set_xlabel("share of training images that are annotated")
        axis.set_ylabel("AUC, unseen generators")
        quiet(axis, "y")
        heading(axis, "How much annotation it takes")
    return True
