"""What the study asks of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from examples.synthetic_faces.arm import Arm

Batch = dict[str, Any]
"""The keywords of a guided step: images, targets, human_saliency and annotated."""


class Batches(Dataset[Batch], ABC):
    """A data set that gives whole batches, which costs one in memory a single indexing."""

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples of these indices."""


class Source(ABC):
    """Training, validation and test images."""

    @abstractmethod
    def training(self, arm: Arm, seed: int) -> Batches:
        """What the arm is trained on: its share of maps, of its kind, on as many images as it gets."""

    @abstractmethod
    def validation(self) -> Batches:
        """Images of the training generator that no network is trained on."""

    @abstractmethod
    def tests(self) -> dict[str, Batches]:
        """Test images by group.

        Groups are named "authentic/<source>", "unseen/<generator>" and "training/<generator>"; "paired/<state>" holds
        the fakes of the training generator once more, image by image, in another state.
        """

    @abstractmethod
    def annotated(self) -> Batches | None:
        """Images with human maps to compare the network's with, if possible such as no network is trained on."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What the folder of its results is called."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What it takes to make the same data again."""
