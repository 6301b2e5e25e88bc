"""Draws the faces of the README from a finished study: ``python -m docs.faces_picture runs/synthetic_faces``."""

import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from examples.synthetic_faces import arm as arms
from examples.synthetic_faces.networks import build
from examples.synthetic_faces.plan import Plan
from examples.synthetic_faces.rendered import SIZE, Faces, generators, render
from saliency_losses.viz import overlay

ARMS = ("cross_entropy", "cyborg", "cam_correlation", "background_blurred", "shuffled")
SEED, LARGE = 95_006, 240


def faces(size: int) -> Faces:
    """Three synthetic faces of the training generator and two authentic ones."""
    fakes = render(3, SEED, True, generators.TRAINING, size=size)
    return fakes + render(2, SEED, False, size=size)


def draw(study: Path, network_seed: int) -> Figure:
    """Rows of faces: the image, where people marked it, and where networks of one seed look."""
    seen, shown = faces(SIZE), faces(LARGE)
    columns = {"face": None, "people": shown.human}
    for name in ARMS:
        arm = arms.load(name)
        guided = (
            arms.load("cam_correlation").guide(build(Plan())) if arm.extractor is None else arm.guide(build(Plan()))
        )
        weights = study / "fingerprint-outside" / name / "small" / f"seed-{network_seed}" / "model.pt"
        guided.model.load_state_dict(torch.load(weights, weights_only=True))
        columns[re.sub("[:,] ", "\n", arm.title, count=1)] = guided.eval().explain(seen.images, seen.targets)
    figure, axes = plt.subplots(
        len(seen.images), len(columns), figsize=(1.55 * len(columns), 1.5 * len(seen.images) + 0.5)
    )
    for row, line in enumerate(axes):
        for axis, (title, maps) in zip(line, columns.items(), strict=True):
            image = shown.images[row]
            axis.imshow(image.permute(1, 2, 0).numpy() if maps is None else overlay(image, maps[row].detach()))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row == 0:
                axis.set_title(title, fontsize=9.5, fontweight="bold", va="bottom")
        line[0].set_ylabel("synthetic" if seen.targets[row] else "authentic", fontsize=10)
    figure.tight_layout(pad=0.3, w_pad=0.2, h_pad=0.2)
    return figure


if __name__ == "__main__":
    draw(Path(sys.argv[1]), 100).savefig(Path(__file__).with_name("images") / "faces.jpg", dpi=110, facecolor="white")
