"""Measures a trained network: on unseen generators, on paired renders, and against the human maps."""

from __future__ import annotations

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import saliency_losses as sl

from .data import Faces, HeldOut
from .generators import UNSEEN


@torch.no_grad()
def score(model: torch.nn.Module, images: Tensor) -> Tensor:
    """How fake each image is to the network: the difference (N,) of its logits; its threshold is zero."""
    logits = model(images.contiguous(memory_format=torch.channels_last))
    difference: Tensor = logits[:, 1] - logits[:, 0]
    return difference


def auc(authentic: Tensor, fake: Tensor) -> float:
    """Area under the ROC curve."""
    labels = torch.cat([torch.zeros(len(authentic)), torch.ones(len(fake))])
    return float(roc_auc_score(labels.numpy(), torch.cat([authentic, fake]).numpy()))


@torch.no_grad()
def explain(guided: sl.SaliencyGuidedLoss, faces: Faces) -> Tensor:
    """Raw maps (N, h, w) of the true class."""
    return guided.explain(faces.images, faces.targets)


def alignment(maps: Tensor, human: Tensor) -> float:
    """Mean correlation over images of raw maps (N, h, w) with human maps (N, S, S) shrunk to their size."""
    shrunk = torch.nn.functional.adaptive_avg_pool2d(human, (maps.shape[-2], maps.shape[-1]))
    return float(sl.divergences.pearson(maps.flatten(1), shrunk.flatten(1)).mean())


def evaluate(guided: sl.SaliencyGuidedLoss, test: HeldOut) -> tuple[dict[str, float], dict[str, float]]:
    """Measures what the tables show.

    Returns:
        The metrics by name, and the AUC of each unseen generator.
    """
    authentic = score(guided.model, test.authentic.images)
    fakes = {state: score(guided.model, faces.images) for state, faces in test.fakes.items()}
    generators = {generator: auc(authentic, fakes[generator]) for generator in UNSEEN}

    both = fakes["fingerprint and defect"]
    metrics = {
        "auc_unseen": sum(generators.values()) / len(generators),
        "auc_training_generator": auc(authentic, both),
        "auc_fingerprint_free": auc(authentic, fakes["defect"]),
        "authentic_called_fake": float((authentic > 0).float().mean()),
    }
    for removed, left in (("fingerprint", "defect"), ("defect", "fingerprint")):
        metrics[f"logit_change_{removed}"] = float((fakes[left] - both).mean())
        metrics[f"flip_rate_{removed}"] = float(((fakes[left] > 0) != (both > 0)).float().mean())
    for state in ("fingerprint and defect", "fingerprint", "defect", "neither"):
        metrics[f"called_fake_{state.replace(' ', '_')}"] = float((fakes[state] > 0).float().mean())
        metrics[f"mean_logit_{state.replace(' ', '_')}"] = float(fakes[state].mean())

    aligned, shuffled = [], []
    for faces in (test.authentic, test.fakes["fingerprint and defect"]):
        maps = explain(guided, faces)
        aligned.append(alignment(maps, faces.human))
        shuffled.append(alignment(maps, faces.human.roll(1, 0)))
    metrics["alignment"] = sum(aligned) / 2
    metrics["alignment_shuffled"] = sum(shuffled) / 2
    return metrics, generators
