"""What the value of a map must not depend on: other maps, and how tensors lie in memory."""

from functools import partial

import torch
from torch import Tensor

from saliency_losses.divergences.base import Divergence
from saliency_losses.testing.probes import Probe
from saliency_losses.testing.requirement import require

__all__ = ["check_memory", "check_rows"]


def check_rows(divergence: Divergence, probe: Probe) -> None:
    """Check that maps do not depend on their order, nor on each other where nothing else is declared.

    Raises:
        AssertionError: They do.
    """
    value = divergence(*probe)
    turned = divergence(*probe.each(lambda maps: maps.flip(0)))
    require(torch.allclose(turned.flip(0), value), "must not depend on the order of maps")
    if divergence.scope == "batch":
        return
    for row in range(len(value)):
        alone = divergence(*probe.each(partial(torch.narrow, dim=0, start=row, length=1)))
        same = alone.shape == (1,) and torch.allclose(alone, value[row : row + 1], rtol=1e-9, atol=1e-12)
        require(same, "maps must not depend on each other: one alone must give the value that it gives in a batch")
    leaf = probe.model.clone()
    leaf[1] = float("nan")
    leaf.requires_grad_()
    some = divergence(leaf, probe.human)
    kept = torch.tensor([0, 2, 3, 4])
    (grad,) = torch.autograd.grad(some[kept].sum(), leaf)
    same = torch.allclose(some[kept], value[kept]) and bool(grad[kept].isfinite().all())
    require(same, "a map that holds NaN must not change the values or gradients of others")


def check_memory(divergence: Divergence, probe: Probe) -> None:
    """Check that inputs stay as they are and may be strided or expanded.

    Raises:
        AssertionError: An input is written into, or its layout changes the value.
    """
    value = divergence(*probe)
    copied = probe.each(torch.Tensor.clone)
    copied.model.requires_grad_()
    divergence(*copied).sum().backward()
    require(copied.equals(probe), "must not write into its inputs")
    strided = divergence(*probe.each(_strided))
    require(torch.allclose(strided, value), "must give the same values for maps that are not contiguous")
    wide = probe.each(lambda maps: maps[:1].expand(5, *maps.shape[1:]))
    same = torch.allclose(divergence(*wide), divergence(*wide.each(torch.Tensor.contiguous)))
    require(same, "must give the same values for expanded maps")


def _strided(maps: Tensor) -> Tensor:
    return maps.transpose(0, -1).contiguous().transpose(0, -1)
