"""Several forward passes in one call: a plain one, and more of the same batch with other pixels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree

from saliency_losses.extractors.base import Run, call_model
from saliency_losses.extractors.batch_statistics import Statistics, extra_passes

__all__ = ["check_count", "repeatable", "tiled"]


@contextmanager
def repeatable(
    model: nn.Module, rebuild: Callable[[Tensor], Any], pixels: Tensor, run: Run | None, *, keep: bool
) -> Iterator[tuple[Any, Callable[[Tensor], Any]]]:
    """A plain pass of the model, and a function for more of them.

    Further passes use the batch statistics of the plain one and leave no trace in buffers; they draw dropout masks of
    their own.

    Args:
        model: The model.
        rebuild: Puts pixels among the model's inputs.
        pixels: Those of the plain pass, (B, ...).
        run: Calls the model; :func:`~saliency_losses.extractors.call_model` by default.
        keep: Whether the output is on the graph.

    Yields:
        The output, and a function from pixels (n B, ...) to the model's output for n batches in one pass.
    """
    call = run or call_model
    statistics = Statistics(record=True)
    with statistics, torch.set_grad_enabled(keep):
        output = call(model, rebuild(pixels.clone()))
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    batch = len(pixels)
    with extra_passes(model, statistics) as replay:

        def again(points: Tensor) -> Any:
            inputs = tiled(rebuild(points.clone()), len(points) // batch, batch)
            with replay():
                return call(bare, inputs)

        yield output, again


def tiled(tree: Any, times: int, batch: int) -> Any:
    """The same pytree with those tensors repeated whose first axis is the batch.

    Example:
        >>> tiled({"age": torch.tensor([1, 2]), "scale": torch.tensor(3)}, 2, 2)
        {'age': tensor([1, 2, 1, 2]), 'scale': tensor(3)}
    """

    def repeated(leaf: Tensor) -> Tensor:
        if times == 1 or leaf.ndim == 0 or len(leaf) != batch:
            return leaf
        return leaf.repeat(times, *[1] * (leaf.ndim - 1))

    return pytree.tree_map_only(Tensor, repeated, tree)


def check_count(count: int, what: str) -> int:
    """``count`` itself, if it is a positive integer.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{what} must be a positive integer, got {count!r}.")
    return count
