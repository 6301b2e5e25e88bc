"""The scenes: a photographed patch, face or not, pasted on a photographed texture, and where people say to look."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE = 48
PATCHES = {"training": 50, "validation": 20, "test": 30}  # of each class
REGIONS = {"training": (0, 224), "validation": (224, 304), "test": (304, 512)}  # columns of the texture photographs
TEXTURES = ("grass", "brick", "gravel")
PAIRS = tuple(permutations(range(len(TEXTURES)), 2))  # the texture of non-faces in training, and that of faces
SMALLEST, LARGEST = 20, 28  # sides of a pasted patch, in pixels
SPLIT_SEED = 0

Split = Literal["training", "validation", "test"]


class Scenes(NamedTuple):
    """Scenes and how they were made.

    Attributes:
        images: Grey images (N, 1, S, S) in [0, 1].
        targets: 1 for a face, 0 for none (N,).
        human: What a person marks (N, S, S) in [0, 1].
        textures: Index of the texture around the patch (N,).
        patches: Number of the patch (N,).
    """

    images: Tensor
    targets: Tensor
    human: Tensor
    textures: Tensor
    patches: Tensor


@cache
def photographs() -> tuple[Tensor, Tensor]:
    """Patches (200, 25, 25), faces first, and textures (3, 512, 512), all in [0, 1]; both come with scikit-image."""
    from skimage import data as stored

    data: Any = stored
    patches = torch.tensor(data.lfw_subset(), dtype=torch.float32)
    textures = torch.stack([torch.tensor(getattr(data, name)(), dtype=torch.float32) for name in TEXTURES]) / 255
    return patches, textures


def split_patches(split: Split) -> Tensor:
    """The patches of a split, as many of each class; no patch is in two splits."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    halves = [start + torch.randperm(100, generator=generator) for start in (0, 100)]
    first = sum(PATCHES[name] for name in list(PATCHES)[: list(PATCHES).index(split)])
    return torch.cat([half[first : first + PATCHES[split]] for half in halves])


def tied(patches: Tensor, seed: int) -> Tensor:
    """The texture of each patch where textures go with the label; which ones do changes with the seed."""
    return torch.tensor(PAIRS[seed % len(PAIRS)])[is_face(patches)]


def swapped(patches: Tensor, seed: int) -> Tensor:
    """The texture of each patch with the two textures swapped."""
    return torch.tensor(PAIRS[seed % len(PAIRS)][::-1])[is_face(patches)]


def mixed(patches: Tensor, seed: int) -> Tensor:
    """One of the two textures at random, whatever the label."""
    draw = torch.randint(2, patches.shape, generator=torch.Generator().manual_seed(seed + 50_000))
    return torch.tensor(PAIRS[seed % len(PAIRS)])[draw]


def is_face(patches: Tensor) -> Tensor:
    """1 where the patch is a face, else 0."""
    return (patches < 100).long()


def paste(patches: Tensor, textures: Tensor, split: Split, seed: int) -> Scenes:
    """Pastes patches on crops of textures; the same seed gives the same places, sizes and flips on any texture.

    Args:
        patches: Numbers of the patches (N,).
        textures: The texture around each (N,).
        split: Which part of the texture photographs the crops are taken from.
        seed: Of all that is random.
    """
    photos, surroundings = photographs()
    generator = torch.Generator().manual_seed(seed)
    count = len(patches)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def flips() -> Tensor:
        return torch.randint(2, (count,), generator=generator) * 2 - 1

    left, right = REGIONS[split]
    rows = (uniform(0, 1) * (surroundings.shape[1] - SIZE + 1)).long().view(-1, 1, 1) + torch.arange(SIZE).view(-1, 1)
    columns = (left + uniform(0, 1) * (right - left - SIZE + 1)).long().view(-1, 1, 1) + torch.arange(SIZE)
    crops = surroundings[textures.view(-1, 1, 1), rows, columns]
    crops = torch.where(flips().view(-1, 1, 1) > 0, crops, crops.flip(2))

    side = uniform(SMALLEST, LARGEST)
    centre = SIZE / 2 + uniform(-0.5, 0.5, 2) * (SIZE - side).unsqueeze(1)
    inside = _coordinates(centre, side)
    turned = inside * torch.stack([flips(), torch.ones(count)], 1).view(-1, 1, 1, 2)
    pasted = F.grid_sample(photos[patches].unsqueeze(1), turned, padding_mode="border", align_corners=False).squeeze(1)
    bright_patch, bright_crop = uniform(0.8, 1.2, 1, 1), uniform(0.8, 1.2, 1, 1)
    images = torch.lerp((crops * bright_crop).clamp(0, 1), (pasted * bright_patch).clamp(0, 1), _square(inside, side))

    displaced = centre + 1.5 * torch.randn(count, 2, generator=generator)
    drawn = side * uniform(0.9, 1.15)
    human = _square(_coordinates(displaced, drawn), drawn, softness=5.0)
    return Scenes(images.unsqueeze(1), is_face(patches), human, textures, patches)


def _coordinates(centre: Tensor, side: Tensor) -> Tensor:
    """Each pixel's (x, y) in squares that reach from -1 to 1: (N, S, S, 2)."""
    steps = torch.arange(SIZE) + 0.5
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
    return (pixels - centre.view(-1, 1, 1, 2)) / (side / 2).view(-1, 1, 1, 1)


def _square(inside: Tensor, side: Tensor, softness: float = 1.0) -> Tensor:
    """One inside the square and zero outside (N, S, S), with edges that fade over so many pixels."""
    depth = (1 - inside.abs().amax(-1)) * side.view(-1, 1, 1) / 2
    return (depth / softness + 0.5).clamp(0, 1)


def training_scenes(count: int, seed: int, *, textures: Literal["tied", "mixed"] = "tied") -> Scenes:
    """Scenes of the training patches, faces and others in turn, each patch as often as any other or once more."""
    pool = split_patches("training").view(2, -1).T.flatten()
    patches = pool[torch.arange(count) % len(pool)]
    return paste(patches, (tied if textures == "tied" else mixed)(patches, seed), "training", seed)


def transplant(scenes: Scenes, donors: Scenes) -> Tensor:
    """What people marked in each scene, moved to where they marked the donor: images (N, 1, S, S)."""
    shift = _middle(donors.human) - _middle(scenes.human)
    where = torch.arange(SIZE) - shift.unsqueeze(-1)
    rows, columns = where.clamp(0, SIZE - 1).unbind(1)
    there = (rows.eq(where[:, 0]).unsqueeze(2) & columns.eq(where[:, 1]).unsqueeze(1)).float()
    number = torch.arange(len(rows)).view(-1, 1, 1)
    moved, marked = (
        maps[number, rows.unsqueeze(2), columns.unsqueeze(1)] for maps in (scenes.images[:, 0], scenes.human)
    )
    region = torch.maximum(marked * there, donors.human) > 0.1
    return torch.where(region, moved, donors.images[:, 0]).unsqueeze(1)


def _middle(human: Tensor) -> Tensor:
    """Row and column (N, 2) of the centre of mass."""
    steps = torch.arange(SIZE, dtype=torch.float32)
    total = human.sum((1, 2))
    return torch.stack([(human.sum(2) @ steps) / total, (human.sum(1) @ steps) / total], 1).round().long()
