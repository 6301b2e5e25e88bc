"""Trains one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import saliency_losses as sl

from .arms import Arm
from .data import Faces
from .small_net import SmallNet


@dataclass(frozen=True)
class Plan:
    """How much is trained and tested on; the same for every arm."""

    images: int = 2400
    epochs: int = 8
    batch: int = 64
    rate: float = 6e-3
    test: int = 300


def train(arm: Arm, faces: Faces, seed: int, plan: Plan, report: Callable[[str], None]) -> sl.SaliencyGuidedLoss:
    """Trains a fresh network the way ``arm`` says; returns the loss, which holds it as ``model``."""
    torch.manual_seed(seed)
    model = SmallNet().to(memory_format=torch.channels_last)
    guided = sl.SaliencyGuidedLoss(model, arm.build_extractor(), arm.divergence or "mse", alpha=arm.alpha)
    human = maps_for(arm, faces)

    steps = plan.epochs * (len(faces.images) // plan.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, total_steps=steps)

    for epoch in range(plan.epochs):
        order = torch.randperm(len(faces.images))
        for batch in torch.split(order, plan.batch):
            if len(batch) < plan.batch:
                continue
            images = faces.images[batch].contiguous(memory_format=torch.channels_last)
            out = guided(images, faces.targets[batch], None if human is None else human[batch])
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            schedule.step()
        report(f"epoch {epoch + 1}/{plan.epochs}")
    guided.eval()
    return guided


def maps_for(arm: Arm, faces: Faces) -> Tensor | None:
    """The human maps (N, S, S) that the arm is to see; None: it sees none."""
    if arm.extractor is None:
        return None
    human = faces.human.clone()
    for label in (0, 1):
        members = (faces.targets == label).nonzero().flatten()
        if arm.maps == "shuffled":
            human[members] = faces.human[members[torch.randperm(len(members))]]
        elif arm.maps == "class_mean":
            human[members] = faces.human[members].mean(0)
    return human
