"""Which images come in which batch, and how they get to the device."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from .sources.base import Batch, Batches


def seed_of(*numbers: int) -> int:
    """One seed for a seed, an epoch, a process: what is drawn in an epoch depends on no other epoch."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seeds what data sets and networks may draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # other libraries draw from it


def shuffled(count: int, batch: int, seed: int) -> list[list[int]]:
    """Whole batches of all indices in random order; what is left over is dropped."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return [chosen.tolist() for chosen in torch.split(order, batch) if len(chosen) == batch]


def in_order(count: int, batch: int) -> list[list[int]]:
    """All indices in batches, the last of which may be smaller."""
    return [list(range(start, min(start + batch, count))) for start in range(0, count, batch)]


def spread(count: int, few: int) -> list[int]:
    """A few indices from all over the data set."""
    return sorted({index * count // few for index in range(few)})


def share(batches: list[list[int]], rank: int, ranks: int) -> list[list[int]]:
    """What one of several processes takes of each batch."""
    return [batch[rank * len(batch) // ranks : (rank + 1) * len(batch) // ranks] for batch in batches]


def load(
    dataset: Batches,
    batches: Sequence[list[int]],
    device: torch.device,
    dtype: torch.dtype,
    workers: int = 0,
    seed: int = 0,
) -> Iterator[Batch]:
    """The batches on the device, one after the other.

    Args:
        dataset: Gives whole batches.
        batches: The indices of each.
        device: Where they go.
        dtype: Of the images.
        workers: Processes that load.
        seed: Of what the data set draws in them.
    """
    loader: DataLoader[Batch] = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        moved["images"] = moved["images"].to(dtype).contiguous(memory_format=torch.channels_last)
        yield moved


def _as_it_is(batch: Any) -> Any:
    return batch
