"""What changes when several processes train one model."""

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "averaging_group",
    "check_synchronised",
    "check_wrappers",
    "has_static_graph",
    "is_distributed",
    "is_sharded",
    "summed_over_ranks",
    "world_size",
]


def is_distributed() -> bool:
    """Whether more than one process trains."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def averaging_group(loss: nn.Module) -> dist.ProcessGroup | None:
    """The processes over which the wrapper around or inside the loss averages gradients; ``None`` is all of them."""
    active = getattr(DistributedDataParallel, "_active_ddp_module", None)
    wrappers = [active] if active is not None else loss.modules()
    return next((w.process_group for w in wrappers if isinstance(w, DistributedDataParallel)), None)


def world_size(group: dist.ProcessGroup | None) -> int:
    """How many processes train together."""
    return dist.get_world_size(group)


def summed_over_ranks(counts: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum over the group; every process in it must call this."""
    dist.all_reduce(counts, group=group)
    return counts


def check_wrappers(model: nn.Module, order: int) -> None:
    """Refuse wrappers through which a map cannot be trained.

    Raises:
        RuntimeError: ``DataParallel`` over several devices, or a map of order 2 through
            ``DistributedDataParallel(model, static_graph=True)``.
    """
    for module in model.modules():
        if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
            raise RuntimeError(
                "nn.DataParallel runs replicas of the model, which no map can be taken from. Use "
                "DistributedDataParallel around the loss: DDP(SaliencyGuidedLoss(model, ...))."
            )
    if order > 1 and has_static_graph(model):
        raise RuntimeError(
            "A gradient map through DistributedDataParallel(model, static_graph=True) leaves every rank with its "
            "own gradients. Wrap the loss instead of the model: DDP(SaliencyGuidedLoss(model, ...), "
            "static_graph=True), drop static_graph, or use extractor='cam'."
        )


def has_static_graph(model: nn.Module) -> bool:
    """Whether a wrapper in the model takes its first gradient for the step's only one."""
    return any(isinstance(module, DistributedDataParallel) and module.static_graph for module in model.modules())


def check_synchronised(loss: nn.Module) -> None:
    """Refuse to train a model whose gradients no wrapper synchronises.

    Args:
        loss: The module that holds the model.

    Raises:
        RuntimeError: Several processes train, and neither the loss nor the model is wrapped, or the model is and the
            weighting learns parameters.
    """
    if not is_distributed() or getattr(DistributedDataParallel, "_active_ddp_module", None) is not None:
        return
    if any(map(is_sharded, loss.parameters())):
        return
    wrappers = [module for module in loss.modules() if _synchronises(module)]
    inside = {id(parameter) for module in wrappers for parameter in module.parameters()}
    outside = [name for name, p in loss.named_parameters() if p.requires_grad and id(p) not in inside]
    learned = [name for name in outside if name.startswith("weighting.")]
    if wrappers and learned:
        raise RuntimeError(
            f"The wrapper inside this loss does not synchronise what the weighting learns ({learned[0]}). Wrap the "
            "loss instead of the model: DDP(SaliencyGuidedLoss(model, ...))."
        )
    if wrappers:
        return
    raise RuntimeError(
        "torch.distributed is initialised with more than one process, but nothing synchronises the gradients of this "
        "loss: it holds the bare model. Wrap the loss, DDP(SaliencyGuidedLoss(model, ...)), or give it the wrapped "
        "model. If you average the gradients yourself, pass gradient_sync='manual'; if the processes train apart, "
        "gradient_sync='none'."
    )


def _synchronises(module: nn.Module) -> bool:
    """Whether this is a wrapper that averages gradients, or a module that one manages."""
    names = {cls.__name__ for cls in type(module).__mro__}
    wrapped = names & {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}
    return bool(wrapped) or getattr(module, "_is_fsdp_managed_module", False)


def is_sharded(parameter: Tensor) -> bool:
    """Whether this is a parameter of which each process holds a part."""
    return type(parameter.data) is not Tensor
