"""What a plan says about steps: optimiser, schedule, compilation, and which epoch is kept or the last."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR

import saliency_losses as sl

from .arm import Arm
from .plan import Plan
from .sources.base import Batch

Log = list[dict[str, float]]


def check(arm: Arm, plan: Plan, images: int, ranks: int) -> None:
    """Refuses what does not fit together.

    Raises:
        ValueError: The batch is larger than the training set, or cannot be shared out among the processes; there is
            nothing to do; or what is to be compiled cannot be.
    """
    if plan.epochs < 1 or (plan.patience is not None and plan.patience < 1):
        raise ValueError(f"epochs={plan.epochs} and patience={plan.patience} must be at least 1")
    if not 1 <= plan.batch <= images:
        raise ValueError(
            f"batch={plan.batch} does not fit a training set of {images} images, of which only whole batches are "
            f"trained on. Set batch to a number from 1 to {images}"
        )
    if plan.batch % ranks:
        raise ValueError(
            f"batch={plan.batch} is the global batch, which {ranks} processes cannot share equally. Set it to a "
            f"multiple of {ranks}, or start another number of processes"
        )
    if plan.compiled and (ranks > 1 or arm.head_weight):
        what = "several processes exchange sums" if ranks > 1 else "the map head is reached by a hook"
        raise ValueError(f"compiled=true: {what} within a step, which cannot be one graph. Set compiled=false")


def optimizer_of(plan: Plan, module: nn.Module) -> Optimizer:
    """The plan's optimiser."""
    if plan.optimizer == "sgd":
        return SGD(module.parameters(), plan.rate, momentum=plan.momentum, weight_decay=plan.weight_decay)
    return AdamW(module.parameters(), plan.rate, weight_decay=plan.weight_decay)


def schedule_of(plan: Plan, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The plan's schedule, moved on after each of the ``steps`` steps of an epoch."""
    if plan.schedule == "steps":
        return StepLR(optimizer, plan.step_epochs * steps, plan.step_factor)
    # The cycle of the momentum would take the place of the plan's.
    return OneCycleLR(optimizer, plan.rate, total_steps=plan.epochs * steps, cycle_momentum=plan.optimizer == "adamw")


def compiled(loss: nn.Module, guided: sl.SaliencyGuidedLoss, example: Batch) -> Any:
    """The loss as one graph.

    Raises:
        ValueError: Its extractor cannot become part of a graph.
    """
    if guided.weighting.needs_saliency or guided.weighting.scheduled_off:
        if not guided.extractor.compiles:
            raise ValueError(
                f"compiled=true: the maps of {guided.extractor} cannot become part of a compiled graph; set "
                "compiled=false, or choose another extractor (docs/compile.md lists them)"
            )
        guided.train().prepare(example["images"], example["targets"])
    return torch.compile(loss.train(), fullgraph=True)


def finished(log: Log, plan: Plan) -> bool:
    """Whether all epochs are done, or validation accuracy has not risen for as long as the plan has patience."""
    accuracies = [entry["validation_accuracy"] for entry in log]
    risen = accuracies.index(max(accuracies)) + 1 if accuracies else 0
    impatient = plan.patience is not None and bool(log) and len(log) - risen >= plan.patience
    return len(log) == plan.epochs or impatient
