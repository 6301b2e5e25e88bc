"""ReLUs whose gradient follows another rule, for one derivative only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["Rectifiers", "Rule"]

Rule = Callable[[Tensor, Tensor], Tensor]
"""What a ReLU passes back, from the gradient at its output and where that output is positive, as 0 and 1."""

_COPYING = (F.relu, torch.relu, Tensor.relu)
_IN_PLACE = (torch.relu_, Tensor.relu_, F.relu_)


class _State:
    """What graphs may refer to; apart from :class:`Rectifiers`, so that no cycle holds them."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.active = False


class Rectifiers(TorchFunctionMode):
    """While active, takes over every ReLU, whatever it is written as.

    Gradients taken inside :meth:`applied` follow the rule, in differentiable operations; all others are those of
    ReLU, so that training through a map differentiates exactly what the map is.

    Args:
        rule: Of the gradient.

    Example:
        >>> x = torch.tensor([2.0, -3.0], requires_grad=True)
        >>> with Rectifiers(lambda grad, positive: grad.relu()) as rectifiers:
        ...     y = (torch.tensor([-1.0, 1.0]) * x.relu()).sum()
        >>> with rectifiers.applied():
        ...     (changed,) = torch.autograd.grad(y, x, retain_graph=True)
        >>> changed, torch.autograd.grad(y, x)[0]
        (tensor([0., 1.]), tensor([-1.,  0.]))
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.found = 0
        self._state = _State(rule)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gradients taken inside the block follow the rule."""
        self._state.active = True
        try:
            yield
        finally:
            self._state.active = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _COPYING and func not in _IN_PLACE:
            return func(*args, **kwargs)
        self.found += 1
        x, inplace = _arguments(*args, **kwargs)
        return _ReLU.apply(x, inplace or func in _IN_PLACE, self._state)


def _arguments(input: Tensor, inplace: bool = False) -> tuple[Tensor, bool]:
    return input, inplace


class _ReLU(torch.autograd.Function):
    """ReLU, in place or not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool, state: _State) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
            result = x.relu_()
        else:
            result = x.relu()
        ctx.save_for_backward(result)
        ctx.state = state
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        (result,) = ctx.saved_tensors
        positive = (result > 0).to(grad.dtype)
        return ctx.state.rule(grad, positive) if ctx.state.active else grad * positive, None, None
