"""Captum's attributions, made differentiable."""

from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    call_model,
    detached,
    gradients_on,
)
from saliency_losses.extractors.gradient import gradient, half_scale, refuse_obstacles
from saliency_losses.extractors.input_gradient import Reduce, check_reduce, pick_input, reduce_channels
from saliency_losses.extractors.layout import Layout
from saliency_losses.extractors.modules import find_module
from saliency_losses.extractors.probe import probe
from saliency_losses.extractors.score import Score, check_score, scores
from saliency_losses.registry import options_of

__all__ = ["CaptumExtractor", "captum_layer_grad_cam", "captum_saliency"]

_PROVEN = ("Saliency", "LayerGradCam")


class CaptumExtractor(SaliencyExtractor):
    """An algorithm of Captum whose map can be trained through.

    Captum's own results cannot: ``Saliency`` returns no graph, and ``LayerGradCam`` by default one that takes the
    channel weights for constants. Here the first gets a gradient function that keeps the graph, the second
    ``create_graph``. Only algorithms proven by finite differences are accepted. Captum calls the model once, and that
    call gives the output.

    Args:
        algorithm: ``captum.attr.Saliency`` or ``captum.attr.LayerGradCam``, the class.
        layer: Dotted name, for ``LayerGradCam``.
        reduce: Over channels, for ``Saliency``; see
            :func:`~saliency_losses.extractors.input_gradient.reduce_channels`.
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        input: Which input to explain, where the model takes several: its position or keyword.
        options: For the algorithm's ``attribute``.

    Raises:
        ValueError: The algorithm is not proven, or the layer is missing or superfluous; on a call: ``classes`` of
            shape (B, K), or a layer without channels on axis 1.
        RuntimeError: On a call with gradients: something on the way has no double backward.

    Example:
        >>> import captum.attr
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(48, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))
        >>> extractor = CaptumExtractor(captum.attr.Saliency)
        >>> extractor(net, torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Kokhlikyan et al., Captum: A unified and generic model interpretability library for PyTorch, 2020.
    """

    order = 2
    maps_per_sample = False

    def __init__(
        self,
        algorithm: type,
        *,
        layer: str | None = None,
        reduce: Reduce = "abs_max",
        score: Score = "true",
        input: int | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        name = getattr(algorithm, "__name__", str(algorithm))
        if name not in _PROVEN or not getattr(algorithm, "__module__", "").startswith("captum."):
            raise ValueError(
                f"CaptumExtractor does not accept {name}: its gradient with respect to the parameters is not proven. "
                f"Proven: {', '.join(_PROVEN)}. Native alternatives: {', '.join(_native())}."
            )
        if (name == "LayerGradCam") != (layer is not None):
            raise ValueError(f"{name} {'needs' if layer is None else 'does not take'} layer=, a dotted name.")
        self.algorithm = algorithm
        self.layer = layer
        self.reduce = check_reduce(reduce)
        self.score = check_score(score)
        self.input = input
        self.options = options

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        if classes is not None and classes.ndim == 2 and not classes.is_floating_point():
            raise ValueError("Captum gives one map per sample, so classes must be (B,); use 'grad_cam' for (B, K).")
        keep = torch.is_grad_enabled()
        outputs: list[Any] = []
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            pixels, rebuild = pick_input(inputs, self.input)

            def score_of(tensor: Tensor) -> Tensor:
                if self.layer is None:
                    outputs.append((run or call_model)(model, rebuild(tensor)))
                    return _one_each(scores(self.score, outputs[-1], classes))
                tapped = probe(model, rebuild(tensor), run, [self.layer])
                output, (activation,), (layout,) = tapped[:3]
                if layout != Layout():
                    raise ValueError(
                        f"Captum's LayerGradCam averages over all axes from the third on, but layer {self.layer!r} "
                        f"is read as {layout}. Use extractor='grad_cam', which knows that layout."
                    )
                outputs.append(output)
                value = _one_each(scores(self.score, output, classes))
                if keep:
                    refuse_obstacles(value, activation)
                return value * half_scale(activation)

            if self.layer is None:
                saliency = self._of_input(score_of, pixels, keep)
            else:
                algorithm = self.algorithm(score_of, find_module(model, self.layer))
                grad_kwargs = {"create_graph": keep}
                saliency = algorithm.attribute(pixels.detach(), grad_kwargs=grad_kwargs, **self.options).squeeze(1)
                saliency = saliency.to(torch.promote_types(saliency.dtype, torch.float32)) / half_scale(pixels)
        output = outputs[-1]
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())

    def extra_repr(self) -> str:
        """The algorithm and the options that differ from their defaults."""
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        return ", ".join(filter(None, [self.algorithm.__name__, options_of(self), *options]))

    def _of_input(self, score_of: Any, pixels: Tensor, keep: bool) -> Tensor:
        algorithm = self.algorithm(score_of)

        def gradient_func(
            forward_fn: Any, inputs: tuple[Tensor, ...], target_ind: Any = None, additional_forward_args: Any = None
        ) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                value = forward_fn(*(tensor.clone() for tensor in inputs))
                return tuple(gradient(value, tensor, "the input", create_graph=keep) for tensor in inputs)

        algorithm.gradient_func = gradient_func
        return reduce_channels(algorithm.attribute(pixels, abs=False, **self.options), self.reduce)


@EXTRACTORS.register("captum_saliency")
def captum_saliency(**options: Any) -> CaptumExtractor:
    """:class:`CaptumExtractor` of ``captum.attr.Saliency``."""
    from captum.attr import Saliency

    return CaptumExtractor(Saliency, **options)


@EXTRACTORS.register("captum_layer_grad_cam")
def captum_layer_grad_cam(**options: Any) -> CaptumExtractor:
    """:class:`CaptumExtractor` of ``captum.attr.LayerGradCam``; needs ``layer=``."""
    from captum.attr import LayerGradCam

    return CaptumExtractor(LayerGradCam, **options)


def _one_each(value: Tensor) -> Tensor:
    if value.ndim != 1:
        raise ValueError(f"Captum gives one map per sample, so score must return (B,), got {tuple(value.shape)}.")
    return value


def _native() -> list[str]:
    return [name for name in EXTRACTORS.names() if not name.startswith("captum")]
