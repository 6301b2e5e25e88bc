"""Whether the cells of a map lie where the map says, judged from input gradients alone."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Verdict", "judge_axes"]

CELLS_PER_AXIS = 4
SHUFFLES = 2000
LEVEL = 0.005


class Verdict(NamedTuple):
    """What input gradients say about the axes of a map.

    Attributes:
        word: ``"right"``, ``"wrong"`` or ``"undecided"``.
        why: In words, where it is not right.
        rows: How many times more energy the gradients of cells have in their own row than in each other's.
        columns: Likewise in their own column.
    """

    word: str
    why: str
    rows: float
    columns: float


def judge_axes(explain: Callable[[Tensor], Tensor], images: Tensor) -> Verdict:
    r"""Compare where the cells of a map lie with where in the image they are computed from.

    The map is differentiated with respect to the image, cell by cell, its channel weights held constant. The energy of
    such a gradient gathers around the place that the cell looks at, whatever the map's author says about axes. Up to
    four rows and columns of cells are compared, and as many of the image: with :math:`E_{kp}` the share of cell k's
    energy that lies in the row (or column) of cell p, the axis is right if

    .. math:: \sum_k \log E_{kk} > \sum_k \log E_{k \sigma(k)}

    for every :math:`\sigma` that rearranges whole lines of cells along that axis, and for all but a few of those that
    shuffle each line by itself: columns for the rows, rows for the columns. What all cells look at cancels out.

    Args:
        explain: Images to their maps, on the graph.
        images: (B, 3, H, W).

    Returns:
        The verdict; only ``"right"`` is good.
    """
    images = images.detach().requires_grad_()
    with _constant_gradients(), torch.enable_grad():
        saliency = explain(images)
    if saliency.ndim != 3 or len(saliency) != len(images) or min(saliency.shape[1:]) < 3:
        return Verdict("wrong", f"map of shape {tuple(saliency.shape)}", 0.0, 0.0)
    rows, columns = (_spread(size) for size in saliency.shape[1:])
    cells = [(i, j) for i in rows for j in columns]
    energies = [_energy(saliency[:, i, j], images, (len(rows), len(columns))) for i, j in cells]
    energy = torch.stack(energies).view(len(rows), len(columns), len(rows), len(columns))
    total = energy.sum((2, 3), keepdim=True)
    if not bool(energy.isfinite().all()) or not bool((total > 0).any()):
        return Verdict("undecided", "the gradients of its cells are zero or not finite", 0.0, 0.0)
    share = torch.where(total > 0, energy / total, 1.0)
    by_row, own_rows = _follows(share.sum(3).transpose(0, 1))
    by_column, own_columns = _follows(share.sum(2))
    wrong = [name for name, good in (("rows", by_row), ("columns", by_column)) if not good]
    why = f"{' and '.join(wrong)} do not follow the image" if wrong else ""
    return Verdict("wrong" if wrong else "right", why, own_rows, own_columns)


@contextmanager
def _constant_gradients() -> Iterator[None]:
    """Make gradients that are taken inside the block constants, so that only activations depend on the images."""
    grad = torch.autograd.grad

    def constant(*args: Any, **options: Any) -> Any:
        return grad(*args, **{**options, "create_graph": False, "retain_graph": True})

    with mock.patch("torch.autograd.grad", constant):
        yield


def _spread(size: int) -> list[int]:
    return torch.linspace(0, size - 1, min(size, CELLS_PER_AXIS)).round().long().tolist()


def _energy(cell: Tensor, images: Tensor, shape: tuple[int, int]) -> Tensor:
    (grad,) = torch.autograd.grad(cell.sum(), images, retain_graph=True, materialize_grads=True)
    return F.adaptive_avg_pool2d(grad.double().square().sum((0, 1))[None], shape)[0]


def _follows(shares: Tensor) -> tuple[bool, float]:
    """Whether cell k has most at place k, and how many times more it has there.

    Args:
        shares: (lines, cells, places), the energy of each cell of each line.
    """
    levels = shares.clamp_min(1e-12).log()
    lines, size, _ = levels.shape
    own = levels.diagonal(dim1=1, dim2=2)
    generator = torch.Generator().manual_seed(0)
    shuffles = torch.rand(SHUFFLES, lines, size, 1, generator=generator).argsort(2)
    shuffled = levels.expand(SHUFFLES, -1, -1, -1).gather(3, shuffles).sum((1, 2, 3))
    another = (shuffles[..., 0] != torch.arange(size)).any((1, 2))
    chance = float((shuffled[another] >= own.sum() - 1e-9).double().mean())
    orders = torch.tensor(list(itertools.permutations(range(size))))
    rearranged = levels.sum(0).expand(len(orders), -1, -1).gather(2, orders[:, :, None]).sum((1, 2))
    best = bool((rearranged <= own.sum() + 1e-9).all())
    mutual = own[:, :, None] + own[:, None, :] - levels - levels.transpose(1, 2)
    return best and chance <= LEVEL, float((mutual.sum() / (2 * lines * size * (size - 1))).exp())
