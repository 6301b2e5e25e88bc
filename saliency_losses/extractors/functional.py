"""Gradients inside a traced graph, where ``torch.autograd.grad`` has no place: by ``torch.func``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["ModelCall", "OwnStatistics", "pull_back"]

# The only level of differentiation there is: what `pull_back` differentiates.
_LEVEL = 1


class ModelCall(nn.Module):
    """A model and the way to call it, as one module, so that its buffers can be swapped for a call."""

    def __init__(self, model: nn.Module, run: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.run = run

    def forward(self, inputs: Any) -> Any:
        """The model's output."""
        return self.run(self.model, inputs)

    def with_buffers(self, buffers: dict[str, Tensor], inputs: Any) -> Any:
        """The model's output, while its buffers of these names are others."""
        renamed = {f"model.{name}": buffer for name, buffer in buffers.items()}
        return torch.func.functional_call(self, renamed, (inputs,))


def pull_back(
    function: Callable[..., tuple[Tensor, tuple[Tensor, ...]]], primals: Sequence[Tensor], scale: float
) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
    r"""Scores and the gradient of each sample's score.

    Args:
        function: Of the primals: the scores, (B,) or (B, K), and what else is to be had of the pass.
        primals: Each (B, \*shape).
        scale: By what to scale scores on the way, so that half-precision gradients do not vanish.

    Returns:
        Scores, gradients (B, \*shape) or (B, K, \*shape) in at least float32, and the rest.

    Example:
        >>> score, (grad,), _ = pull_back(lambda x: (x.square().sum(1), ()), [torch.ones(2, 3)], 1.0)
        >>> grad
        tensor([[2., 2., 2.],
                [2., 2., 2.]])
    """
    pulled: tuple[Any, ...] = torch.func.vjp(function, *primals, has_aux=True)
    score, vjp, rest = pulled
    if score.ndim == 1:
        return score, [_descaled(grad, scale) for grad in vjp(torch.full_like(score, scale))], rest
    columns = torch.eye(score.shape[1], dtype=score.dtype, device=score.device).unbind()
    found = [vjp((scale * column).expand_as(score)) for column in columns]
    return score, [_descaled(torch.stack(row, 1), scale) for row in zip(*found, strict=True)], rest


def _descaled(grad: Tensor, scale: float) -> Tensor:
    return grad.to(torch.promote_types(grad.dtype, torch.float32)) / scale


class OwnStatistics(TorchFunctionMode):
    r"""While active inside :func:`pull_back`, statistics of BatchNorm in train mode count as constants there.

    They are computed from the input as it is one level further out, where :math:`\mu` and :math:`\sigma` remain
    functions of the batch: the same rule as that of
    :class:`~saliency_losses.extractors.batch_statistics.Statistics`.

    Example:
        >>> x = torch.randn(4, 3, dtype=torch.float64)
        >>> def score(x):
        ...     with OwnStatistics():
        ...         return F.batch_norm(x, None, None, training=True).sum(1), ()
        >>> _, (own,), _ = pull_back(score, [x], 1.0)
        >>> bool((own > 0.1).all())
        True
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``batch_norm`` whose statistics are constants of the innermost derivative."""
    result = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    outer = torch._C._functorch._unwrap_for_grad(input, _LEVEL)
    if not training or outer is input:
        return result
    outer = outer.to(torch.promote_types(outer.dtype, torch.float32))
    axes = [axis for axis in range(input.ndim) if axis != 1]
    variance, mean = torch.var_mean(outer, axes, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt()
    shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
    if weight is not None:
        scale = scale * weight.view(shape)
    normalised = (input - mean) * scale
    return (normalised if bias is None else normalised + bias.view(shape)).to(result.dtype)
