"""The values of one or several divergences on a batch of map pairs, and their gradient, in bounded memory."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saliency_losses.divergences.pair import Pair
from saliency_losses.graph import leaves_behind
from saliency_losses.sizing import bring_to_size

if TYPE_CHECKING:
    from saliency_losses.divergences.base import Divergence

__all__ = ["evaluate", "working_dtype"]

_CHUNK = 2**18  # numbers of one map batch that are worked on at once: what fits into a core's cache


def evaluate(
    parts: Sequence["Divergence"], weights: Tensor, model: Tensor, human: Tensor | None, known: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""The weighted sum of several divergences for each pair of maps, and the value of each.

    Large batches on the CPU are worked on a few rows at a time, value and gradient together: a chain of passes over
    maps is then read from the cache, and besides the maps only their gradient takes memory. Second derivatives, maps
    that depend on each other, whatever else is learned, transforms of ``torch.func`` and compiled graphs take the
    direct way.

    Args:
        parts: The divergences.
        weights: (P, B); a value of weight zero takes no part, whatever it is.
        model: (B, \*s).
        human: (B, \*S), or ``None``.
        known: (B, \*S), or ``None``.

    Returns:
        The sum, (B,), and the values off the graph, (P, B).

    Raises:
        ValueError: The maps do not fit.
        RuntimeError: A part does not depend on the model's map.
    """
    _check(parts, model, human, known)
    weights = weights.to(working_dtype(model, human))
    with torch.autocast(model.device.type, enabled=False):
        if model.device.type == "cpu" and all(part.backend != "triton" for part in parts):
            return _by_pytorch(parts, weights, model, human, known)
        return _by_kernels(parts, weights, model, human, known)


def _by_kernels(
    parts: Sequence["Divergence"], weights: Tensor, model: Tensor, human: Tensor | None, known: Tensor | None
) -> tuple[Tensor, Tensor]:
    from saliency_losses.kernels.select import select

    groups = select(parts, weights, model, human, known)
    if not groups or human is None:
        return _by_pytorch(parts, weights, model, human, known)
    if len(groups[0]) == len(parts):
        return _by_kernel(parts, weights, model, human)
    rest = sorted(set(range(len(parts))).difference(*groups))
    total = torch.zeros_like(weights[0])
    values: dict[int, Tensor] = {}
    for group in [*groups, *([rest] if rest else [])]:
        some = [parts[index] for index in group]
        own = torch.stack([weights[index] for index in group])
        if group is rest:
            term, found = _by_pytorch(some, own, model, human, known)
        else:
            term, found = _by_kernel(some, own, model, human)
        total = total + term
        values |= dict(zip(group, found, strict=True))
    return total, torch.stack([values[index] for index in range(len(parts))])


def _by_kernel(parts: Sequence["Divergence"], weights: Tensor, model: Tensor, human: Tensor) -> tuple[Tensor, Tensor]:
    from saliency_losses.kernels.autograd import evaluate_fused
    from saliency_losses.kernels.plan import Plan, enlarged_sizes, plan_of

    sizes = enlarged_sizes(model, human, parts[0].sizing)
    if model.shape != human.shape and not sizes:
        model, human, _ = bring_to_size(model.to(weights.dtype), human.to(weights.dtype), None, parts[0].sizing)

    definition = functools.partial(_definition, parts, model.shape, human.shape)
    plan = Plan(tuple(part for part in (plan_of(part)[0] for part in parts) if part is not None), sizes)
    refuses = any(part.backend == "triton" for part in parts)
    return evaluate_fused(plan, model.flatten(1), human.flatten(1), weights, None if refuses else definition)


def _definition(
    parts: Sequence["Divergence"],
    size: torch.Size,
    human_size: torch.Size,
    model: Tensor,
    human: Tensor,
    weights: Tensor,
) -> Tensor:
    """What the kernel evaluates, of maps (B, n) and (B, N)."""
    return _weigh(parts, weights, model.view(size), human.view(human_size), None)[0]


