"""The rendered faces as a source of the study."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

import saliency_losses as sl
from examples.synthetic_faces.arm import Arm
from examples.synthetic_faces.rendered import cameras, generators
from examples.synthetic_faces.rendered.render import Faces, Place, render

from .base import Batch, Batches, Source
from .maps import arrange, blurred_background

VALIDATION_SEED = 80_000
TEST_SEEDS = {"development": 150_000, "test": 290_000}
GENERATOR_SEEDS = {"development": 0, "test": 20_261_124}
"""Of test faces and unseen generators; those named "test" were first drawn when all else was settled."""

Drawn = Literal["development", "test"]
PAIRED: dict[str, tuple[bool, bool]] = {
    "fingerprint removed": (False, True),
    "defect repaired": (True, False),
    "neither": (False, False),
}
"""Whether a state of the training generator's fakes keeps the fingerprint, and the defect."""


class TensorBatches(Batches):
    """Samples that lie in memory, given a batch at a time."""

    def __init__(self, images: Tensor, targets: Tensor, human: Tensor, annotated: Tensor) -> None:
        self.images, self.targets, self.human, self.annotated = images, targets, human, annotated

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        return {
            "images": self.images[chosen],
            "targets": self.targets[chosen],
            "human_saliency": self.human[chosen],
            "annotated": self.annotated[chosen],
        }


def whole(faces: Faces) -> TensorBatches:
    """The faces with their own maps."""
    return TensorBatches(faces.images, faces.targets, faces.human, torch.ones(len(faces.images), dtype=torch.bool))


class RenderedSource(Source):
    """Faces with planted fingerprints, see :mod:`..rendered`.

    Args:
        images: Size of the training set, half of it authentic.
        validation: Of the validation set.
        test: Test faces of each class and generator.
        fingerprint: Where generators leave theirs; with "none", the training generator leaves none.
        drawn: Which test faces and unseen generators: those that the study was developed on, or those of its claims.
    """

    def __init__(
        self, images: int, validation: int, test: int, fingerprint: Place = "outside", drawn: Drawn = "test"
    ) -> None:
        if min(images, validation, test) < 6:
            raise ValueError(f"images={images}, validation={validation} and test={test} must be at least 6")
        self.images, self.held_back, self.test, self.fingerprint, self.drawn = (
            images, validation, test, fingerprint, drawn
        )  # fmt: skip

    def training(self, arm: Arm, seed: int) -> TensorBatches:
        """See :meth:`Source.training`."""
        faces = _both(self.images * arm.data, seed, self.fingerprint)
        rng = torch.Generator().manual_seed(seed)
        human, images = faces.human, faces.images
        if arm.maps in ("parts", "face"):
            human = getattr(faces, arm.maps)
        elif arm.uses_maps:
            human = arrange(arm.maps, human, faces.targets, rng)
        if arm.map_blur:
            human = sl.maps.blur(human, arm.map_blur * human.shape[-1])
        if arm.background_blur:
            images = blurred_background(images, human, arm.background_blur, rng)
        annotated = _share(faces.targets, arm.annotated, rng)
        images = torch.where(annotated[:, None, None, None], images, faces.images)
        return TensorBatches(images, faces.targets, human, annotated)

    def validation(self) -> TensorBatches:
        """See :meth:`Source.validation`."""
        return whole(_both(self.held_back, VALIDATION_SEED, self.fingerprint))

    def tests(self) -> dict[str, Batches]:
        """See :meth:`Source.tests`."""
        return {name: whole(faces) for name, faces in _tests(self.test, self.fingerprint, self.drawn).items()}

    def annotated(self) -> TensorBatches:
        """See :meth:`Source.annotated`; test faces, authentic ones and those of the training generator."""
        groups = _tests(self.test, self.fingerprint, self.drawn)
        first, *others = (faces for name, faces in groups.items() if name.startswith(("authentic/", "training/")))
        return whole(sum(others, first))

    @property
    def label(self) -> str:
        """See :attr:`Source.label`."""
        return f"fingerprint-{self.fingerprint}"

    def describe(self) -> dict[str, Any]:
        """See :meth:`Source.describe`."""
        return {
            "kind": "rendered",
            "fingerprint": self.fingerprint,
            "images": self.images,
            "validation": self.held_back,
            "test": self.test,
            "drawn": self.drawn,
        }


@lru_cache(maxsize=2)
def _both(count: int, seed: int, place: Place) -> Faces:
    fakes = render(count // 2, seed, True, generators.TRAINING, place=place)
    return render(count // 2, seed, False) + fakes


@lru_cache(maxsize=1)
def _tests(count: int, place: Place, drawn: Drawn) -> dict[str, Faces]:
    """The authentic faces of each camera, and the same fakes of every generator and in every state."""
    everyone, seed = cameras.TRAINING + cameras.UNSEEN, TEST_SEEDS[drawn]
    shown: Place = "outside" if place == "none" else place
    groups = {
        f"authentic/{camera.name}": render(count // len(everyone), seed + index, False, cameras=(camera,))
        for index, camera in enumerate(everyone)
    }
    fakes: dict[str, tuple[generators.Generator | None, bool]] = {"training/training": (generators.TRAINING, True)}
    for state, (printed, defective) in PAIRED.items():
        fakes[f"paired/{state}"] = (generators.TRAINING if printed else None, defective)
    for generator in generators.unseen(GENERATOR_SEEDS[drawn]):
        fakes[f"unseen/{generator.name}"] = (generator, True)
    for name, (generator_or_none, defective) in fakes.items():
        groups[name] = render(count, seed, True, generator_or_none, place=shown, defective=defective, cameras=everyone)
    return groups


def _share(targets: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Which samples keep their map: the same share (at least one) of each class."""
    annotated = torch.zeros(len(targets), dtype=torch.bool)
    for label in set(targets.tolist()):
        members = (targets == label).nonzero().flatten()
        kept = max(1, round(share * len(members))) if share else 0
        annotated[members[torch.randperm(len(members), generator=rng)[:kept]]] = True
    return annotated
