"""Pictures of the results: worst-group accuracy by arm, and scenes with maps."""

from __future__ import annotations

import textwrap
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from .arms import Arm
from .data import SIZE
from .experiment import Gate, gallery
from .report import of_arm

INK, FAINT, GUIDED, CONTROL, PLAIN, WITHOUT = "#1f2430", "#d9dce3", "#2a78b8", "#9aa1ad", "#d1495b", "#3a8f63"
RIGHT, WRONG = "#2a7d4f", "#c8273a"


def draw_scores(path: Path, arms: list[Arm], results: list[dict[str, Any]], gate: Gate) -> None:
    """One dot per seed, a bar to the mean."""
    figure = Figure(figsize=(9.5, 0.5 * len(arms) + 1.4), layout="constrained")
    axis = figure.subplots()
    for position, arm in enumerate(arms):
        values = [r["metrics"]["worst_group"] for r in of_arm(results, arm.name)]
        colour = colour_of(arm)
        axis.barh(position, mean(values), height=0.62, color=colour, alpha=0.22)
        axis.plot([mean(values)] * 2, [position - 0.31, position + 0.31], color=colour, lw=2.5)
        heights = position + 0.36 * (torch.arange(len(values)) / max(len(values) - 1, 1) - 0.5)
        axis.scatter(values, heights.tolist(), s=26, color=colour, edgecolor="white", linewidth=0.7, zorder=3)
        axis.text(1.03, position, f"{mean(values):.2f}", va="center", color=INK, fontsize=10)
    axis.axvline(0.5, color=INK, lw=1, ls=(0, (4, 3)))
    axis.set_yticks(range(len(arms)), [arm.title for arm in arms], color=INK)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.set_xlim(-0.02, 1.1)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_xlabel("accuracy in the worst group of label and texture (dashed: guessing); a dot is a seed")
    axis.grid(axis="x", color=FAINT, lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    if not gate.passed:
        figure.suptitle("INVALID: gate failed", color=PLAIN, fontweight="bold")
    figure.savefig(path, dpi=150, facecolor="white")


def draw_gallery(path: Path, arms: list[Arm], results: list[dict[str, Any]]) -> None:
    """Rows of test scenes: the image, the human map, and each network's map with its answer, for the first seed."""
    first = {arm.name: of_arm(results, arm.name)[0] for arm in arms}
    scenes = gallery(first[arms[0].name]["seed"])
    count = len(scenes.targets)
    figure = Figure(figsize=(1.32 * (len(arms) + 2) + 0.9, 1.5 * count + 0.7), layout="constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    grid = figure.subplots(count, len(arms) + 2, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for axis, title in zip(grid[0], ("test scene", "human map", *(arm.title for arm in arms)), strict=True):
        axis.set_title("\n".join(textwrap.wrap(title, 15)), fontsize=9, fontweight="bold", va="bottom", color=INK)
    for number, axes in enumerate(grid):
        label = "face" if scenes.targets[number] else "no face"
        axes[0].set_ylabel(f"{label}\n{('as in training', 'swapped')[number % 2]}", fontsize=9, color=INK)
        show(axes[0], scenes.images[number, 0])
        show(axes[1], scenes.images[number, 0], scenes.human[number])
        for axis, arm in zip(axes[2:], arms, strict=True):
            maps, said = first[arm.name]["gallery"]
            show(axis, scenes.images[number, 0], torch.as_tensor(maps[number]))
            colour = RIGHT if said[number] == scenes.targets[number] else WRONG
            axis.set_xlabel(f"says {'face' if said[number] else 'no face'}", color=colour, fontsize=9, labelpad=2)
    figure.savefig(path, dpi=130, facecolor="white")


def colour_of(arm: Arm) -> str:
    """Red for cross-entropy, green for what needs no saliency loss, grey for controls, blue for guidance."""
    if arm.extractor is None:
        return PLAIN if arm.scenes == "tied" else WITHOUT
    return GUIDED if arm.maps == "own" else CONTROL


def show(axis: Axes, image: Tensor, saliency: Tensor | None = None) -> None:
    """The grey image, under a map from its least (blue) to its greatest (yellow) value."""
    axis.spines[:].set_visible(False)
    axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
    if saliency is not None:
        larger = F.interpolate(saliency[None, None].float(), (SIZE, SIZE), mode="bilinear")[0, 0]
        axis.imshow(larger.numpy(), cmap="plasma", alpha=0.6)
