"""What extractors share that combine a layer's activation with the gradient of the score there."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from saliency_losses.extractors.activations import (
    Fuse,
    Layers,
    check_fuse,
    check_layers,
    explained,
    layer_names,
)
from saliency_losses.extractors.base import (
    Explanation,
    Run,
    SaliencyExtractor,
    detached,
    full_precision,
    gradients_on,
)
from saliency_losses.extractors.batch_statistics import BatchStatistics, Statistics, check_batch_statistics
from saliency_losses.extractors.gradient import gradients, precision_of
from saliency_losses.extractors.layout import Layout, Reshape, check_reshape
from saliency_losses.extractors.probe import probe
from saliency_losses.extractors.runs import TappingRun
from saliency_losses.extractors.score import Score, check_score, purpose_of, scores
from saliency_losses.extractors.values import looks_at_values

__all__ = ["ActivationGradientExtractor", "LayerView"]


class LayerView(NamedTuple):
    """One layer in one call, read as C channels and N positions, in at least float32.

    Attributes:
        activation: (B, C, N), or (B, 1, C, N) where K classes are explained.
        gradient: Of each sample's score, (B, C, N) or (B, K, C, N).
        curvature: The Hessian of the score times the activation, like the gradient; for extractors that ask for it.
        precision: In which the gradient was computed.
        check: Whether this call may look at numbers, which makes a device wait.
        name: Of the layer, for errors.
    """

    activation: Tensor
    gradient: Tensor
    curvature: Tensor | None
    precision: torch.dtype
    check: bool
    name: str


class ActivationGradientExtractor(SaliencyExtractor, ABC):
    r"""An extractor that combines a layer's activation with the gradient of the score there.

    The gradient is taken with respect to the activation alone, in the same forward pass as the output. Implement
    :meth:`combine`.

    Args:
        layer: Dotted name, or several, whose maps are fused. By default what feeds global pooling, else the last layer
            with several channels and positions that the score depends on.
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        relu: Keep only what speaks for the score, as often published; off by default, since maps are raw and signed.
        reshape: How to read the layer's output, where that cannot be told; see
            :data:`~saliency_losses.extractors.layout.Reshape`.
        fuse: How the maps of several layers become one: ``"mean"`` or ``"max"`` after scaling each to [0, 1], or
            ``"each"`` to have the loss compare all of them.
        batch_statistics: Whether BatchNorm in train mode above the layer counts as ``"constant"`` in the gradient, so
            that a map is the sample's own, or ``"coupled"``: mixed with those of the other samples.

    Raises:
        ValueError: On a call: the layer does not exist, is not called or called twice, has no positions, or does not
            influence the score.
        RuntimeError: On a call with gradients: something above the layer has no double backward.
    """

    order = 2
    needs = "activation gradient"
    needs_curvature: ClassVar[bool] = False

    def __init__(
        self,
        *,
        layer: Layers = None,
        score: Score = "true",
        relu: bool = False,
        reshape: Reshape = None,
        fuse: Fuse = "mean",
        batch_statistics: BatchStatistics = "constant",
    ) -> None:
        super().__init__()
        self.layer = check_layers(layer)
        self.score = check_score(score)
        self.relu = relu
        self.reshape = check_reshape(reshape)
        self.fuse = check_fuse(fuse)
        self.batch_statistics = check_batch_statistics(batch_statistics)
        self.compiles = not self.needs_curvature

    @abstractmethod
    def combine(self, view: LayerView) -> Tensor:
        """The map of one layer, (B, N), or (B, K, N) where K classes are explained."""

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        if isinstance(run, TappingRun) and run.traced and run.names:
            return self._traced(model, inputs, classes, run)
        keep = torch.is_grad_enabled()
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            statistics = Statistics()

            def score_of(output: Any) -> Tensor:
                return scores(self.score, output, classes)

            tapped = probe(
                model,
                inputs,
                run,
                layer_names(self.layer),
                score=score_of,
                reshape=self.reshape,
                double_backward=keep or self.needs_curvature,
                above=statistics if self.batch_statistics == "constant" else None,
                purpose=purpose_of(self.score),
            )
            score = score_of(tapped.output)
            graph = keep or self.needs_curvature
            with statistics.constant():
                grads = gradients(score, tapped.tensors, tapped.names, create_graph=graph)
                curvatures: list[Tensor | None] = [None] * len(grads)
                if self.needs_curvature:
                    curvatures = [
                        _curvature(*pair, create_graph=keep) for pair in zip(grads, tapped.tensors, strict=True)
                    ]
            check = tapped.first or looks_at_values(tapped.tensors[0])
            seen = zip(tapped.tensors, tapped.layouts, tapped.names, grads, curvatures, strict=True)
            maps = [self._map(*layer, several=score.ndim == 2, check=check) for layer in seen]
        output = tapped.output
        if not keep:
            output, maps = detached((output, maps))
        return explained(output, maps, self.fuse, score.ndim)

    def _traced(self, model: nn.Module, inputs: Any, classes: Tensor | None, run: TappingRun) -> Explanation:
        """The same inside a compiled step."""
        constant = self.batch_statistics == "constant"
        output, tensors, score, grads = run.differentiate_layers(
            model, inputs, lambda output: scores(self.score, output, classes), constant=constant
        )
        seen = zip(tensors, run.layouts, run.names, grads, strict=True)
        maps = [
            self._map(tensor, layout, name, grad, None, several=score.ndim == 2, check=False)
            for tensor, layout, name, grad in seen
        ]
        return explained(output, maps, self.fuse, score.ndim)

    def _map(
        self,
        tensor: Tensor,
        layout: Layout,
        name: str,
        grad: Tensor,
        curvature: Tensor | None,
        *,
        several: bool,
        check: bool,
    ) -> Tensor:
        """The map of one layer."""
        activation = layout.read(tensor)
        size = activation.shape[2:]
        own = _read(grad, layout, several)
        if check:
            _check_positions(own, grad, name)
        more = None if curvature is None else _read(curvature, layout, several)
        with full_precision(activation, own) as (activation, own):
            flat = activation.flatten(2)
            view = LayerView(flat.unsqueeze(1) if several else flat, own, more, precision_of(tensor), check, name)
            saliency = self.combine(view)
            saliency = saliency.view(*saliency.shape[:-1], *size)
        return saliency.relu() if self.relu else saliency


def _curvature(grad: Tensor, tensor: Tensor, *, create_graph: bool) -> Tensor:
    """The Hessian of each score times the tensor, in the shape of the gradient."""
    columns = [grad] if grad.ndim == tensor.ndim else list(grad.unbind(1))
    found = []
    for number, column in enumerate(columns):
        product = None
        if column.requires_grad:
            retain = create_graph or number + 1 < len(columns)
            (product,) = torch.autograd.grad(
                column,
                tensor,
                tensor.to(column.dtype),
                retain_graph=retain,
                create_graph=create_graph,
                allow_unused=True,
            )
        found.append(torch.zeros_like(column) if product is None else product.to(column.dtype))
    return found[0] if grad.ndim == tensor.ndim else torch.stack(found, 1)


def _read(grad: Tensor, layout: Layout, several: bool) -> Tensor:
    """A gradient of the layer's shape, or K of them, as (B, C, N) or (B, K, C, N)."""
    if not several:
        return layout.read(grad).flatten(2)
    return torch.stack([layout.read(one).flatten(2) for one in grad.unbind(1)], 1)


def _check_positions(read: Tensor, grad: Tensor, name: str) -> None:
    """Raise where the positions that make the map have no gradient although others have."""
    if not bool((read != 0).any()) and bool((grad != 0).any()):
        raise ValueError(
            f"The score does not depend on the positions of {name}, so the map is zero: behind the "
            "last attention of a transformer that is read from its class token, the patches no longer count. Choose an "
            "earlier layer."
        )
