"""A first minute with the package: ``python -m saliency_losses`` trains a toy with and without human maps.

Rings and crosses lie anywhere in noise. In training a small corner mark goes with the class (red: ring, blue: cross);
in testing its colour is random. Plain training takes the mark, guided training the shape. Data, score and divergence
were chosen so that guidance helps; this proves nothing about other data. It needs torch alone.
"""

import argparse
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import saliency_losses as sl

SIZE = 32
ZOOM = 3
RADIUS = 6
COUNT = 512
EPOCHS = 10
BATCH = 32
COLUMNS = 10
PAPER, GREEN, RED = (0.97, 0.97, 0.97), (0.16, 0.65, 0.38), (0.86, 0.20, 0.20)
NIGHT_TO_LIGHT = ((0.03, 0.03, 0.10), (0.35, 0.07, 0.43), (0.80, 0.24, 0.31), (0.98, 0.60, 0.10), (0.99, 1.00, 0.70))

USAGE = """The same in your own loop:

    guided = sl.SaliencyGuidedLoss(model, sl.create_extractor("cam", score="contrast"), "correlation", alpha=0.5)
    out = guided(images, labels, human_saliency)
    out.loss.backward()"""


class Shapes(NamedTuple):
    """Images (B, 3, H, W), labels (ring or cross), discs (B, H, W) around the shapes, and whether the mark misleads."""

    images: Tensor
    labels: Tensor
    human: Tensor
    misled: Tensor


def make_shapes(generator: torch.Generator, *, mark_tells: bool) -> Shapes:
    """Images whose corner mark gives the label away, or has a random colour."""
    labels = torch.randint(2, (COUNT,), generator=generator)
    centres = torch.randint(RADIUS + 3, SIZE - RADIUS - 3, (COUNT, 2, 1, 1), generator=generator)
    pixels = torch.arange(SIZE)
    dy, dx = pixels.view(1, -1, 1) - centres[:, 0], pixels.view(1, 1, -1) - centres[:, 1]
    distance = (dy.square() + dx.square()).sqrt()
    ring = (distance - 4).abs() < 1
    cross = (torch.minimum((dx - dy).abs(), (dx + dy).abs()) < 1.3) & (distance < RADIUS - 0.5)
    shape = torch.where(labels.view(-1, 1, 1) == 1, cross, ring).unsqueeze(1)
    grey = 0.35 + 0.4 * shape + 0.15 * torch.randn(COUNT, 1, SIZE, SIZE, generator=generator)
    corners = torch.zeros(4, 1, SIZE, SIZE, dtype=torch.bool)
    for corner, (row, column) in zip(corners, ((1, 1), (1, -4), (-4, 1), (-4, -4)), strict=True):
        corner[:, row:, column:][:, :3, :3] = True
    colour = labels if mark_tells else torch.randint(2, (COUNT,), generator=generator)
    paint = torch.tensor([[0.9, 0.3, 0.2], [0.2, 0.5, 0.9]])[colour].view(-1, 3, 1, 1)
    images = torch.where(corners[torch.randint(4, (COUNT,), generator=generator)], paint, grey)
    return Shapes(images.clamp(0, 1), labels, (distance < RADIUS).float(), colour != labels)


def make_model() -> nn.Module:
    """Three convolutions, global average pooling, one linear layer."""
    layers: list[nn.Module] = []
    for channels, out, stride in ((3, 16, 2), (16, 16, 1), (16, 32, 1)):
        layers += [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


def train(data: Shapes, *, alpha: float) -> sl.SaliencyGuidedLoss:
    """The trained model in its loss; alpha 1 is plain training.

    Two logits decide by their difference, so the map explains that: explaining the true class alone can leave the mark
    the other logit to hide in.
    """
    torch.manual_seed(0)
    model = make_model()
    guided = sl.SaliencyGuidedLoss(model, sl.create_extractor("cam", score="contrast"), "correlation", alpha=alpha)
    optimizer = torch.optim.Adam(model.parameters())
    steps = EPOCHS * COUNT // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(COUNT).view(-1, BATCH):
            out = guided(data.images[batch], data.labels[batch], data.human[batch])
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            schedule.step()
    return guided.eval()


def look(guided: sl.SaliencyGuidedLoss, data: Shapes) -> tuple[Tensor, Tensor]:
    """Which answers are right, (B,), and what spoke for them, (B, H, W) from 0 to 1."""
    with torch.no_grad():
        right = guided.model(data.images).argmax(1) == data.labels
        maps = guided.explain(data.images).relu()
    maps = F.interpolate(maps.unsqueeze(1), (SIZE, SIZE), mode="bilinear").squeeze(1)
    return right, maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-6)


