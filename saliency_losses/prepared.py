"""Preparing a model for guided steps: look at it once, leave hooks, prove that a compiled step means the same."""

from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import Explanation, Run, SaliencyExtractor, call_model
from saliency_losses.extractors.prepared_run import PreparedRun
from saliency_losses.extractors.undisturbed import undisturbed

__all__ = ["prepare"]

# Older compilers do not trace what a step needs.
_OLDEST = (2, 13)

# By precision of the map: how far, relative to its largest value, the compiled way may be from the eager one.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


def prepare(
    model: nn.Module, extractor: SaliencyExtractor, images: Any, classes: Any, run: Run | None
) -> tuple[PreparedRun, Explanation]:
    """Hooks on the model that stay, and what the pass gave that told where.

    Nothing else remains of the passes: buffers and random state are put back.

    Args:
        model: The model, in the mode to prepare it for.
        extractor: Whose maps are to be taken.
        images: What the model takes.
        classes: To explain; ``None`` for the predicted ones.
        run: Calls the model; :func:`~saliency_losses.extractors.call_model` by default.

    Raises:
        ValueError: As the extractor does.
        RuntimeError: As the extractor does.
    """
    prepared = PreparedRun(model, extractor, run or call_model)
    try:
        with torch.enable_grad():
            with undisturbed(model, images) as changed:
                explanation = extractor(model, images, classes, run=prepared)
            prepared.changing = [name for name, replaced in changed.items() if not replaced]
            prepared.obstacle = _obstacle(prepared, explanation.saliency, images, classes, changed)
    except BaseException:
        prepared.close()
        raise
    return prepared, explanation


def _obstacle(
    prepared: PreparedRun, expected: Tensor, images: Any, classes: Any, changed: dict[str, bool]
) -> str | None:
    """Why a step cannot be compiled, in words, or ``None``: the compiled way is gone once, and must agree."""
    extractor = prepared.extractor
    replaced = [name for name, was_replaced in changed.items() if was_replaced]
    if tuple(map(int, torch.__version__.split(".")[:2])) < _OLDEST:
        return (
            f"compiling a whole step needs PyTorch {'.'.join(map(str, _OLDEST))} or newer, this is {torch.__version__}"
        )
    if not extractor.compiles:
        return f"{extractor} cannot be traced into one graph"
    if replaced:
        return f"the forward pass replaces the buffer {replaced[0]!r} instead of changing it in place"
    prepared.tracing = True
    try:
        with undisturbed(prepared.model, images):
            found = extractor(prepared.model, images, classes, run=prepared).saliency
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        return f"the way that can be compiled fails on this model ({error})"
    finally:
        prepared.tracing = False
    size = expected.detach().abs().amax()
    if found.shape == expected.shape and bool((found - expected).abs().amax() <= _tolerance(expected) * size):
        return None
    return "the way that can be compiled gives another map on this model"


def _tolerance(saliency: Tensor) -> float:
    return _TOLERANCE.get(saliency.dtype, 5e-2)
