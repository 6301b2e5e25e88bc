"""Pictures of the results: scores per arm, faces with maps, average maps."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from .arms import Arm
from .data import HeldOut
from .experiment import GALLERY_SIZE, Gate, gallery

Array = NDArray[np.float32]
INK, FAINT, GUIDED, CONTROL, PLAIN = "#1f2430", "#d9dce3", "#2a78b8", "#9aa1ad", "#d1495b"


def draw_all(folder: Path, arms: list[Arm], results: list[dict[str, Any]], gate: Gate, test_faces: int) -> None:
    """Draws ``results.png``, ``faces.png`` and ``average_cam.png`` into the folder."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK})
    trained = [result for result in results if result["fingerprint"]]
    first = {result["arm"]: result for result in reversed(trained)}
    draw_scores(folder / "results.png", arms, results, gate)
    draw_faces(folder / "faces.png", [arm for arm in arms if arm.maps == "own"], first)
    draw_averages(folder / "average_cam.png", arms, trained, test_faces)


def draw_scores(path: Path, arms: list[Arm], results: list[dict[str, Any]], gate: Gate) -> None:
    """One dot per seed, a bar to the mean; dashed, plain cross-entropy that never met a fingerprint."""
    panels = {"auc_unseen": "Unseen generators", "auc_fingerprint_free": "Fingerprint removed"}
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.48 * len(arms) + 1.5), sharey=True, layout="constrained")
    for axis, (metric, title) in zip(axes, panels.items(), strict=True):
        for row, arm in enumerate(arms):
            colour = PLAIN if arm.extractor is None else GUIDED if arm.maps == "own" else CONTROL
            values = [r["metrics"][metric] for r in results if r["fingerprint"] and r["arm"] == arm.name]
            axis.plot([0.5, mean(values)], [row, row], color=colour, alpha=0.22, lw=9, solid_capstyle="butt")
            axis.plot([mean(values)] * 2, [row - 0.27, row + 0.27], color=colour, lw=2.5)
            axis.scatter(values, [row] * len(values), s=34, color=colour, edgecolor="white", linewidth=0.8, zorder=3)
        unspoilt = mean(r["metrics"][metric] for r in results if not r["fingerprint"])
        axis.axvline(unspoilt, color=INK, lw=1.2, ls=(0, (4, 3)))
        axis.set_title(title, fontsize=12, fontweight="bold", loc="left")
        axis.set_xlabel("AUC (0.5 is guessing)")
        axis.set_xlim(min(0.5, *(result["metrics"][metric] for result in results)) - 0.02, 1.01)
        axis.axvline(0.5, color=FAINT, lw=1, zorder=0)
        axis.tick_params(length=0, colors=INK)
        axis.grid(axis="x", color=FAINT, lw=0.6)
        axis.set_axisbelow(True)
        axis.spines[:].set_visible(False)
    axes[0].text(0.985, -0.68, "trained without fingerprint", ha="right", va="center", fontsize=8)
    axes[0].set_yticks(range(len(arms)), [arm.title for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.9)
    if not gate.passed:
        figure.suptitle("INVALID: gate failed", color=PLAIN, fontweight="bold")
    figure.savefig(path, dpi=160, facecolor="white")
    plt.close(figure)


def draw_faces(path: Path, arms: list[Arm], results: dict[str, dict[str, Any]]) -> None:
    """Rows of faces: the image, where people marked it, and where each network of the first seed looked."""
    faces = gallery(GALLERY_SIZE)
    columns = [
        ("face", None),
        ("people", faces.human),
        *((arm.title, torch.as_tensor(results[arm.name]["gallery_maps"])) for arm in arms),
    ]
    count = len(faces.images)
    figure, axes = plt.subplots(
        count,
        len(columns),
        figsize=(1.5 * len(columns) + 0.3, 1.5 * count + 0.4),
        squeeze=False,
        layout=ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.0, hspace=0.0),
    )
    for row in range(count):
        image = faces.images[row].permute(1, 2, 0).numpy()
        for column, (title, maps) in enumerate(columns):
            axis = axes[row, column]
            axis.imshow(image if maps is None else overlay(image, maps[row]), interpolation="lanczos")
            _bare(axis)
            if row == 0:
                axis.set_title(
                    heading(title),
                    fontsize=10,
                    fontweight="bold",
                    va="bottom",
                )
        axes[row, 0].set_ylabel("synthetic" if faces.targets[row] else "authentic", fontsize=10)
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


def draw_averages(path: Path, arms: list[Arm], results: list[dict[str, Any]], test_faces: int) -> None:
    """One row per class: the average human map, and the average map of every arm over faces and seeds."""
    test = HeldOut.render(test_faces)
    classes = {"authentic": test.authentic, "synthetic": test.fakes["fingerprint and defect"]}
    figure, axes = plt.subplots(
        2, len(arms) + 1, figsize=(1.5 * (len(arms) + 1) + 0.3, 3.6), squeeze=False, layout="constrained"
    )
    for row, (label, faces) in enumerate(classes.items()):
        maps = {"people": faces.human.mean(0)}
        for arm in arms:
            found = [torch.as_tensor(r["average_maps"][row]) for r in results if r["arm"] == arm.name]
            maps[arm.title] = torch.stack([unit(m) for m in found]).mean(0)
        for column, (title, average) in enumerate(maps.items()):
            axis = axes[row, column]
            axis.imshow(enlarge(average, 96), cmap="magma", vmin=0.0, vmax=1.0)
            _bare(axis)
            if row == 0:
                axis.set_title(
                    heading(title),
                    fontsize=9,
                    fontweight="bold",
                    va="bottom",
                )
        axes[row, 0].set_ylabel(label, fontsize=10)
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


def heading(title: str) -> str:
    """The title on two lines."""
    return re.sub(r"[:,] ", "\n", title, count=1)


def unit(values: Tensor) -> Tensor:
    """Scaled to [0, 1]."""
    span = (values.max() - values.min()).clamp_min(1e-12)
    return (values - values.min()) / span


def enlarge(values: Tensor, size: int) -> Array:
    """A map (h, w) smoothly enlarged to (size, size) and scaled to [0, 1]."""
    larger = torch.nn.functional.interpolate(
        values[None, None].float(), (size, size), mode="bicubic", align_corners=False
    )
    scaled: Array = unit(larger[0, 0].clamp(float(values.min()), float(values.max()))).numpy()
    return scaled


def overlay(image: Array, values: Tensor) -> Array:
    """The image (S, S, 3), greyed, under the map (h, w) in colour."""
    heat = enlarge(values, len(image))[..., None]
    grey = 0.25 * image + 0.75 * image.mean(-1, keepdims=True)
    colour = matplotlib.colormaps["turbo"](heat[..., 0])[..., :3]
    mixed: Array = grey * (1.0 - 0.72 * heat) + colour * 0.72 * heat
    return np.clip(mixed, 0.0, 1.0)


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
