"""What a step costs: time, and memory kept for the backward pass."""

import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from saliency_losses.diagnosis.facts import StepCost

__all__ = ["step_cost"]

_ROUNDS = 3

Loss = Callable[[], Tensor]


def step_cost(plain: Loss, guided: Loss, parameters: list[Tensor], known: Iterable[Tensor]) -> StepCost:
    """The cost of both losses with their gradients.

    Rounds are interleaved, so that a machine that slows down slows both alike; memory is measured in the warm-up.

    Args:
        plain: Calls the model and gives the task's loss.
        guided: Calls the model and gives the guided loss.
        parameters: To differentiate with respect to.
        known: Tensors that exist anyway, hence are not counted.
    """
    known = list(known)
    device = parameters[0].device
    sizes = [_memory(loss, parameters, known, device) for loss in (plain, guided)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for loss, own in zip((plain, guided), times, strict=True):
            start = _now(device)
            _step(loss, parameters)
            own.append(_now(device) - start)
    return StepCost(statistics.median(times[0]), statistics.median(times[1]), *sizes)


def _step(loss: Loss, parameters: list[Tensor]) -> None:
    torch.autograd.grad(loss(), parameters, allow_unused=True)


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def _memory(loss: Loss, parameters: list[Tensor], known: list[Tensor], device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _step(loss, parameters)
        return torch.cuda.max_memory_allocated(device) - before
    present = {tensor.untyped_storage().data_ptr() for tensor in known}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in present:
            sizes[storage.data_ptr()] = max(storage.nbytes(), sizes.get(storage.data_ptr(), 0))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _step(loss, parameters)
    return sum(sizes.values())
