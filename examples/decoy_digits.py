"""Decoy digits: a give-away in the corner, and people who say that it is none of the model's business.

Scanned digits get a grey swatch in a random corner. In training its grey level tells the label; in testing it is
random. A plain network reads the swatch; the same network, told where to look or where not to, reads the digit. Set-up,
network and the right-reasons loss follow Ross, Hughes and Doshi-Velez, Right for the Right Reasons (IJCAI 2017), who
report 0.52 plain and 0.96 guided on MNIST; the digits here come with scikit-learn, so that nothing is downloaded.

Run ``python -m examples.decoy_digits``: it prints a table and leaves ``maps.png`` and ``results.json``.

What it shows: a human map can remove a shortcut that labels alone invite, and the kind of divergence matters.
``right_reasons`` makes saliency on the swatch cost in absolute terms and comes out near the network that never saw a
swatch (forbidding all but the digit costs some accuracy). ``correlation`` compares the shapes of maps: a swatch that is
faint *relative* to the digit costs little, and a faint look is enough to read a grey level, so it helps in part.

What it does not show: which divergence is best elsewhere. The human maps are exact and there for every image, and the
swatch is as large as it takes to fool the plain network. No weight was tuned: ``saliency_weight=1`` in each guided row.
"""

import argparse
import json
import math
import time
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Literal, NamedTuple

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.divergences import Correlation, RightReasons
from saliency_losses.extractors import InputGradient

MARGIN = 4  # The 8x8 digit sits in the middle of a 16x16 canvas; the swatch fills one 4x4 corner of it.
TEST_SIZE, BATCH = 450, 64
Decoy = Literal["tells", "random", "absent"]

# 1. The data: images, labels, and what people would mark in them.


class Digits(NamedTuple):
    """Images (B, 1, 16, 16), labels (B,), and two human maps (B, 16, 16): where the digit is, and where the swatch."""

    images: Tensor
    labels: Tensor
    digit: Tensor
    swatch: Tensor


