"""The fused divergences as one differentiable function, in eager mode and under ``torch.compile``."""

import ast
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from saliency_losses.kernels import launch
from saliency_losses.kernels.plan import Part, Plan

__all__ = ["evaluate_fused"]

_TWICE = (
    "The kernels of {parts} give no second derivative: a backward pass through them was asked to be differentiable "
    "(create_graph=True). Use backend='eager', or 'auto', which then takes PyTorch."
)

Definition = Callable[[Tensor, Tensor, Tensor], Tensor]


def evaluate_fused(
    plan: Plan, model: Tensor, human: Tensor, weights: Tensor, definition: Definition | None
) -> tuple[Tensor, Tensor]:
    """The weighted sum of the parts for each row, (B,), and their values off the graph, (P, B).

    Args:
        plan: What is evaluated.
        model: (B, n).
        human: (B, N), N = n unless the plan says that the model's maps are enlarged.
        weights: (P, B).
        definition: The weighted sum as a function of model, human and weights, for who differentiates twice; ``None``
            refuses it.
    """
    model, human, weights = _dense(model), _dense(human), weights.contiguous()
    if torch.compiler.is_compiling():
        total, values, _ = _forward(model, human, weights, _written(plan.parts), plan.sizes)
        return total, values.detach()
    total, values = _Fused.apply(model, human, weights, plan, definition)
    return total, values


def _dense(maps: Tensor) -> Tensor:
    return maps if maps.stride(1) == 1 or maps.shape[1] == 1 else maps.contiguous()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, model: Tensor, human: Tensor, weights: Tensor, plan: Plan, definition: Definition | None
    ) -> tuple[Tensor, Tensor]:
        total, values, kept = launch.forward(model, human, weights, plan)
        ctx.save_for_backward(model, human, weights, kept)
        ctx.plan, ctx.definition = plan, definition
        ctx.mark_non_differentiable(values)
        ctx.set_materialize_grads(False)  # or zeros are written for the gradient of the values
        return total, values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return None, None, None, None, None
        model, human, weights, kept = ctx.saved_tensors
        if torch.is_grad_enabled() or _is_transformed(upstream):
            if ctx.definition is None:
                raise RuntimeError(_TWICE.format(parts=", ".join(part.kind for part in ctx.plan.parts)))
            with torch.enable_grad(), torch.autocast(model.device.type, enabled=False):
                total = ctx.definition(model, human, weights)
            twice = torch.is_grad_enabled()
            (gradient,) = torch.autograd.grad(total, model, upstream, create_graph=twice, materialize_grads=True)
        else:
            gradient = launch.backward(model, human, weights, kept, upstream, ctx.plan)
        return gradient, None, None, None, None


def _is_transformed(tensor: Tensor) -> bool:
    """Whether several gradients are asked for at once."""
    return torch._C._are_functorch_transforms_active() or torch._C._functorch.is_legacy_batchedtensor(tensor)


@torch.library.custom_op("saliency_losses::fused", mutates_args=())
def _forward(
    model: Tensor, human: Tensor, weights: Tensor, parts: str, sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    return launch.forward(model, human, weights, _plan(parts, sizes))


@_forward.register_fake
def _(model: Tensor, human: Tensor, weights: Tensor, parts: str, sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    return launch.empty_forward(model, weights, _plan(parts, sizes))


@torch.library.custom_op("saliency_losses::fused_backward", mutates_args=())
def _backward(
    model: Tensor, human: Tensor, weights: Tensor, kept: Tensor, upstream: Tensor, parts: str, sizes: Sequence[int]
) -> Tensor:
    return launch.backward(model, human, weights, kept, upstream, _plan(parts, sizes))


@_backward.register_fake
def _(
    model: Tensor, human: Tensor, weights: Tensor, kept: Tensor, upstream: Tensor, parts: str, sizes: Sequence[int]
) -> Tensor:
    return torch.empty(model.shape, dtype=model.dtype, device=model.device)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    model, human, weights, parts, sizes = inputs
    ctx.save_for_backward(model, human, weights, output[2])
    ctx.plan = parts, sizes


def _differentiate(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(_TWICE.format(parts=", ".join(part.kind for part in _plan(*ctx.plan).parts)))
    model, human, weights, kept = ctx.saved_tensors
    return _backward(model, human, weights, kept, upstream, *ctx.plan), None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)


def _written(parts: tuple[Part, ...]) -> str:
    """Text, since operators take no tuples; formatted one by one, which fixes numbers that a compiler keeps open."""
    return ";".join(",".join(f"{field}" for field in part) for part in parts)


def _plan(parts: str, sizes: Sequence[int]) -> Plan:
    return Plan(tuple(_part(part.split(",")) for part in parts.split(";")), tuple(sizes))


def _part(written: Sequence[str]) -> Part:
    kinds = Part.__annotations__.values()
    fields: Any = (
        field if kind is str else ast.literal_eval(field) for field, kind in zip(written, kinds, strict=True)
    )
    return Part(*fields)
