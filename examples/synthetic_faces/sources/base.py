"""What the study asks of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch.utils.data import Dataset

from examples.synthetic_faces.arm import Arm

Batch = dict[str, Any]
"""The keywords of a guided step: images, targets, human_saliency and annotated."""


class Source(ABC):
    """Training, validation and test images.

    Each data set gives whole batches: ``dataset.__getitems__(indices)`` is a :data:`Batch`, which costs a rendered one
    a single indexing.
    """

    @abstractmethod
    def training(self, arm: Arm, seed: int) -> Dataset[Batch]:
        """What the arm is trained on: its share of maps, of its kind, on as many images as it gets."""

    @abstractmethod
    def validation(self) -> Dataset[Batch]:
        """Images of the training generator that no network is trained on."""

    @abstractmethod
    def tests(self) -> dict[str, Dataset[Batch]]:
        """Test images by group.

        Groups are named "authentic/<source>", "unseen/<generator>" and "training/<generator>"; "paired/<state>" holds
        the fakes of the training generator once more, image by image, in another state.
        """

    @abstractmethod
    def annotated(self) -> Dataset[Batch] | None:
        """Images with human maps to compare the network's with, if possible such as no network is trained on."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What the folder of its results is called."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What it takes to make the same data again."""
