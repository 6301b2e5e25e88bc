"""Which of Captum's algorithms can be trained through, how each is made to, and why the others cannot."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from saliency_losses.extractors.gradient import gradient

__all__ = ["Support", "keep_graph", "support_of"]

_NO_GRAD = "Captum computes it under no_grad"
_CONSTANT = "its hooks fire again in the second backward pass and change the gradient"
_OTHER = "its gradient with respect to the parameters is not proven"


@dataclass(frozen=True)
class Support:
    """How one algorithm of Captum is used.

    Attributes:
        name: Of the algorithm.
        way: How its graph is kept: by a ``"gradient_func"`` of ours, by ``"grad_kwargs"``, or not at all.
        passes: Forward passes of the model in one call, the model's own included; a lower bound where ``way`` is none.
        needs_layer: Whether it explains a layer.
        why_not: Why it cannot be trained through, in words; empty where it can.
        instead: Name of an extractor of this package that can be trained through and answers the same question.
    """

    name: str
    way: Literal["gradient_func", "grad_kwargs", "none"]
    passes: int
    needs_layer: bool
    why_not: str = ""
    instead: str = ""


_PROVEN: dict[str, tuple[Literal["gradient_func", "grad_kwargs"], int]] = {
    "Saliency": ("gradient_func", 1),
    "InputXGradient": ("gradient_func", 1),
    "IntegratedGradients": ("gradient_func", 2),
    "LayerGradCam": ("grad_kwargs", 1),
    "LayerGradientXActivation": ("grad_kwargs", 1),
    "InternalInfluence": ("grad_kwargs", 2),
}
_REFUSED = {
    "Deconvolution": (_CONSTANT, "deconvolution"),
    "GuidedBackprop": (_CONSTANT, "guided_backprop"),
    "GuidedGradCam": (_CONSTANT, "guided_backprop"),
    "DeepLift": ("it detaches the activations of the baseline, and its hooks fire again", "integrated_gradients"),
    "DeepLiftShap": ("it detaches the activations of the baseline, and its hooks fire again", "expected_gradients"),
    "LayerDeepLift": ("it detaches the activations of the baseline, and its hooks fire again", "layer_cam"),
    "GradientShap": (f"{_NO_GRAD} (NoiseTunnel)", "expected_gradients"),
    "LayerGradientShap": (f"{_NO_GRAD} (NoiseTunnel)", "layer_cam"),
    "NoiseTunnel": (_NO_GRAD, "smooth_grad"),
    "LayerActivation": (_NO_GRAD, "activation_map"),
    "LayerConductance": ("attribute() does not hand grad_kwargs on", "layer_cam"),
    "LayerIntegratedGradients": ("it evaluates the layer under no_grad, which cuts what lies below", "layer_cam"),
    "LRP": ("it changes the weights in place during the call", "input_x_gradient"),
    "LayerLRP": ("it changes the weights in place during the call", "layer_cam"),
    "Occlusion": (_NO_GRAD, "occlusion"),
    "FeatureAblation": (_NO_GRAD, "occlusion"),
    "FeaturePermutation": (_NO_GRAD, "occlusion"),
    "ShapleyValueSampling": (_NO_GRAD, "rise"),
    "ShapleyValues": (_NO_GRAD, "rise"),
    "KernelShap": ("it fits a linear model to detached data", "rise"),
    "Lime": ("it fits a linear model to detached data", "rise"),
}


def support_of(algorithm: Callable[..., Any], options: Mapping[str, Any]) -> Support:
    """How an algorithm can be used.

    Args:
        algorithm: A class of ``captum.attr``, or a function from the model to one of its instances.
        options: For its ``attribute``.

    Raises:
        ValueError: It explains no score of an image.
    """
    name = getattr(algorithm, "__name__", str(algorithm))
    if not callable(algorithm) or name.startswith(("Neuron", "DataLoader")) or "LLM" in name:
        raise ValueError(
            f"CaptumExtractor takes an algorithm of captum.attr that explains a model's score, such as "
            f"captum.attr.IntegratedGradients, got {name}."
        )
    needs_layer = "layer" in inspect.signature(algorithm).parameters
    official = getattr(algorithm, "__module__", "").startswith("captum.")
    if official and name in _PROVEN:
        way, passes = _PROVEN[name]
        if options.get("internal_batch_size") is None:
            return Support(name, way, passes, needs_layer)
        why = "with internal_batch_size only the first chunk keeps its graph"
        instead = "layer_cam" if needs_layer else "integrated_gradients"
        return Support(name, "none", passes, needs_layer, why, instead)
    why, instead = _REFUSED.get(name, (_OTHER, "input_gradient")) if official else (_OTHER, "input_gradient")
    return Support(name, "none", 2, needs_layer, why, instead)


def keep_graph(*, create_graph: bool) -> Callable[..., tuple[Tensor, ...]]:
    """A gradient function for Captum that keeps the graph."""

    def gradient_func(
        forward_fn: Any, inputs: tuple[Tensor, ...], target_ind: Any = None, additional_forward_args: Any = ()
    ) -> tuple[Tensor, ...]:
        value = forward_fn(*(tensor.clone() for tensor in inputs), *additional_forward_args)
        return tuple(gradient(value, tensor, "the input", create_graph=create_graph) for tensor in inputs)

    return gradient_func
