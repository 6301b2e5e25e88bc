"""Photographs and generated faces in the layout of the UND collection as a source of the study."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from examples.synthetic_faces.arm import Arm
from saliency_losses.data import Row, SaliencyDataset, from_und

from .base import Batches, Source
from .files import FileBatches, class_means
from .maps import arrange
from .und_layout import Layout

CLASSES = ("Real", "Synthetic")
LARGER = 7
"""How many times the training set's size the larger one has."""
COMPARED = 200
"""Annotated images of each class, at most, whose maps are compared with the network's."""
_LOG = logging.getLogger(__name__)


class UndSource(Source):
    """Images of two classes, "Real" and "Synthetic", that tables without a header name.

    Args:
        layout: Where the files are.
        size: The side that all images and maps get.

    Reference:
        Boyd, Tinsley, Bowyer, Czajka: *CYBORG: Blending Human Saliency Into the Loss Improves Deep Learning*, WACV
        2023.
    """

    def __init__(self, layout: Layout, size: int) -> None:
        self.layout, self.size = layout, size

    def training(self, arm: Arm, seed: int) -> FileBatches:
        """See :meth:`Source.training`."""
        if arm.data not in (1, LARGER):
            raise ValueError(f"the collection has a training set and a larger one: data=1 or {LARGER}, not {arm.data}")
        table = self.layout.train if arm.data == 1 else self.layout.large_table()
        samples = self._readable(self._train(table, self.layout.map_folder(arm.maps) if arm.uses_maps else None))
        means = class_means(samples) if arm.uses_maps and arm.maps == "class_mean" else None
        if arm.uses_maps and arm.maps == "shuffled":
            samples = self._of(shuffled(samples, seed))
        return FileBatches(samples.limit_annotations(arm.annotated, seed=seed), arm, means, seed)

    def validation(self) -> FileBatches:
        """See :meth:`Source.validation`."""
        return FileBatches(self._readable(self._held_out(self.layout.validation)))

    def tests(self) -> dict[str, Batches]:
        """See :meth:`Source.tests`."""
        groups: dict[str, Batches] = {}
        for name, table in self.layout.tests.items():
            samples = self._readable(self._held_out(table))
            kinds = ("authentic", "training" if name in self.layout.training_sets else "unseen")
            for label, kind in enumerate(kinds):
                chosen = (samples.targets == label).nonzero().flatten().tolist()
                if chosen:
                    groups[f"{kind}/{name}"] = FileBatches(samples.subset(chosen))
        authentic = [name.startswith("authentic/") for name in groups]
        if all(authentic) or not any(authentic):
            lacking, tables = CLASSES[all(authentic)], ", ".join(self.layout.tests.values())
            raise ValueError(f"no test table has a line of class {lacking}: {tables}. Add one by --test-csv NAME=FILE")
        return groups

    def annotated(self) -> FileBatches | None:
        """See :meth:`Source.annotated`; validation images if any has a map, else training images."""
        if self.layout.maps is None:
            return None
        drawn = {path.stem for path in Path(self.layout.maps).iterdir()}
        samples = self._held_out(self.layout.validation)
        if any(Path(row.image.path).stem in drawn for row in samples.rows):
            samples = self._held_out(self.layout.validation, self.layout.maps)
        else:
            samples = self._train(self.layout.train, self.layout.maps)
        with_map = samples.annotated
        few = [((samples.targets == label) & with_map).nonzero().flatten()[:COMPARED] for label in (0, 1)]
        return FileBatches(self._readable(samples.subset(torch.cat(few).tolist())))

    @property
    def label(self) -> str:
        """See :attr:`Source.label`."""
        return "und"

    def describe(self) -> dict[str, Any]:
        """See :meth:`Source.describe`; of tables it has a digest, of images and maps none."""
        return {"kind": "und", "size": self.size, **self.layout.describe()}

    def _read(self, table: str, maps: str | None, split: str | None) -> SaliencyDataset:
        return from_und(self.layout.root, table, maps=maps, split=split, classes=CLASSES, **self._options)

    def _train(self, table: str, maps: str | None) -> SaliencyDataset:
        return self._read(table, maps, "train")

    def _held_out(self, table: str, maps: str | None = None) -> SaliencyDataset:
        splits = dict.fromkeys(row.split for row in self._read(table, None, None).rows if row.split != "train")
        if not splits:
            raise ValueError(f"{table} has lines of the split 'train' alone; expected others, such as 'test'")
        return self._of([row for split in splits for row in self._read(table, maps, split).rows])

    def _of(self, rows: Sequence[Row]) -> SaliencyDataset:
        return SaliencyDataset(rows, classes=CLASSES, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        return {"size": (self.size, self.size), "stretch_maps": self.layout.stretch_maps}

    def _readable(self, samples: SaliencyDataset) -> SaliencyDataset:
        if not self.layout.skip_unreadable:
            return samples
        readable, errors = samples.verified()
        for error in errors:
            _LOG.warning("left out: %s", error)
        return readable


def shuffled(samples: SaliencyDataset, seed: int) -> list[Row]:
    """The rows, each annotated one with the map of another one of its class."""
    rows, with_map = list(samples.rows), samples.annotated.nonzero().flatten()
    rng = torch.Generator().manual_seed(seed)
    lenders = arrange("shuffled", with_map, samples.targets[with_map], rng)
    for taker, lender in zip(with_map.tolist(), lenders.tolist(), strict=True):
        rows[taker] = replace(rows[taker], maps=samples.rows[lender].maps)
    return rows