def make_digits(scans: Tensor, labels: Tensor, decoy: Decoy, seed: int) -> Digits:
    """Put 8x8 scans on a canvas, with a swatch in a random corner, and mark both."""
    generator = torch.Generator().manual_seed(seed)
    canvas = F.pad(scans, [MARGIN] * 4)
    digit = F.max_pool2d((canvas > 0.2).float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    corners = torch.zeros(4, *canvas.shape[1:])
    for corner, (row, column) in zip(corners, ((0, 0), (0, -MARGIN), (-MARGIN, 0), (-MARGIN, -MARGIN)), strict=True):
        corner[row:, column:][:MARGIN, :MARGIN] = 1.0
    swatch = corners[torch.randint(4, labels.shape, generator=generator)]
    tone = labels if decoy == "tells" else torch.randint(10, labels.shape, generator=generator)
    grey = (255 - 25 * tone).float().view(-1, 1, 1) / 255
    images = canvas if decoy == "absent" else torch.where(swatch > 0, grey, canvas)
    return Digits(images.unsqueeze(1), labels, digit, swatch)


# 2. The ways to train: each is an extractor, a divergence, and which human map they get.


class Arm(NamedTuple):
    """One row of the table; without weight, the divergence is not even computed."""

    name: str
    divergence: sl.Divergence
    human: Literal["digit", "swatch"] = "digit"
    weight: float = 1.0
    decoy: Decoy = "tells"


def log_probabilities(output: Tensor, targets: Tensor) -> Tensor:
    """What Ross et al. explain: the summed log-probabilities of all classes, hence whatever moves any of them."""
    return output.log_softmax(1).sum(1)


EXTRACTOR = InputGradient(score=log_probabilities)
ARMS = {
    "bound": Arm("plain, no swatch", Correlation(), weight=0.0, decoy="absent"),
    "plain": Arm("plain", Correlation(), weight=0.0),
    "correlation": Arm("correlation", Correlation()),
    "look_here": Arm("right_reasons, look here", RightReasons(human="look_here")),
    "never_here": Arm("right_reasons, never here", RightReasons(human="never_here"), human="swatch"),
}


# 3. Training: guidance is one line in an otherwise ordinary loop.


def train(arm: Arm, data: Digits, epochs: int, seed: int) -> nn.Module:
    """Ross et al.'s network with 50 and 30 hidden units, trained by Adam on a one-cycle schedule."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 50), nn.ReLU(), nn.Linear(50, 30), nn.ReLU(), nn.Linear(30, 10))
    guided = sl.SaliencyGuidedLoss(model, EXTRACTOR, arm.divergence, saliency_weight=arm.weight)
    human = data.digit if arm.human == "digit" else data.swatch
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * math.ceil(len(data.labels) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(data.labels)), BATCH):
            loss = guided(data.images[batch], data.labels[batch], human[batch]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(model: nn.Module, data: Digits) -> float:
    """Share of images whose most likely class is the label."""
    with torch.no_grad():
        return round(float((model(data.images).argmax(1) == data.labels).float().mean()), 4)


# 4. What comes out: a table and a picture.


def make_table(results: dict[str, dict[str, list[float]]]) -> Table:
    """A row for each arm."""
    table = Table("", "training", "random swatch", "no swatch", title="Accuracy, mean ± deviation over seeds")
    for key, columns in results.items():
        cells = [f"{mean(v):.3f}" + (f" ± {stdev(v):.3f}" if len(v) > 1 else "") for v in columns.values()]
        table.add_row(ARMS[key].name, *cells)
    return table


def draw(models: dict[str, nn.Module], data: Digits, path: Path) -> None:
    """One digit a column: the image, the human maps, and where each model looks with what it answers."""
    chosen = torch.stack([(data.labels == label).nonzero()[0, 0] for label in range(10)])
    images, labels, digit, swatch = (tensor[chosen] for tensor in data)
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    grid = figure.subplots(2 + len(models), 10, subplot_kw={"xticks": [], "yticks": []})
    for row, name in zip(grid, ("test image", "human maps", *models), strict=True):
        row[0].set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center", fontsize=11)
    paint = torch.tensor([[0.15, 0.68, 0.55], [0.87, 0.25, 0.25]])
    for column, image, marked in zip(grid.T, images, torch.stack([digit, swatch], -1), strict=True):
        column[0].imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
        column[1].imshow((marked @ paint).numpy())
    for row, model in zip(grid[2:], models.values(), strict=True):
        output, maps = EXTRACTOR(model, images, labels)
        answers = output.argmax(1).tolist()
        for axis, saliency, answer, label in zip(row, maps.detach(), answers, labels.tolist(), strict=True):
            axis.imshow(saliency.numpy(), cmap="inferno", vmin=0)
            colour = "#2a9d5c" if answer == label else "#d62828"
            axis.set_xlabel(f"says {answer}", color=colour, fontweight="bold", labelpad=2)
    figure.suptitle("Human maps: the digit (green), the swatch (red). Below: where each network looks and what it says")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Train every arm on every seed, print the table, save the picture and the numbers."""
    parser = argparse.ArgumentParser(description="Decoy digits: plain against saliency-guided training.")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="for each network (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/decoy_digits"), help="folder (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one seed and few epochs, to see that it runs")
    options = parser.parse_args()
    if min(options.seeds, options.epochs) < 1:
        parser.error("--seeds and --epochs must be at least 1")
    seeds, epochs = (1, 4) if options.quick else (options.seeds, options.epochs)
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # Networks this small lose more to the hand-over between threads than they gain.
    started = time.perf_counter()
    raw = load_digits()
    scans, labels = torch.tensor(raw.images, dtype=torch.float32) / 16, torch.tensor(raw.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, training = order[:TEST_SIZE], order[TEST_SIZE:]
    results: dict[str, dict[str, list[float]]] = {key: {} for key in ARMS}
    models: dict[str, nn.Module] = {}
    for seed, key in track(list(product(range(seeds), ARMS)), "training", transient=True):
        data = make_digits(scans[training], labels[training], ARMS[key].decoy, seed)
        swapped = make_digits(scans[test], labels[test], "random", seed)
        bare = make_digits(scans[test], labels[test], "absent", seed)
        models[key] = train(ARMS[key], data, epochs, seed)
        for name, split in (("train", data), ("test_random_swatch", swapped), ("test_no_swatch", bare)):
            results[key].setdefault(name, []).append(accuracy(models[key], split))
    seconds = round(time.perf_counter() - started, 1)
    report = {"seeds": seeds, "epochs": epochs, "seconds": seconds, "accuracy": results}
    (options.output / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    draw({key: model for key, model in models.items() if key != "bound"}, swapped, options.output / "maps.png")
    Console().print(make_table(results))
    print(f"{seconds} s; maps.png and results.json are in {options.output}")


if __name__ == "__main__":
    main()
