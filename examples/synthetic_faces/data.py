"""Data sets of faces, fingerprints, noise and annotations, as pure functions of a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .annotations import human_maps
from .defects import Defects
from .faces import Traits, draw
from .generators import TRAINING, UNSEEN, fingerprint

SIZE = 48
NOISE = 0.02
FIRST_SEED, TEST_SEED = 100, 190_000
"""Of training sets and of test faces; none of either was drawn while the experiment was being designed."""


@dataclass(frozen=True)
class Faces:
    """Images (N, 3, S, S), classes (N,) and human maps (N, S, S)."""

    images: Tensor
    targets: Tensor
    human: Tensor

    def __add__(self, other: Faces) -> Faces:
        """Both sets, one after the other."""
        pairs = ((self.images, other.images), (self.targets, other.targets), (self.human, other.human))
        return Faces(*(torch.cat(pair) for pair in pairs))


def render(
    count: int,
    seed: int,
    fake: bool,
    generator: str | None = TRAINING,
    defective: bool = True,
    size: int = SIZE,
) -> Faces:
    """Renders ``count`` faces of one class.

    The same seed gives the same faces, defects, noise and annotations whatever ``generator`` (None: no
    fingerprint) and ``defective`` say, which makes renders with and without them pairs.
    """
    streams = [torch.Generator().manual_seed(4 * (2 * seed + fake) + stream) for stream in range(4)]
    parts = []
    for start in range(0, count, 128):
        n = min(128, count - start)
        traits, defects = Traits.sample(n, streams[0]), Defects.sample(n, streams[1])
        shown = defects if fake and defective else defects.removed()
        images, outside = draw(traits, shown, size)
        if fake and generator is not None:
            images = images + outside[:, None] * fingerprint(generator, size)
        images = images + NOISE * torch.randn(images.shape, generator=streams[2])
        human = human_maps(traits, defects, fake, size, streams[3])
        parts.append(Faces(images.clamp(0.0, 1.0), torch.full((n,), int(fake)), human))
    return Faces(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "targets", "human")))


@lru_cache(maxsize=2)
def training_set(count: int, seed: int, generator: str | None = TRAINING) -> Faces:
    """``count`` faces, half of them authentic; kept, since several arms train on the same ones."""
    return render(count // 2, seed, fake=False) + render(count // 2, seed, fake=True, generator=generator)


@dataclass(frozen=True)
class HeldOut:
    """The same fakes in every state: with and without fingerprint and defect, and of every generator."""

    authentic: Faces
    fakes: dict[str, Faces]

    @staticmethod
    @lru_cache(maxsize=1)
    def render(count: int) -> HeldOut:
        """``count`` authentic faces and as many fakes, none of which any network is trained on."""
        states: dict[str, tuple[str | None, bool]] = {
            "fingerprint and defect": (TRAINING, True),
            "fingerprint": (TRAINING, False),
            "defect": (None, True),
            "neither": (None, False),
            **{generator: (generator, True) for generator in UNSEEN},
        }
        fakes = {state: render(count, TEST_SEED, True, *how) for state, how in states.items()}
        return HeldOut(render(count, TEST_SEED, fake=False), fakes)
