"""Captum's attributions, made differentiable where that is proven."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    call_model,
    detached,
    gradients_on,
)
from saliency_losses.extractors.batch_statistics import Statistics, extra_passes
from saliency_losses.extractors.captum_support import keep_graph, support_of
from saliency_losses.extractors.channels import Reduce, check_reduce, reduce_channels
from saliency_losses.extractors.gradient import half_scale, refuse_obstacles
from saliency_losses.extractors.input_gradients import twice_differentiable
from saliency_losses.extractors.inputs import pick_input
from saliency_losses.extractors.layout import Layout
from saliency_losses.extractors.modules import find_module
from saliency_losses.extractors.probe import probe
from saliency_losses.extractors.score import Score, check_score, pinned, scores
from saliency_losses.registry import options_of

__all__ = [
    "CaptumExtractor",
    "captum_input_x_gradient",
    "captum_integrated_gradients",
    "captum_layer_grad_cam",
    "captum_layer_gradient_x_activation",
    "captum_saliency",
]


class CaptumExtractor(SaliencyExtractor):
    """An algorithm of Captum, whose map can be trained through where that is proven.

    Captum's own results cannot: some have no graph, some one that takes part of the gradient for a constant. Here
    ``Saliency``, ``InputXGradient`` and ``IntegratedGradients`` get a gradient function that keeps the graph, and
    ``LayerGradCam``, ``LayerGradientXActivation`` and ``InternalInfluence`` the ``create_graph`` that they accept;
    these six are proven by finite differences. The others refuse while gradients are on, with the reason and the
    extractor to use instead, and work under ``torch.no_grad()``.

    The model runs once where the algorithm needs one pass. Otherwise a pass of its own gives the output and the
    statistics of BatchNorm, which Captum's further passes use without updating them.

    Args:
        algorithm: A class of ``captum.attr``, or a function from the model to one of its instances, such as
            ``lambda model: NoiseTunnel(Saliency(model))``.
        layer: Dotted name, for algorithms that explain a layer.
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; by default the
            sum, and for ``Saliency`` ``"abs_max"``.
        score: What to explain; see :data:`~saliency_losses.extractors.score.Score`.
        input: Which input to explain, where the model takes several: its position or keyword.
        options: For the algorithm's ``attribute``.

    Raises:
        ValueError: The algorithm explains no score, or the layer is missing or superfluous; on a call: ``classes`` of
            shape (B, K), or a layer without channels on axis 1.
        RuntimeError: On a call with gradients: the algorithm cannot be trained through, or something in the model has
            no double backward.

    Example:
        >>> import captum.attr
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(48, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))
        >>> extractor = CaptumExtractor(captum.attr.IntegratedGradients, n_steps=8)
        >>> extractor(net, torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Kokhlikyan et al., Captum: A unified and generic model interpretability library for PyTorch, 2020.
    """

    order = 2
    maps_per_sample = False

    def __init__(
        self,
        algorithm: Callable[..., Any],
        *,
        layer: str | None = None,
        reduce: Reduce | None = None,
        score: Score = "true",
        input: int | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.support = support_of(algorithm, options)
        if self.support.needs_layer != (layer is not None):
            verb = "needs" if layer is None else "does not take"
            raise ValueError(f"{self.support.name} {verb} layer=, a dotted name.")
        self.algorithm = algorithm
        self.layer = layer
        self.reduce = None if reduce is None else check_reduce(reduce)
        self.score = check_score(score)
        self.input = input
        self.options = options
        self.passes = self.support.passes
        self.needs = "activation gradient" if self.support.needs_layer else "input gradient"
        self.tokens = not self.support.needs_layer

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        keep = torch.is_grad_enabled()
        if keep and self.support.why_not:
            raise RuntimeError(
                f"The map of Captum's {self.support.name} cannot be trained through: {self.support.why_not}. Use "
                f"extractor={self.support.instead!r}, or evaluate under torch.no_grad()."
            )
        if isinstance(classes, Tensor) and classes.ndim == 2 and not classes.is_floating_point():
            raise ValueError("Captum gives one map per sample, so classes must be (B,); use 'grad_cam' for (B, K).")
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            pixels, rebuild = pick_input(inputs, self.input)
            scored = _Scored(self, model, run, rebuild, classes, keep)
            statistics = Statistics(record=self.support.passes > 1)
            if self.support.passes == 1:
                with statistics, statistics.constant():
                    saliency = self._attribute(scored, pixels)
            else:
                with statistics:
                    scored.output = (run or call_model)(model, inputs)
                scored.score, scored.classes = pinned(self.score, scored.output, classes)
                with extra_passes(model, statistics) as scored.context:
                    saliency = self._attribute(scored, pixels)
        return Explanation(scored.output, saliency) if keep else Explanation(*detached((scored.output, saliency)))

    def extra_repr(self) -> str:
        """The algorithm and the options that differ from their defaults."""
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        return ", ".join(filter(None, [self.support.name, options_of(self), *options]))

    def _attribute(self, scored: "_Scored", pixels: Tensor) -> Tensor:
        layers = [] if self.layer is None else [find_module(scored.model, self.layer)]
        algorithm = self.algorithm(scored, *layers)
        options = dict(self.options)
        if self.support.way == "gradient_func":
            algorithm.gradient_func = keep_graph(create_graph=scored.keep)
        elif self.support.way == "grad_kwargs":
            options["grad_kwargs"] = {"create_graph": scored.keep}
        if self.support.name == "Saliency":
            options.setdefault("abs", False)
        elif "show_progress" in inspect.signature(algorithm.attribute).parameters:
            options.setdefault("show_progress", False)
        samples = torch.arange(len(pixels), device=pixels.device)
        saliency: Tensor = algorithm.attribute(pixels, additional_forward_args=(samples,), **options)
        saliency = saliency.to(torch.promote_types(saliency.dtype, torch.float32))
        if self.support.way == "grad_kwargs":
            saliency = saliency / half_scale(pixels)
        return reduce_channels(saliency, self.reduce or ("abs_max" if self.support.name == "Saliency" else "sum"))


class _Scored(nn.Module):
    """The score of each sample, as Captum calls it: with pixels and the numbers of their samples."""

    def __init__(
        self,
        extractor: CaptumExtractor,
        model: nn.Module,
        run: Run | None,
        rebuild: Callable[[Tensor], Any],
        classes: Tensor | None,
        keep: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.keep = keep
        self.score = extractor.score
        self.classes = classes
        self.output: Any = None
        self.context: Callable[[], AbstractContextManager[Any]] | None = None
        self._extractor = (extractor,)
        self._run = run
        self._rebuild = rebuild

    def forward(self, pixels: Tensor, samples: Tensor) -> Tensor:
        """The scores (B,)."""
        (extractor,) = self._extractor
        inputs, classes = self._rebuild(pixels), self.classes
        if self.context is not None:
            count = len(classes) if isinstance(classes, Tensor) else 0

            def of_samples(leaf: Any) -> Any:
                own = isinstance(leaf, Tensor) and leaf is not pixels and leaf.ndim and len(leaf) == count
                return leaf[samples] if own else leaf

            inputs, classes = pytree.tree_map(of_samples, (inputs, classes))
        with self.context() if self.context is not None else nullcontext(), twice_differentiable(self.keep):
            if extractor.support.way != "grad_kwargs":
                output = (self._run or call_model)(self.model, inputs)
                activation = None
            else:
                tapped = probe(self.model, inputs, self._run, [extractor.layer], double_backward=self.keep)
                output, (activation,), (layout,) = tapped[:3]
                if layout != Layout():
                    raise ValueError(
                        f"Captum takes axis 1 for the channels, but layer {extractor.layer!r} has them elsewhere. Use "
                        "extractor='grad_cam', which knows that layout."
                    )
        if self.context is None:
            self.output = output
        value = scores(self.score, output, classes)
        if value.ndim != 1:
            raise ValueError(f"Captum gives one map per sample, so score must return (B,), got {tuple(value.shape)}.")
        if activation is None:
            return value
        if self.keep:
            refuse_obstacles(value, activation)
        return value * half_scale(activation)


def _register(name: str, algorithm: str) -> Callable[..., CaptumExtractor]:
    def make(**options: Any) -> CaptumExtractor:
        import captum.attr

        return CaptumExtractor(getattr(captum.attr, algorithm), **options)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f":class:`CaptumExtractor` of ``captum.attr.{algorithm}``."
    return EXTRACTORS.register(name)(make)


captum_saliency = _register("captum_saliency", "Saliency")
captum_input_x_gradient = _register("captum_input_x_gradient", "InputXGradient")
captum_integrated_gradients = _register("captum_integrated_gradients", "IntegratedGradients")
captum_layer_grad_cam = _register("captum_layer_grad_cam", "LayerGradCam")
captum_layer_gradient_x_activation = _register("captum_layer_gradient_x_activation", "LayerGradientXActivation")
