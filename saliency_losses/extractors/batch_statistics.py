"""BatchNorm in train mode: what a map may know of the other samples, and what further passes may know of the batch."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from saliency_losses.extractors.modules import unwrap
from saliency_losses.extractors.undisturbed import copied_buffers

__all__ = ["BatchStatistics", "Statistics", "check_batch_statistics", "extra_passes"]

BatchStatistics = Literal["constant", "coupled"]

_ARGUMENTS = inspect.signature(F.batch_norm)


def check_batch_statistics(choice: BatchStatistics) -> BatchStatistics:
    """``choice`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if choice not in get_args(BatchStatistics):
        raise ValueError(f"batch_statistics must be 'constant' or 'coupled', got {choice!r}.")
    return choice


class _Held:
    """Whether gradients hold the statistics constant; apart from :class:`Statistics`, since graphs refer to it."""

    constant = False


class _Seen(NamedTuple):
    """What one call of ``batch_norm`` computed, and the tensors by which its layer is known again."""

    mean: Tensor
    inverse: Tensor
    weight: Tensor | None
    running_mean: Tensor | None


class Statistics(TorchFunctionMode):
    r"""While active, takes over every ``batch_norm`` in train mode.

    A map asks how a sample's score depends on the sample's own activation. In train mode it depends on those of the
    others too, through mean and variance, and the gradient of the summed scores mixes them. Inside :meth:`constant` the
    gradient of :math:`y = \gamma (x - \mu) \sigma^{-1} + \beta` is :math:`\gamma \sigma^{-1}`: the statistics count as
    constants, as they do in eval mode. They are constants of that one derivative only: training through the map
    differentiates :math:`\sigma^{-1}` as the function of the batch that it is.

    Inside :meth:`replay`, further passes of the model use the statistics of the first, call by call.

    Args:
        record: Whether to keep the statistics for :meth:`replay`, until :meth:`forget`.

    Example:
        >>> x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        >>> with Statistics() as statistics:
        ...     score = F.batch_norm(x, None, None, training=True).sum()
        >>> with statistics.constant():
        ...     (own,) = torch.autograd.grad(score, x, retain_graph=True)
        >>> (coupled,) = torch.autograd.grad(score, x)
        >>> bool((own > 0.1).all()), bool((coupled.abs() < 1e-9).all())
        (True, True)
    """

    def __init__(self, *, record: bool = False) -> None:
        super().__init__()
        self._record = record
        self._held = _Held()
        self._seen: list[_Seen] = []
        self._replayed: Iterator[_Seen] | None = None
        self._originals: Mapping[int, Tensor] = {}

    @contextmanager
    def constant(self) -> Iterator[None]:
        """Gradients taken inside the block hold the statistics constant."""
        self._held.constant = True
        try:
            yield
        finally:
            self._held.constant = False

    @contextmanager
    def replay(self, originals: Mapping[int, Tensor]) -> Iterator[None]:
        """One further pass of the same model, with the statistics of the first.

        Args:
            originals: By ``id``, the buffers that others stand for in this pass.

        Raises:
            RuntimeError: BatchNorm is not called by the same layers in the same order.
        """
        self._replayed, self._originals = iter(self._seen), originals
        try:
            with self:
                yield
            if next(self._replayed, None) is not None:
                raise _another_order()
        finally:
            self._replayed, self._originals = None, {}

    def forget(self) -> None:
        """Let go of the statistics."""
        self._seen.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.batch_norm:
            return func(*args, **kwargs)
        bound = _ARGUMENTS.bind(*args, **kwargs)
        bound.apply_defaults()
        x, running_mean, running_var, weight, bias, training, momentum, eps = bound.arguments.values()
        if not training:
            return func(*args, **kwargs)
        if self._replayed is not None:
            mean, inverse = self._next(x, weight, running_mean)
            scale = inverse if weight is None else inverse * weight
            shift = -mean * scale if bias is None else bias - mean * scale
            return (x * _along_channels(scale, x) + _along_channels(shift, x)).to(x.dtype)
        if not torch.compiler.is_compiling() and _is_checkpointed():
            raise RuntimeError(
                "BatchNorm in train mode lies in a checkpointed region above the layer: it runs again where its "
                "statistics cannot be held constant. Leave it out of the checkpoint, give batch_statistics='coupled' "
                "where the extractor has that, or, if it lies below the layer that would be taken by default, name "
                "that layer: layer=... (list_layers(model, images))."
            )
        if x.numel() == x.shape[1]:
            return func(*args, **kwargs)  # raises: one value per channel has no variance
        result, mean, inverse = _BatchNorm.apply(x, weight, bias, running_mean, running_var, momentum, eps, self._held)
        if self._record:
            self._seen.append(_Seen(mean, inverse, weight, running_mean))
        return result

    def _next(self, x: Tensor, weight: Tensor | None, running_mean: Tensor | None) -> tuple[Tensor, Tensor]:
        found = next(self._replayed, None) if self._replayed is not None else None
        if found is None or len(found.mean) != x.shape[1]:
            raise _another_order()
        buffer = self._originals.get(id(running_mean))
        # Weights and buffers that are computed, such as slices, are new in every pass and tell nothing.
        if isinstance(found.weight, nn.Parameter) or isinstance(weight, nn.Parameter):
            same = found.weight is weight
        else:
            same = buffer is None or found.running_mean is buffer
        if not same:
            raise _another_order()
        return found.mean, found.inverse


def _another_order() -> RuntimeError:
    return RuntimeError(
        "A further pass of the model called BatchNorm in another order than the first, or left out a layer, so the "
        "statistics of the batch cannot be used again. Put BatchNorm in eval mode, turn off what skips layers at "
        "random, or use an extractor of one pass (grad_cam)."
    )


class _BatchNorm(torch.autograd.Function):
    """PyTorch's ``native_batch_norm`` in train mode, whose statistics are outputs of their own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        held: _Held,
    ) -> tuple[Tensor, Tensor, Tensor]:
        running = running_mean, running_var
        result, mean, inverse = torch.native_batch_norm(x, weight, bias, *running, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps, ctx.held = eps, held
        ctx.set_materialize_grads(False)
        return result, mean, inverse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, of_mean, of_inverse = grads
        x, weight, mean, inverse = ctx.saved_tensors
        nothing = (None,) * 5
        if ctx.held.constant:
            if grad is None:
                return None, None, None, *nothing
            scale = inverse if weight is None else inverse * weight
            return (grad * _along_channels(scale, x)).to(x.dtype), None, None, *nothing
        of_x = of_weight = of_bias = None
        if grad is not None:
            needed = list(ctx.needs_input_grad[:3])
            of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, None, None, mean.detach(), inverse.detach(), True, ctx.eps, needed
            )
        if ctx.needs_input_grad[0] and (of_mean is not None or of_inverse is not None):
            of_x = _with_gradient_of_statistics(of_x, x, mean, inverse, of_mean, of_inverse)
        return of_x, of_weight, of_bias, *nothing


def _is_checkpointed() -> bool:
    """Whether what is computed now will be computed again in the backward pass."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and "_checkpoint_hook" in getattr(hooks[0], "__qualname__", "")


def _with_gradient_of_statistics(
    of_x: Tensor | None,
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    of_mean: Tensor | None,
    of_inverse: Tensor | None,
) -> Tensor:
    """The gradient of the input, plus what reaches it from mean and inverse standard deviation."""
    count = x.numel() // x.shape[1]
    shift = torch.zeros_like(mean) if of_mean is None else of_mean / count
    if of_inverse is None:
        through = _along_channels(shift, x).expand_as(x)
        return through.to(x.dtype) if of_x is None else (of_x + through).to(x.dtype)
    slope = -of_inverse * inverse.pow(3) / count
    shift = _along_channels(shift - mean * slope, x)
    base = shift.expand_as(x) if of_x is None else of_x + shift
    return torch.addcmul(base, x.to(base.dtype), _along_channels(slope, x).to(base.dtype)).to(x.dtype)


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 2))


@contextmanager
def extra_passes(model: nn.Module, statistics: Statistics) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Further forward passes of a model that leave no trace in its buffers; the statistics are forgotten afterwards.

    Each pass has copies of the buffers as the first pass left them, so that none disturbs what others keep for the
    backward pass.

    Args:
        model: In whatever wrappers.
        statistics: That recorded the first pass.

    Yields:
        A function that gives the context for each pass.
    """

    @contextmanager
    def one() -> Iterator[None]:
        with copied_buffers(unwrap(model)) as copied, statistics.replay(copied.originals):
            yield

    try:
        yield one
    finally:
        statistics.forget()
