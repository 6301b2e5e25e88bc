"""Plausible results of a study, and a source that gives its images: for tests of what is made of results."""

from dataclasses import asdict

import numpy as np
import torch

from examples.synthetic_faces import arm as arms
from examples.synthetic_faces.results import Result
from examples.synthetic_faces.sources.base import Source

GENERATORS = ("checks", "chroma", "columns", "diagonal", "rings", "rows")
GROUPS = ("authentic/studio", "authentic/street", *(f"unseen/{name}" for name in GENERATORS), "training/waves")
SHIFT = {"no guidance": 0.6, "own": 2.6, "shuffled": 0.8, "class_mean": 0.9, "parts": 2.2}
TWELVE = ("cross_entropy", "cross_entropy_7x", "cyborg", "cyborg_parts", "cam_kl", "cam_correlation", "grad_cam",
          "cam_additive", "background_blurred", "map_head", "shuffled", "uniform")  # fmt: skip


def result(arm, seed, *, fingerprint="outside", network="small", images=40, changes=None, maps=True):
    """One training of the arm; the better its maps, the better it generalises."""
    settings = asdict(arms.change(arms.load(arm), changes or {}))
    random = np.random.default_rng([seed, *arm.encode(), *fingerprint.encode()])
    guided = settings["extractor"] is not None
    shift = SHIFT.get(settings["maps"], 0.7) * settings["annotated"] ** 0.2 if guided else SHIFT["no guidance"]
    shift = 4.0 if fingerprint == "none" else shift + 0.15 * random.standard_normal()
    hard = np.random.default_rng(7).standard_normal(images)
    scores = {}
    for group in GROUPS:
        centre = -1.0 if group.startswith("authentic") else shift - 1.0 + (3.0 if group.startswith("training") else 0.0)
        scores[group] = (centre + 0.6 * hard + random.standard_normal(images)).astype(np.float32)
    real = np.concatenate([scores[group] for group in GROUPS[:2]])
    metrics = {f"auc/{group}": float((scores[group][:, None] > real).mean()) for group in GROUPS[2:]}
    metrics["auc_unseen"] = float(np.mean([metrics[f"auc/unseen/{name}"] for name in GENERATORS]))
    own = (0.6 + 0.25 * random.random() if guided else -0.4) + 0.02 * random.standard_normal()
    metrics |= {
        "auc_fingerprint_free": metrics["auc_unseen"] - 0.02, "flip_rate_fingerprint": max(0.0, 1.0 - shift / 2.7),
        "logit_change_fingerprint": -4.0 + shift, "flip_rate_defect": min(1.0, shift / 2.8),
        "called_fake/training/training": 0.97, "authentic_called_fake": 0.03,
        "logit_change_defect": -shift, "alignment": own, "alignment_shuffled": own - 0.1 * guided,
        "alignment_occlusion": own - 0.3, "alignment_occlusion_shuffled": own - 0.35,
    }  # fmt: skip
    epochs = [
        {"epoch": float(n), "train_accuracy": 1 - 0.5 / (n + 1), "seconds": 3.0, "loss": 1 / (n + 1),
         "validation_accuracy": 1 - 0.5 / (n + 1) ** 0.8 - 0.02 * random.random()}
        for n in range(1, 9)
    ]  # fmt: skip
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 12)))
    blob = np.exp(-4 * ((grid[0] - 0.3 * guided) ** 2 + (grid[1] - 0.6 * guided) ** 2)).astype(np.float32)
    stored = {}
    if maps:
        stored = {f"average/{name}": blob * (1 if guided else -1) for name in ("authentic", "synthetic")}
        stored |= {f"human/{name}": blob**2 for name in ("authentic", "synthetic")}
        stored |= {f"gallery/{group}": np.stack([np.roll(blob, n, 1) for n in range(4)]) for group in GROUPS}
    data = {"data": "rendered", "fingerprint": fingerprint, "test_seed": 190000}
    plan = {"network": network, "images": 2400, "epochs": 8, "batch": 64, "rate": 0.006, "workers": 0}
    told = {"arm": settings, "plan": plan, "seed": seed, "data": data}
    return Result(arm, settings["title"], network, seed, told, metrics, epochs, scores, stored, 40.0)


def results(names=TWELVE, seeds=(100, 101, 102), *, gate=True, **options):
    """Every arm with every seed, and what the gate needs."""
    trained = [result(name, seed, **options) for name in names for seed in seeds]
    if gate:
        trained += [result("cross_entropy", seed, fingerprint="none", **options) for seed in seeds]
    return trained


class Images(torch.utils.data.Dataset):
    """A few noisy images of a group."""

    def __init__(self, group):
        self.authentic = group.startswith("authentic")

    def __len__(self):
        return 4

    def __getitems__(self, indices):
        torch.manual_seed(3)
        faces = torch.rand(4, 3, 48, 48) * 0.3 + torch.linspace(0, 0.6, 48)
        human = torch.zeros(4, 48, 48)
        human[:, 30:44, 24:40] = 1.0
        chosen = torch.tensor(indices)
        targets = torch.full((len(indices),), 0 if self.authentic else 1)
        return {"images": faces[chosen], "targets": targets, "human_saliency": human[chosen], "annotated": chosen != 3}


class FakeSource(Source):
    """Test images only."""

    def training(self, arm, seed):
        raise NotImplementedError

    def validation(self):
        raise NotImplementedError

    def tests(self):
        return {group: Images(group) for group in GROUPS}

    def annotated(self):
        return None

    label = "fake"

    def describe(self):
        return {"data": "rendered"}
