"""Wrappers and parameters with which no step can be tried, or none should be trained."""

from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from saliency_losses.diagnosis.facts import Finding
from saliency_losses.diagnosis.failures import as_finding
from saliency_losses.distributed import check_synchronised, check_wrappers
from saliency_losses.extractors.head import is_sharded
from saliency_losses.guided import SaliencyGuidedLoss

__all__ = ["wrappers"]

_LAZY = (UninitializedParameter, UninitializedBuffer)


def wrappers(loss: SaliencyGuidedLoss, outer: nn.Module) -> Iterator[Finding]:
    """Wrappers through which no map can be trained, and processes that nothing synchronises.

    Args:
        loss: The guided loss.
        outer: The same, in whatever wrappers.
    """
    yield from _refusal(lambda: check_wrappers(loss.model, loss.extractor.order))
    if loss.gradient_sync == "wrapper":
        yield from _refusal(lambda: check_synchronised(outer))
    if any(isinstance(tensor, _LAZY) for tensor in [*loss.parameters(), *loss.buffers()]):
        yield Finding(
            "error",
            "uninitialised",
            "The model has lazy modules whose parameters do not exist yet.",
            "Call the model once on a batch, then make the optimizer and run preflight.",
        )
    elif is_sharded(loss.model) or "FullyShardedDataParallel" in map(_class_name, loss.modules()):
        yield Finding(
            "note",
            "sharded",
            "The parameters are sharded, or of a class of their own, so no step was tried: it would not leave them as "
            "they are.",
            "Run preflight before fully_shard, in one process.",
        )


def _refusal(check: Callable[[], None]) -> Iterator[Finding]:
    try:
        check()
    except RuntimeError as error:
        yield as_finding(error)


def _class_name(module: nn.Module) -> str:
    return type(module).__name__
