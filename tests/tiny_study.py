"""A study of a few noisy images that training takes milliseconds for; as a script, one process that trains arms."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from examples.synthetic_faces import distributed
from examples.synthetic_faces.arm import Arm
from examples.synthetic_faces.plan import Plan
from examples.synthetic_faces.sources.base import Source
from examples.synthetic_faces.train import train
from examples.synthetic_faces.trial import Trial


class Images(Dataset):
    """Noise with a bright patch in the images of class 1; six of ten have a map."""

    def __init__(self, count, seed):
        rng = torch.Generator().manual_seed(seed)
        self.targets = torch.randint(2, (count,), generator=rng)
        self.images = 0.7 * torch.rand(count, 3, 24, 24, generator=rng)
        self.images[:, 0, 4:10, 4:10] += 0.3 * self.targets[:, None, None]
        self.human = torch.rand(count, 24, 24, generator=rng)
        self.annotated = torch.rand(count, generator=rng) < 0.6

    def __len__(self):
        return len(self.images)

    def __getitems__(self, indices):
        chosen = torch.as_tensor(indices)
        return {
            "images": self.images[chosen],
            "targets": self.targets[chosen],
            "human_saliency": self.human[chosen],
            "annotated": self.annotated[chosen],
        }


class TinySource(Source):
    """Few images."""

    label = "tiny"

    def __init__(self, images=40, validation=27):
        self.images, self.held_back = images, validation

    def training(self, arm, seed):
        return Images(self.images, seed)

    def validation(self):
        return Images(self.held_back, 99)

    def tests(self):
        return {}

    def annotated(self):
        return None

    def describe(self):
        return {"kind": "tiny", "images": self.images, "validation": self.held_back}


ARMS = {
    "cross_entropy": Arm("cross_entropy"),
    "cam": Arm("cam", extractor="cam", divergence="kl", alpha=0.3, unguided_epochs=1),
    "grad_cam": Arm("grad_cam", extractor="grad_cam", divergence="mse", saliency_weight=0.7),
    "rise": Arm("rise", extractor="rise", divergence="mse", extractor_options={"n_masks": 3, "grid": 3}),
    "normalised": Arm("normalised", extractor="cam", divergence="mse", weighting="normalised"),
    "map_head": Arm("map_head", head_weight=0.5),
}
PLAN = Plan(epochs=3, batch=8)


def trial(arm="cam", seed=0, **plan):
    return Trial(ARMS[arm], replace(PLAN, **plan), seed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    names, folder, plan = sys.argv[1:]
    with distributed.joined():
        for name in names.split(","):
            one = trial(name, **json.loads(plan))
            train(one, TinySource(), Path(folder) / name, report=lambda text: print(text, flush=True))
