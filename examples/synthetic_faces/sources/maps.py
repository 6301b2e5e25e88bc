"""The maps an arm is trained with, made from the human ones, and images that are blurred outside them."""

from __future__ import annotations

import torch
from torch import Tensor

import saliency_losses as sl

SHIFT = 0.35
"""How far displaced maps are moved, as a share of the image's side."""
BLURS = 9


def arrange(kind: str, human: Tensor, targets: Tensor, rng: torch.Generator) -> Tensor:
    """Maps (N, H, W) of the kind that :class:`~..arm.Arm` names, which human maps (N, H, W) suffice for.

    "shuffled" gives each image the map of another one of its class, "class_mean" that of its class on average,
    "displaced" its own, moved around the edges, and "uniform" the same everywhere.
    """
    if kind == "uniform":
        return torch.ones_like(human)
    if kind == "displaced":
        steps = [round(SHIFT * side) for side in human.shape[-2:]]
        return human.roll(steps, (-2, -1))
    if kind == "own":
        return human
    arranged = human.clone()
    for label in set(targets.tolist()):
        members = (targets == label).nonzero().flatten()
        if kind == "shuffled":
            order = members[torch.randperm(len(members), generator=rng)]
            arranged[order] = human[order.roll(1)]
        else:
            arranged[members] = human[members].mean(0)
    return arranged


def blurred_background(images: Tensor, maps: Tensor, most: float, rng: torch.Generator) -> Tensor:
    """Images (N, C, H, W) that stay sharp where maps (N, H, W) in [0, 1] say so, and are blurred elsewhere.

    Args:
        images: The images.
        maps: How sharp each pixel stays.
        most: The largest of ``BLURS`` evenly spaced standard deviations, the smallest of which is zero, as a share of
            the image's side; each image gets one of them.
        rng: Draws which.

    Reference:
        Boyd, Bowyer, Czajka: *Human-Aided Saliency Maps Improve Generalization of Deep Learning*, WACV 2022.
    """
    levels = torch.randint(BLURS, (len(images),), generator=rng)
    blurred = images.clone()
    for level in range(1, BLURS):
        chosen = levels == level
        sigma = most * images.shape[-1] * level / (BLURS - 1)
        soft = sl.maps.blur(images[chosen], sigma, border="replicate")
        blurred[chosen] = torch.lerp(soft, images[chosen], maps[chosen, None])
    return blurred