def _by_pytorch(
    parts: Sequence["Divergence"], weights: Tensor, model: Tensor, human: Tensor | None, known: Tensor | None
) -> tuple[Tensor, Tensor]:
    rows = max(1, _CHUNK // max(m[0].numel() for m in (model, human) if m is not None))
    if not torch.compiler.is_compiling() and rows < len(model) and _by_rows(parts, weights, model, human, known):
        with suppress(_OthersLearnError):
            total, values = _Rows.apply(model, human, known, weights, parts, torch.is_grad_enabled(), rows)
            return total, values
    total, values = _weigh(parts, weights, model, human, known)
    return total, values.detach()


def working_dtype(model: Tensor, human: Tensor | None) -> torch.dtype:
    """float64 where a map is, else float32."""
    dtypes = [torch.float32, model.dtype, *([] if human is None else [human.dtype])]
    return functools.reduce(torch.promote_types, dtypes)


def _weigh(
    parts: Sequence["Divergence"], weights: Tensor, model: Tensor, human: Tensor | None, known: Tensor | None
) -> tuple[Tensor, Tensor]:
    dtype = weights.dtype
    pair = Pair(model.to(dtype), *(None if tensor is None else tensor.to(dtype) for tensor in (human, known)))
    trains = model.requires_grad and torch.is_grad_enabled()
    values = torch.stack([_one_per_map(part, pair, len(model), trains) for part in parts])
    return torch.where(weights != 0, weights * values, 0.0).sum(0), values


def _one_per_map(part: "Divergence", pair: Pair, count: int, trains: bool) -> Tensor:
    values = part.values(pair)
    if values.shape != (count,):
        raise ValueError(f"{part} returned shape {tuple(values.shape)}, expected one value per map, ({count},).")
    if trains and not values.requires_grad:
        raise RuntimeError(
            f"{part} gives values that do not depend on the model's map, so they train nothing: compare must not "
            "detach it or leave PyTorch."
        )
    return values


def _by_rows(
    parts: Sequence["Divergence"], weights: Tensor, model: Tensor, human: Tensor | None, known: Tensor | None
) -> bool:
    return (
        model.device.type == "cpu"
        and all(part.scope == "sample" for part in parts)
        and not any(tensor is not None and tensor.requires_grad for tensor in (weights, human, known))
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


class _OthersLearnError(Exception):
    """The values depend on a leaf that is not the model's map."""


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        model: Tensor,
        human: Tensor | None,
        known: Tensor | None,
        weights: Tensor,
        parts: Sequence["Divergence"],
        grad_mode: bool,
        rows: int,
    ) -> tuple[Tensor, Tensor]:
        needed = grad_mode and model.requires_grad
        gradient = torch.empty_like(model, dtype=weights.dtype) if needed else None
        totals: list[Tensor] = []
        values: list[Tensor] = []
        for some in _slices(len(model), rows):
            leaf = model[some].detach().to(weights.dtype).requires_grad_(needed)
            with torch.set_grad_enabled(grad_mode):
                cut = (None if tensor is None else tensor[some] for tensor in (human, known))
                total, value = _weigh(parts, weights[:, some], leaf, *cut)
                if not totals and any(other is not leaf for other in leaves_behind(total)):
                    raise _OthersLearnError
                if gradient is not None:
                    (gradient[some],) = torch.autograd.grad(total.sum(), leaf, materialize_grads=True)
            totals.append(total.detach())
            values.append(value.detach())
        ctx.save_for_backward(model, human, known, weights, gradient)
        ctx.parts = parts
        result = torch.cat(values, 1)
        ctx.mark_non_differentiable(result)
        return torch.cat(totals), result

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        model, human, known, weights, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            with torch.autocast(model.device.type, enabled=False):
                total, _ = _weigh(ctx.parts, weights, model, human, known)
                (result,) = torch.autograd.grad(total, model, grad, create_graph=True, materialize_grads=True)
        else:
            result = (gradient * grad.view(-1, *[1] * (model.ndim - 1))).to(model.dtype)
        return result, None, None, None, None, None, None


def _slices(count: int, rows: int) -> Iterator[slice]:
    return (slice(start, start + rows) for start in range(0, count, rows))


def _check(parts: Sequence["Divergence"], model: Tensor, human: Tensor | None, known: Tensor | None) -> None:
    name = " + ".join(type(part).__name__ for part in parts)
    if model.ndim < 2 or model.numel() == 0:
        raise ValueError(f"{name} expected non-empty maps of shape (B, *s), got {tuple(model.shape)}.")
    if human is not None and (human.ndim != model.ndim or len(human) != len(model) or human.numel() == 0):
        raise ValueError(
            f"{name} expected human maps of shape ({len(model)}, {'*S of ' + str(model.ndim - 1) + ' axes'}) for model "
            f"maps {tuple(model.shape)}, got {tuple(human.shape)}."
        )
    if known is not None and (human is None or known.shape != human.shape):
        got = "no human maps" if human is None else f"human maps {tuple(human.shape)}"
        raise ValueError(f"{name} expected known in the shape of the human maps, got {tuple(known.shape)} and {got}.")
    for tensor in (model, human):
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name} expected floating-point maps, got {tensor.dtype}; convert them with .float().")
        if tensor is not None and tensor.device != model.device:
            raise ValueError(f"{name} expected maps on one device, got {model.device} and {tensor.device}.")
