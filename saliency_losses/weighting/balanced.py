"""A weight that keeps the gradients of both terms in proportion."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.distributed import has_static_graph, is_sharded
from saliency_losses.extractors.modules import check_layer, find_module
from saliency_losses.weighting.base import WEIGHTINGS, Weighting, check_device, learns
from saliency_losses.weighting.statistics import level, summed

__all__ = ["Balanced"]

_LEVEL = 2.0**10  # of a term whose gradient is taken, as a gradient scaler would have it
_LARGEST = 2.0**30

_NO_GRAPH = (
    "Balanced takes the gradient of both terms within the step, which cannot be traced into one graph. Compile without "
    "fullgraph=True, or leave the step eager and compile what lies below the layer: "
    "guided.prepare(images, compile='backbone')."
)


@WEIGHTINGS.register("balanced")
class Balanced(Weighting):
    r"""Keeps the saliency's gradient at one layer in a chosen proportion to the task's.

    .. math:: L_{task} + w\, L_{saliency}, \qquad
        w \leftarrow m\, w + (1 - m)\, \rho\, \frac{\|\nabla_\theta L_{task}\|}{\|\nabla_\theta L_{saliency}\|}

    where :math:`\theta` are the layer's trainable parameters, and w is a constant to the gradient. Each step with a map
    takes both gradients back to that layer, so a late one that both terms depend on costs least. Steps in which either
    gradient is missing, zero or not finite leave w as it is; it is 1 before the first. Norms are the mean over
    processes that train together.

    A step with it does not compile into one graph.

    Args:
        layer: Dotted name of a module of the model.
        ratio: :math:`\rho`, the saliency's share.
        momentum: m, in [0, 1).
        limit: The largest w.

    Raises:
        ValueError: An option is out of range. In a step: the model has no such layer, or nothing in it is trainable.
        TypeError: The layer is not a name.
        RuntimeError: In a step: a term does not depend on the layer, its parameters are sharded, or the model is
            wrapped in ``DistributedDataParallel`` with ``static_graph=True``.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> out = net(torch.ones(1, 1)).sum()
        >>> round((Balanced(layer="1", ratio=0.5)(out, 10 * out, net) / out).item(), 4)
        1.5

    Reference:
        Esser, Rombach and Ommer, Taming Transformers for High-Resolution Image Synthesis, CVPR 2021, whose adaptive
        weight this is with momentum 0; related: Chen et al., GradNorm, ICML 2018.
    """

    weight: Tensor
    updates: Tensor

    def __init__(self, *, layer: str, ratio: float = 1.0, momentum: float = 0.9, limit: float = 1e4) -> None:
        super().__init__()
        self.layer = check_layer(layer)
        for name, value in (("ratio", ratio), ("limit", limit)):
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}.")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}.")
        self.ratio = ratio
        self.momentum = momentum
        self.limit = limit
        self.register_buffer("weight", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, task: Tensor, saliency: Tensor, model: nn.Module | None = None) -> Tensor:
        """See :meth:`Weighting.forward`."""
        check_device(self, task)
        if model is not None and learns(self, model):
            if torch.compiler.is_compiling():
                compiler: Any = torch._dynamo
                compiler.graph_break(msg=_NO_GRAPH)
                compiler.disable(self._measure)(task, saliency, model)
            else:
                self._measure(task, saliency, model)
        return task + self.weight.clone() * saliency

    def _measure(self, task: Tensor, saliency: Tensor, model: nn.Module) -> None:
        if has_static_graph(model):
            raise RuntimeError(
                "Balanced takes gradients through DistributedDataParallel(model, static_graph=True), which leaves "
                "every rank with its own. Wrap the loss instead of the model: DDP(SaliencyGuidedLoss(model, ...), "
                "static_graph=True), or drop static_graph."
            )
        parameters = self._parameters_of(model)
        norms = [self._norm("task", task, parameters)]
        norms.append(self._norm("saliency", saliency, parameters) if saliency.requires_grad else norms[0].new_zeros(()))
        measured = summed(torch.stack(norms), model, together=self.together)
        with torch.no_grad():
            first, second = measured.to(self.weight.dtype).unbind()
            found = self.ratio * first / second
            usable = (first > 0) & (second > 0) & found.isfinite()
            kept = torch.where(self.updates > 0, self.momentum, 0.0)
            smoothed = kept * self.weight + (1.0 - kept) * found.clamp(max=self.limit)
            self.weight.copy_(torch.where(usable, smoothed, self.weight))
            self.updates.add_(usable)

    def _parameters_of(self, model: nn.Module) -> list[nn.Parameter]:
        parameters = [p for p in find_module(model, str(self.layer)).parameters() if p.requires_grad]
        if not parameters:
            raise ValueError(
                f"Balanced measures gradients at the parameters of layer {self.layer!r}, but none is trainable. Name a "
                "module that trains, such as a convolution."
            )
        if any(map(is_sharded, parameters)):
            raise RuntimeError(
                f"Balanced cannot take gradients for the sharded parameters of layer {self.layer!r}. Name a layer that "
                "is not sharded on its own, or use weighting='normalised', which needs no gradients."
            )
        return parameters

    def _norm(self, name: str, term: Tensor, parameters: list[nn.Parameter]) -> Tensor:
        """The norm of the term's gradient, in float32 at least; of a multiple, lest it vanish in half precision."""
        size = level(term)
        scale = (_LEVEL / size.detach().abs()).clamp(1.0, _LARGEST).log2().floor().exp2()
        grads: tuple[Tensor | None, ...] = ()
        if term.requires_grad:
            grads = torch.autograd.grad(scale * size, parameters, retain_graph=True, allow_unused=True)
        norms = [_norm(grad) for grad in grads if grad is not None]
        if not norms:
            raise RuntimeError(
                f"The {name} term does not depend on the parameters of layer {self.layer!r}, so Balanced cannot "
                "compare gradients there. Name a layer in front of the one that the map is taken from."
            )
        return _norm(torch.stack(norms)) / scale


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32)))
    return norm
