"""How often a network is right."""

from __future__ import annotations

import torch
from torch import nn

from . import distributed
from .loader import in_order, load, share
from .sources.base import Batches

BATCH = 256
"""Images at a time, over all processes."""


@torch.no_grad()
def accuracy(model: nn.Module, dataset: Batches, device: torch.device, dtype: torch.dtype, workers: int = 0) -> float:
    """Share of the images whose class the model finds, in eval mode; each process takes its part of them."""
    model.eval()
    batches = share(in_order(len(dataset), BATCH), distributed.rank(), distributed.ranks())
    counts = torch.zeros(2, dtype=torch.float64, device=device)
    for batch in load(dataset, [part for part in batches if part], device, dtype, workers=workers):
        right = model(batch["images"]).argmax(1) == batch["targets"]
        counts += torch.stack([right.sum(), right.new_tensor(len(right), dtype=torch.long)])
    right_ones, all_of_them = distributed.total(counts).tolist()
    return float(right_ones / all_of_them)