def heat(images: Tensor, maps: Tensor) -> Tensor:
    """Maps (B, H, W) as colours over the dimmed images, (B, 3, H, W)."""
    stops = torch.tensor(NIGHT_TO_LIGHT)
    place = maps.clamp(0, 1) * (len(stops) - 1)
    below = place.long().clamp_max(len(stops) - 2)
    share = (place - below).unsqueeze(-1)
    colours = (stops[below] * (1 - share) + stops[below + 1] * share).movedim(-1, 1)
    return 0.3 * images.mean(1, keepdim=True) + 0.7 * colours


def tiles(panels: Tensor, frames: Tensor) -> Tensor:
    """Panels (N, 3, H, W) in frames of the given colours (N, 3), side by side: (3, h, w)."""
    side = SIZE * ZOOM + 6
    framed = frames.view(-1, 3, 1, 1).repeat(1, 1, side, side)
    framed[:, :, 3:-3, 3:-3] = F.interpolate(panels, scale_factor=ZOOM)
    return torch.cat(list(F.pad(framed, [4] * 4, value=PAPER[0])), dim=2)


def png(image: Tensor) -> bytes:
    """An image (3, H, W) in [0, 1] as a PNG file."""
    height, width = image.shape[1:]
    rows = (image.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).reshape(height, -1)
    raw = bytes(F.pad(rows, (1, 0)).flatten().tolist())

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def main() -> None:
    """Train twice, print what changed, save the picture."""
    parser = argparse.ArgumentParser("python -m saliency_losses", description="Train a toy with and without guidance.")
    parser.add_argument("--output", type=Path, default="saliency_losses_toy.png", help="picture (default: %(default)s)")
    path: Path = parser.parse_args().output
    torch.set_num_threads(1)
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    training, test = make_shapes(generator, mark_tells=True), make_shapes(generator, mark_tells=False)
    print("Ring or cross? In training a coloured corner mark gives it away; in testing the mark is random.\n")
    print(f"{'':<10}{'train':>10}{'test':>10}{'map on shape':>16}")
    shown = torch.cat([which.nonzero().flatten()[: COLUMNS // 2] for which in (~test.misled, test.misled)])
    images, paper = test.images[shown], torch.tensor(PAPER).expand(COLUMNS, 3)
    rows = [tiles(images, paper), tiles(heat(images, test.human[shown]), paper)]
    for name, alpha in (("plain", 1.0), ("guided", 0.5)):
        guided = train(training, alpha=alpha)
        fitted = look(guided, training)[0].float().mean()
        right, maps = look(guided, test)
        share = ((maps * test.human).sum((1, 2)) / maps.sum((1, 2)).clamp_min(1e-6)).mean()
        print(f"{name:<10}{fitted:>10.1%}{right.float().mean():>10.1%}{share:>16.1%}")
        frames = torch.where(right[shown, None], torch.tensor(GREEN), torch.tensor(RED))
        rows.append(tiles(heat(images, maps[shown]), frames))
    try:
        path.write_bytes(png(torch.cat(rows, dim=1)))
    except OSError as error:
        sys.exit(f"python -m saliency_losses: cannot write {path}: {error.strerror}")
    print(f"\n{time.perf_counter() - started:.1f} s. The picture shows images (in its right half the mark misleads),")
    print(f"human maps, and where plain and guided look (green frame: right, red: wrong):\n{path}\n\n{USAGE}")


if __name__ == "__main__":
    main()
