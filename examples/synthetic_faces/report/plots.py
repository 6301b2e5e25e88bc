"""Plots of one row per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes

from .comparison import Comparison, Row
from .statistics import Estimate
from .style import COLOURS, INK, WIDE, drawing, heading, quiet, short
from .tables import Estimates


@dataclass(frozen=True)
class Panel:
    """One axis of a plot of arms.

    Attributes:
        title: Above it.
        unit: Below it.
        values: Of each training, by the arm's title.
        estimates: With their intervals, by the arm's title.
        origin: Where bars begin.
        target: A line to compare with, and what it is called.
        ends: The axis's limits; by default as the values are.
    """

    title: str
    unit: str
    values: Mapping[str, Sequence[float]]
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    origin: float = 0.0
    target: tuple[float, str] | None = None
    ends: tuple[float, float] | None = None


def draw_gains(path: Path, comparison: Comparison, invalid: bool, estimates: Estimates) -> bool:
    """Mean AUC on unseen generators, and its difference from cross-entropy; whether there was anything to draw."""
    rows, baseline = comparison.rows, comparison.baseline
    aucs = {row.title: row.values("auc_unseen") for row in rows}
    if not any(aucs.values()):
        return False
    unspoilt = comparison.unspoilt.mean("auc_unseen") if comparison.unspoilt else None
    target = None if unspoilt is None else (unspoilt, "trained without fingerprint")
    panels = [Panel("AUC on unseen generators", "AUC (0.5 is guessing)", aucs, estimates.means, 0.5, target)]
    if baseline and estimates.gains:
        differences = {row.title: _paired(row, baseline) for row in rows if row is not baseline}
        panels.append(
            Panel("Gain over cross-entropy", "difference of AUC, 95 % interval", differences, estimates.gains)
        )
    draw_arms(path, rows, panels, invalid)
    return True


def draw_pairs(path: Path, comparison: Comparison, invalid: bool) -> bool:
    """The paired renders; whether there are any."""
    panels = []
    for metric, title, unit in (
        ("auc_fingerprint_free", "Fakes without fingerprint", "AUC (0.5 is guessing)"),
        ("flip_rate_fingerprint", "Fingerprint removed", "decisions that flip (0: shortcut ignored)"),
        ("flip_rate_defect", "Defect repaired", "decisions that flip (1: cue used)"),
    ):
        values = {row.title: row.values(metric) for row in comparison.rows}
        if any(values.values()):
            is_auc = metric.startswith("auc")
            panels.append(
                Panel(title, unit, values, origin=0.5 if is_auc else 0.0, ends=None if is_auc else (-0.03, 1.03))
            )
    if panels:
        draw_arms(path, comparison.rows, panels, invalid)
    return bool(panels)


def draw_arms(path: Path, rows: Sequence[Row], panels: Sequence[Panel], invalid: bool) -> None:
    """One dot per training, a bar to the mean, a line for the interval."""
    size = (WIDE, 0.33 * len(rows) + 1.5)
    with drawing(path, invalid, figsize=size) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            for place, row in enumerate(rows):
                _arm(axis, place, row, panel)
            quiet(axis)
            heading(axis, panel.title)
            axis.set_xlabel(panel.unit)
            axis.axvline(panel.origin, color=INK, lw=0.8, zorder=0)
            if panel.ends:
                axis.set_xlim(*panel.ends)
            if panel.target:
                axis.axvline(panel.target[0], color=INK, lw=1.2, ls=(0, (4, 3)))
                axis.annotate(panel.target[1] + " ", (panel.target[0], -0.75), ha="right", va="center", fontsize=8)
        axes[0].set_yticks(range(len(rows)), [short(row.title, 40) for row in rows])
        for label, row in zip(axes[0].get_yticklabels(), rows, strict=True):
            label.set_color(COLOURS[row.kind])
        axes[0].set_ylim(len(rows) - 0.4, -1.1)


def _arm(axis: Axes, place: int, row: Row, panel: Panel) -> None:
    values, colour = panel.values.get(row.title, ()), COLOURS[row.kind]
    if not values:
        return
    centre = mean(values)
    axis.barh(place, centre - panel.origin, left=panel.origin, height=0.5, color=colour, alpha=0.18)
    estimate = panel.estimates.get(row.title)
    if estimate and estimate.interval:
        axis.plot(estimate.interval, [place, place], color=colour, lw=2.2, solid_capstyle="butt")
    axis.plot([centre] * 2, [place - 0.3, place + 0.3], color=colour, lw=2.5)
    axis.scatter(values, [place] * len(values), s=20, color=colour, edgecolor="white", linewidth=0.7, zorder=3)


def _paired(row: Row, baseline: Row) -> list[float]:
    both = sorted(row.by_seed.keys() & baseline.by_seed.keys())
    pairs = [[one.by_seed[seed].metrics.get("auc_unseen") for one in (row, baseline)] for seed in both]
    return [own - other for own, other in pairs if own is not None and other is not None]
