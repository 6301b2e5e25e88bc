"""Batches with enough annotated samples in each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from saliency_losses.data.order import permutation

__all__ = ["AnnotatedBatchSampler"]


class AnnotatedBatchSampler(Sampler[list[int]]):
    r"""Batches of one size with at least so many annotated samples in each; for ``DataLoader(batch_sampler=...)``.

    In an epoch every sample without a map comes once, every sample with one at least once: those are cycled through,
    shuffled anew each time, until every batch is full. With U samples without a map and N in all, batches of size b
    and k annotated ones in each, an epoch has

    .. math:: \max\!\left(\left\lceil \frac{U}{b - k} \right\rceil, \left\lceil \frac{N}{b} \right\rceil\right)

    batches. The order is a function of the seed and the epoch alone: call :meth:`set_epoch`, or every epoch is the
    first. Under ``torch.distributed`` each rank takes its share of the same batches, of which ``batch_size`` counts
    the samples of all ranks together.

    Args:
        data: A :class:`~saliency_losses.data.SaliencyDataset`, or which samples are annotated, (N,) or (N, K) bool.
        batch_size: Samples of a batch, on all ranks together.
        annotated_per_batch: How many of them have a map, at least.
        seed: Another order.
        rank: Of this process; that of ``torch.distributed`` by default, asked when the epoch starts.
        world_size: Number of processes, likewise.

    Raises:
        ValueError: Numbers that do not fit each other, or no annotated sample at all.
        TypeError: Data that does not say which samples are annotated.

    Example:
        >>> sampler = AnnotatedBatchSampler(torch.arange(8) < 2, batch_size=4, annotated_per_batch=2)
        >>> [sum(index < 2 for index in batch) for batch in sampler]
        [2, 2, 2]
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        *,
        annotated_per_batch: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        mask = _mask(data)
        self.annotated: list[int] = mask.nonzero().flatten().tolist()
        self.others: list[int] = (~mask).nonzero().flatten().tolist()
        if not 1 <= annotated_per_batch <= batch_size:
            raise ValueError(
                f"annotated_per_batch must be from 1 to batch_size={batch_size}, got {annotated_per_batch}; without "
                "any, use torch's own samplers."
            )
        if not self.annotated:
            raise ValueError(f"None of the {len(mask)} samples is annotated; use torch's own samplers.")
        if self.others and annotated_per_batch == batch_size:
            raise ValueError(
                f"annotated_per_batch={annotated_per_batch} leaves no place in a batch of {batch_size} for the "
                f"{len(self.others)} samples without a map; lower it, or leave them out: dataset.subset(...)."
            )
        if (rank is None) != (world_size is None):
            raise ValueError(f"rank and world_size go together, got rank={rank} and world_size={world_size}.")
        if rank is not None and world_size is not None:
            _check_rank(rank, world_size, batch_size)
        self.batch_size = batch_size
        self.annotated_per_batch = annotated_per_batch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, before it starts."""
        self.epoch = epoch

    def __len__(self) -> int:
        together = len(self.annotated) + len(self.others)
        room = max(1, self.batch_size - self.annotated_per_batch)
        return max(-(-len(self.others) // room), -(-together // self.batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        rank, world_size = self._place()
        count = len(self)
        others = [self.others[at] for at in permutation(len(self.others), "others", self.seed, self.epoch)]
        annotated = self._annotated()
        for batch in range(count):
            start, end = (len(others) * edge // count for edge in (batch, batch + 1))
            rest = self.batch_size - (end - start)
            yield ([next(annotated) for _ in range(rest)] + others[start:end])[rank::world_size]

    def _annotated(self) -> Iterator[int]:
        """Annotated samples without end, each once before any comes again."""
        turn = 0
        while True:
            order = permutation(len(self.annotated), "annotated", self.seed, self.epoch, turn)
            yield from (self.annotated[at] for at in order)
            turn += 1

    def _place(self) -> tuple[int, int]:
        if self.rank is not None and self.world_size is not None:
            return self.rank, self.world_size
        distributed = torch.distributed
        if not distributed.is_available() or not distributed.is_initialized():
            return 0, 1
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
        _check_rank(rank, world_size, self.batch_size)
        return rank, world_size


def _mask(data: Any) -> Tensor:
    """(N,) bool."""
    given = getattr(data, "annotated", data)
    if not isinstance(given, Tensor | np.ndarray | list | tuple):
        raise TypeError(
            f"data must be a dataset that says which samples are annotated, or bool of shape (N,) or (N, K), got "
            f"{type(given).__name__}."
        )
    mask = torch.as_tensor(given)
    if mask.dtype != torch.bool or mask.ndim not in (1, 2):
        raise ValueError(
            f"data must be a dataset, or bool of shape (N,) or (N, K), got {mask.dtype} of shape {tuple(mask.shape)}."
        )
    return mask if mask.ndim == 1 else mask.any(1)


def _check_rank(rank: int, world_size: int, batch_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be from 0 to world_size - 1, got rank={rank} and world_size={world_size}.")
    if batch_size % world_size:
        raise ValueError(
            f"batch_size counts the samples of all ranks together, and {batch_size} cannot be shared by {world_size}; "
            "take a multiple."
        )
