"""Which divergences a kernel evaluates: the only place where that is decided."""

from collections.abc import Sequence

from torch import Tensor

from saliency_losses.divergences.base import Divergence
from saliency_losses.kernels.support import slow_reasons, unsupported_reasons

__all__ = ["select"]

_MOST = 4  # divergences in one kernel, which holds the state of each in registers


def select(
    parts: Sequence[Divergence], weights: Tensor, model: Tensor, human: Tensor | None, known: Tensor | None
) -> list[list[int]]:
    r"""The parts that kernels evaluate, by index; those of one list by one kernel.

    Args:
        parts: The divergences.
        weights: Of the rows, (P, B).
        model: The model's maps, (B, \*s).
        human: The human maps, (B, \*S), or ``None``.
        known: Weight of their pixels, or ``None``.

    Raises:
        NotImplementedError: A part asks for ``backend="triton"``, but there are reasons against it: all are named.
    """
    if human is None:
        return []
    groups: dict[str, list[int]] = {}
    for index, part in enumerate(parts):
        if part.backend == "eager":
            continue
        reasons = unsupported_reasons(part, weights, model, human, known)
        if part.backend == "auto":
            reasons = reasons or slow_reasons(model)
        elif reasons:
            raise NotImplementedError(
                f"No kernel can evaluate {part} on maps {tuple(model.shape)} of {model.dtype} and human maps "
                f"{tuple(human.shape)} of {human.dtype}: {'; '.join(reasons)}. backend='auto' takes PyTorch then."
            )
        if not reasons:
            alike = model.shape == human.shape
            groups.setdefault("same" if alike else part.sizing, []).append(index)
    return [group[start : start + _MOST] for group in groups.values() for start in range(0, len(group), _MOST)]
