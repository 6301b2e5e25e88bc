"""Trains one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import saliency_losses as sl

from .arms import Arm
from .data import Scenes, training_scenes, transplant
from .network import SmallNet


@dataclass(frozen=True)
class Plan:
    """How much is trained and tested on; the same for every arm.

    Attributes:
        scenes: Scenes in training.
        epochs: Passes over them.
        batch: Scenes in a step.
        rate: Highest learning rate.
        renders: Scenes of each held-out patch and texture.
    """

    scenes: int = 600
    epochs: int = 12
    batch: int = 32
    rate: float = 5e-3
    renders: int = 8


def train(arm: Arm, seed: int, plan: Plan, report: Callable[[str], None]) -> sl.SaliencyGuidedLoss:
    """Trains a fresh network the way ``arm`` says; returns the loss, which holds it as ``model``."""
    scenes = training_scenes(plan.scenes, seed, textures="mixed" if arm.scenes == "mixed" else "tied")
    torch.manual_seed(seed)
    guided = sl.SaliencyGuidedLoss(
        SmallNet().to(memory_format=torch.channels_last), arm.build_extractor(), arm.divergence, alpha=arm.alpha
    )
    human = maps_for(arm, scenes)

    steps = plan.epochs * (len(scenes.targets) // plan.batch)
    optimizer = torch.optim.AdamW(guided.parameters(), lr=plan.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, total_steps=steps)
    for epoch in range(plan.epochs):
        order = torch.randperm(len(scenes.targets))[: steps // plan.epochs * plan.batch]
        for batch in torch.split(order, plan.batch):
            images = scenes.images[batch]
            if arm.scenes == "moved":
                part = Scenes(*(values[batch] for values in scenes))
                donors = torch.randperm(len(batch))
                images = transplant(part, Scenes(*(values[donors] for values in part)))
            images = images.contiguous(memory_format=torch.channels_last)
            loss = guided(images, scenes.targets[batch], None if human is None else human[batch]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        report(f"epoch {epoch + 1}/{plan.epochs}")
    guided.eval()
    return guided


def maps_for(arm: Arm, scenes: Scenes) -> Tensor | None:
    """The human maps (N, S, S) that the arm is to see; None: it sees none."""
    if arm.extractor is None:
        return None
    if arm.maps == "shuffled":
        return scenes.human[torch.randperm(len(scenes.human))]
    return torch.ones_like(scenes.human) if arm.maps == "uniform" else scenes.human
