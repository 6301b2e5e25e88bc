"""Measures a trained network: on unseen generators, on paired renders, and against the human maps."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import saliency_losses as sl

from .results import Array
from .sources import Batch, Batches, Source

BATCH, GALLERY, OCCLUDED = 100, 4, 20
"""Images at a time; images of a group whose maps are kept; images of a class that are occluded."""


@torch.no_grad()
def score(model: torch.nn.Module, images: Tensor) -> Tensor:
    """How fake each image is to the network: the difference (N,) of its logits; its threshold is zero."""
    logits = model(images)
    difference: Tensor = logits[:, 1] - logits[:, 0]
    return difference.float()


def auc(authentic: Array, fake: Array) -> float:
    """Area under the ROC curve."""
    labels = np.concatenate([np.zeros(len(authentic)), np.ones(len(fake))])
    return float(roc_auc_score(labels, np.concatenate([authentic, fake])))


def measure(scores: dict[str, Array]) -> dict[str, float]:
    """The metrics that the scores of the test groups give, see :class:`~.results.Result`."""
    authentic = np.concatenate([values for group, values in scores.items() if group.startswith("authentic/")])
    metrics = {"authentic_called_fake": float((authentic > 0).mean())}
    for group, values in scores.items():
        if not group.startswith("authentic/"):
            metrics[f"auc/{group}"] = auc(authentic, values)
            metrics[f"called_fake/{group}"] = float((values > 0).mean())
    for kind in ("unseen", "training"):
        found = [value for name, value in metrics.items() if name.startswith(f"auc/{kind}/")]
        if found:
            metrics[f"auc_{kind}"] = mean(found)
    both = scores.get("training/training")
    for state in ("fingerprint removed", "defect repaired"):
        left = scores.get(f"paired/{state}")
        if both is not None and left is not None:
            removed = state.split()[0]
            metrics[f"logit_change_{removed}"] = float((left - both).mean())
            metrics[f"flip_rate_{removed}"] = float(((left > 0) != (both > 0)).mean())
    if "auc/paired/fingerprint removed" in metrics:
        metrics["auc_fingerprint_free"] = metrics["auc/paired/fingerprint removed"]
    return metrics


def align(maps: Tensor, human: Tensor) -> tuple[float, float]:
    """Mean correlation of raw maps (N, h, w) with each image's human map (N, H, W), and with the next image's.

    The second tells how much of the first any face of the class would give.
    """
    shrunk = sl.maps.resize(human, (maps.shape[-2], maps.shape[-1]))
    own, other = (sl.divergences.pearson(maps.flatten(1), h.flatten(1)) for h in (shrunk, shrunk.roll(1, 0)))
    return float(own.mean()), float(other.mean())


def compare_maps(guided: sl.SaliencyGuidedLoss, annotated: Batches) -> tuple[dict[str, float], dict[str, Array]]:
    """Alignment with the human maps, class by class, of the arm's own map and of occlusion; and the average maps."""
    occlusion = sl.SaliencyGuidedLoss(guided.model, sl.extractors.Occlusion(), alpha=1.0).eval()
    explained = [(batch, guided.explain(batch["images"], batch["targets"])) for batch in _batches(annotated, guided)]
    batch = {
        key: torch.cat([b[key] for b, _ in explained]) for key in ("images", "targets", "human_saliency", "annotated")
    }
    maps = torch.cat([found for _, found in explained]).float()
    aligned, averages = [], {}
    for label, name in enumerate(("authentic", "synthetic")):
        chosen = (batch["targets"] == label) & batch["annotated"]
        human = batch["human_saliency"][chosen].float()
        if len(human) == 0:
            continue
        few = {key: value[chosen][:OCCLUDED] for key, value in batch.items()}
        occluded = occlusion.explain(few["images"], few["targets"]).float()
        aligned.append([*align(maps[chosen], human), *align(occluded, few["human_saliency"].float())])
        averages[f"average/{name}"] = maps[chosen].mean(0).numpy(force=True)
        averages[f"human/{name}"] = human.mean(0).numpy(force=True)
    names = ("alignment", "alignment_shuffled", "alignment_occlusion", "alignment_occlusion_shuffled")
    return {name: mean(values) for name, values in zip(names, zip(*aligned, strict=True), strict=False)}, averages


@torch.no_grad()
def evaluate(
    guided: sl.SaliencyGuidedLoss, source: Source
) -> tuple[dict[str, float], dict[str, Array], dict[str, Array]]:
    """Measures a trained network.

    Returns:
        The metrics, scores and maps of :class:`~.results.Result`.
    """
    guided.eval()
    scores, maps = {}, {}
    for group, dataset in source.tests().items():
        found = [score(guided.model, batch["images"]) for batch in _batches(dataset, guided)]
        scores[group] = torch.cat(found).numpy(force=True)
        first = next(_batches(dataset, guided, GALLERY))
        maps[f"gallery/{group}"] = guided.explain(first["images"], first["targets"]).float().numpy(force=True)
    metrics = measure(scores)
    annotated = source.annotated()
    if annotated is not None:
        alignment, averages = compare_maps(guided, annotated)
        metrics |= alignment
        maps |= averages
    return metrics, scores, maps


def _batches(dataset: Batches, guided: sl.SaliencyGuidedLoss, limit: int | None = None) -> Iterator[Batch]:
    """The data set's first images in order, on the network's device and in its precision."""
    weight = next(guided.model.parameters())
    count = len(dataset) if limit is None else min(limit, len(dataset))
    for start in range(0, count, BATCH):
        batch = dataset.__getitems__(range(start, min(start + BATCH, count)))
        moved = {key: value.to(weight.device) for key, value in batch.items()}
        yield {**moved, "images": moved["images"].to(weight.dtype, memory_format=torch.channels_last)}
