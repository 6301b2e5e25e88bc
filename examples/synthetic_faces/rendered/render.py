"""Renders sets of faces with fingerprints, noise and annotations, as pure functions of a seed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from .annotations import human_maps, parts_masks
from .cameras import TRAINING, Camera
from .defects import Defects
from .faces import Traits, draw
from .generators import Generator

SIZE = 48
CHUNK = 100
Place = Literal["outside", "face", "marked", "none"]
"""Where generators leave their fingerprint: in background and hair, on the face, where people mark, or nowhere."""


@dataclass(frozen=True)
class Faces:
    """Images (N, 3, S, S), classes (N,), 1 being synthetic; human maps, face parts and face masks, all (N, S, S)."""

    images: Tensor
    targets: Tensor
    human: Tensor
    parts: Tensor
    face: Tensor

    def __add__(self, other: Faces) -> Faces:
        """Both sets, one after the other."""
        return Faces(*(torch.cat([getattr(part, f.name) for part in (self, other)]) for f in fields(self)))


def render(
    count: int,
    seed: int,
    fake: bool,
    generator: Generator | None = None,
    *,
    place: Place = "outside",
    defective: bool = True,
    cameras: tuple[Camera, ...] = TRAINING,
    size: int = SIZE,
) -> Faces:
    """Renders ``count`` faces of one class, taken by the cameras in turn.

    The same seed gives the same faces, defects, noise and annotations whatever ``generator`` (None: no fingerprint),
    ``place`` and ``defective`` say, which makes renders with and without them pairs. The first faces of a larger set
    are those of a smaller one, where both are multiples of ``CHUNK``.
    """
    streams = [torch.Generator().manual_seed(4 * (2 * seed + fake) + stream) for stream in range(4)]
    parts = []
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start)
        traits, defects = Traits.sample(n, streams[0]), Defects.sample(n, streams[1])
        shown = defects if fake and defective else defects.removed()
        images, outside, face = draw(traits, shown, size)
        images = _photograph(images, cameras)
        human = human_maps(traits, defects, fake, size, streams[3])
        if fake and generator is not None and place != "none":
            where = {"outside": outside, "face": face, "marked": human}[place]
            images = images + where[:, None] * generator.fingerprint(size)
        noise = torch.tensor([cameras[i % len(cameras)].noise for i in range(n)])
        images = images + noise[:, None, None, None] * torch.randn(images.shape, generator=streams[2])
        targets = torch.full((n,), int(fake))
        parts.append(Faces(images.clamp(0.0, 1.0), targets, human, parts_masks(traits, size), face))
    return Faces(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Faces)))


def _photograph(images: Tensor, cameras: tuple[Camera, ...]) -> Tensor:
    taken = torch.empty_like(images)
    for first, camera in enumerate(cameras):
        taken[first :: len(cameras)] = camera.photograph(images[first :: len(cameras)])
    return taken
