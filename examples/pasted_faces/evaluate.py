"""Measures a trained network on patches, and parts of the texture photographs, that training never saw."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import saliency_losses as sl

from .data import Scenes, Split, paste, split_patches, swapped, tied

TEST_SEED = 90_000
GROUPS = ("none, as in training", "none, swapped", "face, as in training", "face, swapped")


def held_out(split: Split, renders: int, seed: int, render_seed: int) -> tuple[Scenes, Scenes]:
    """Scenes with the textures as the seed's training ties them, and the same scenes with the textures swapped."""
    patches = split_patches(split).repeat(renders)
    as_trained, other = (paste(patches, how(patches, seed), split, render_seed) for how in (tied, swapped))
    return as_trained, other


@torch.no_grad()
def answers(model: torch.nn.Module, images: Tensor) -> Tensor:
    """1 where the network says face (N,)."""
    found: Tensor = model(images.contiguous(memory_format=torch.channels_last)).argmax(1)
    return found


@torch.no_grad()
def explain(guided: sl.SaliencyGuidedLoss, scenes: Scenes) -> Tensor:
    """Raw maps (N, h, w) of the true class."""
    return guided.explain(scenes.images, scenes.targets)


def alignment(maps: Tensor, human: Tensor) -> float:
    """Mean correlation over scenes of raw maps (N, h, w) with human maps (N, S, S) shrunk to their size."""
    shrunk = F.adaptive_avg_pool2d(human, (maps.shape[-2], maps.shape[-1]))
    return float(sl.divergences.pearson(maps.flatten(1), shrunk.flatten(1)).mean())


def evaluate(guided: sl.SaliencyGuidedLoss, seed: int, renders: int) -> tuple[dict[str, float], list[list[float]]]:
    """Measures what the table shows.

    Returns:
        The metrics by name, and the share of right answers over the scenes of each test patch: non-faces, then faces,
        with the textures as in training, then swapped.
    """
    as_trained, other = held_out("test", renders, seed, TEST_SEED)
    said = torch.stack([answers(guided.model, scenes.images) for scenes in (as_trained, other)])
    right = (said == as_trained.targets).float().view(2, renders, -1).mean(1)  # (2, patches), faces first
    faces, others = right.chunk(2, 1)
    shares = [others[0], others[1], faces[0], faces[1]]
    groups = [float(share.mean()) for share in shares]
    maps = explain(guided, as_trained)
    metrics = {
        "worst_group": min(groups),
        "mean": sum(groups) / len(groups),
        **dict(zip(GROUPS, groups, strict=True)),
        "flips": float((said[0] != said[1]).float().mean()),
        "alignment": alignment(maps, as_trained.human),
        "alignment_other": alignment(maps, as_trained.human.roll(1, 0)),
    }
    return metrics, [share.tolist() for share in shares]
