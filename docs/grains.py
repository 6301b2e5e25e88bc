"""``python -m docs.grains`` draws ``images/grains.png``: one recording of gaze as maps of every grain."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from saliency_losses import maps

SIZE = (100, 150)
DEGREE = 7.0


def gaze() -> torch.Tensor:
    """Two places that were looked at, and four fixations that strayed."""
    torch.manual_seed(5)
    first = torch.randn(25, 2) * torch.tensor([9.0, 5.0]) + torch.tensor([45.0, 35.0])
    second = torch.randn(20, 2) * 5.0 + torch.tensor([100.0, 72.0])
    return torch.cat([first, second, torch.tensor([[138.0, 10.0], [12.0, 90.0], [140.0, 45.0], [90.0, 10.0]])])


def draw(path: Path) -> None:
    """Write the picture."""
    fixations = gaze()
    weights = maps.denoise_fixations(fixations, distance=2 * DEGREE)
    heat = maps.fixations_to_map(fixations, SIZE, sigma=DEGREE, weights=weights)
    region = maps.threshold(heat, top=0.15)
    panels = {
        "fixations": torch.zeros(SIZE),
        "fixations_to_map": heat,
        "threshold, top=0.15": region,
        "features": heat * maps.area(region),
        "boundary, thickness=2": maps.boundary(region, thickness=2),
        "convex_hull": maps.convex_hull(region),
        "bounding_box": maps.bounding_box(region),
        "per_component=True": maps.bounding_box(region, per_component=True),
    }
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    for axes, (title, panel) in zip(figure.subplots(2, 4).flat, panels.items(), strict=True):
        axes.imshow(panel.numpy(), cmap="magma")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    for keep, colour in ((weights > 0, "white"), (weights == 0, "tomato")):
        figure.axes[0].scatter(*fixations[keep].T.numpy(), s=6, c=colour)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    draw(Path(__file__).resolve().parent / "images" / "grains.png")
