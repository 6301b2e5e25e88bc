"""Batches of samples that lie in files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import saliency_losses as sl
from examples.synthetic_faces.arm import Arm
from saliency_losses.data import SaliencyDataset, collate

from .base import Batch, Batches
from .maps import arrange, blurred_background


class FileBatches(Batches):
    """Samples read when they are asked for, a batch at a time, with what an arm changes of them.

    Args:
        samples: The samples.
        arm: Whose kinds of maps and blurs to apply; None leaves the samples as they are.
        means: The maps (2, H, W) of the classes on average, for arms that use those.
        seed: Of what is drawn for each image, which is the same in every epoch.
    """

    def __init__(
        self, samples: SaliencyDataset, arm: Arm | None = None, means: Tensor | None = None, seed: int = 0
    ) -> None:
        self.samples, self.arm, self.means, self.seed = samples, arm, means, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        batch: Batch = collate([self.samples[index] for index in indices])
        if self.arm is None or not self.arm.uses_maps:
            return batch
        human, annotated = batch["human_saliency"], batch["annotated"]
        if self.means is not None:
            human = self.means[batch["targets"]]
        elif self.arm.maps in ("displaced", "uniform"):
            human = arrange(self.arm.maps, human, batch["targets"], torch.Generator())
        if self.arm.map_blur:
            human = sl.maps.blur(human, self.arm.map_blur * human.shape[-1])
        batch["human_saliency"] = torch.where(annotated[:, None, None], human, 0.0)
        if self.arm.background_blur:
            for place, index in enumerate(indices):
                if annotated[place]:
                    rng = torch.Generator().manual_seed(self.seed * len(self) + index)
                    one = slice(place, place + 1)
                    batch["images"][one] = blurred_background(
                        batch["images"][one], human[one], self.arm.background_blur, rng
                    )
        return batch


def class_means(samples: SaliencyDataset) -> Tensor:
    """The mean map (2, H, W) of each class over its annotated samples; zeros where there is none."""
    chosen = samples.annotated.nonzero().flatten().tolist()
    sums = torch.zeros(2, *samples[0]["human_saliency"].shape, dtype=torch.float64)
    for index in chosen:
        sample = samples[index]
        sums[sample["target"]] += sample["human_saliency"]
    counts = samples.targets[chosen].bincount(minlength=2).clamp_min(1)
    return (sums / counts[:, None, None]).float()
