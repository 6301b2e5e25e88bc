"""Several processes that train one network, started by ``torchrun``; one process alone needs none of this."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[None]:
    """Under ``torchrun``, the block runs as one of its processes, each with a GPU of its own where there are GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process; the first is 0, and alone writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(numbers: Tensor) -> Tensor:
    """The sum over all processes."""
    if ranks() > 1:
        dist.all_reduce(numbers)
    return numbers


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; what it raises, too."""
    made: list[Any] = [None, None]
    if rank() == 0:
        try:
            made[0] = make()
        except (OSError, ValueError) as error:
            made[1] = error
    if ranks() > 1:
        dist.broadcast_object_list(made)
    if made[1] is not None:
        raise made[1]
    value: T = made[0]
    return value


def wrapped(loss: nn.Module, device: torch.device) -> nn.Module:
    """The loss, whose gradients are then averaged over the processes."""
    return DistributedDataParallel(loss, [device] if device.type == "cuda" else None)


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, with the statistics of all processes in each BatchNorm.

    Raises:
        ValueError: One of them does more than ``torch.nn.BatchNorm2d`` does.
    """
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and type(module) not in plain:
            raise ValueError(
                f"{name} is a {type(module).__name__}, whose statistics cannot be taken over several processes; train "
                "in one process, or build the network of torch.nn.BatchNorm2d"
            )
    if device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        converted: nn.Module = convert(model)
        return converted
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, plain):
                synced = SyncedBatchNorm(child.num_features, child.eps, child.momentum)
                synced.__dict__ = child.__dict__
                setattr(parent, name, synced)
    return model


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm over all processes on any device; ``torch.nn.SyncBatchNorm`` is for GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`torch.nn.BatchNorm2d`."""
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = (1, -1, *[1] * (x.ndim - 2))
        count = ranks() * x.numel() // x.shape[1]
        mean = _sum_over_ranks(x.sum(axes)) / count
        centred = x - mean.view(wide)
        variance = _sum_over_ranks(centred.square().sum(axes)) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            rate = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach().to(self.running_mean), rate)
            self.running_var.lerp_((variance.detach() * count / (count - 1)).to(self.running_var), rate)
        normal = centred * (variance + self.eps).rsqrt().view(wide)
        return normal * self.weight.view(wide) + self.bias.view(wide) if self.affine else normal


class _SyncBatchNormSum(torch.autograd.Function):
    """The sum over processes. Maps by gradients know it by its name, as they know PyTorch's, and refuse it above."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return total(x.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return total(gradient.clone())


def _sum_over_ranks(x: Tensor) -> Tensor:
    summed: Tensor = _SyncBatchNormSum.apply(x)
    return summed
