"""Extractors: where a model looks, as a map that can be trained through."""

from typing import Any

from saliency_losses.extractors.base import EXTRACTORS, Explanation, SaliencyExtractor, call_model
from saliency_losses.extractors.cam import CAM, class_activation_map
from saliency_losses.extractors.captum import CaptumExtractor
from saliency_losses.extractors.grad_cam import GradCAM
from saliency_losses.extractors.input_gradient import InputGradient, reduce_channels
from saliency_losses.extractors.layers import Layer
from saliency_losses.extractors.probe import list_layers
from saliency_losses.extractors.score import Score

__all__ = [
    "CAM",
    "CaptumExtractor",
    "Explanation",
    "GradCAM",
    "InputGradient",
    "Layer",
    "SaliencyExtractor",
    "Score",
    "call_model",
    "class_activation_map",
    "create_extractor",
    "list_extractors",
    "list_layers",
    "reduce_channels",
    "register_extractor",
]


def create_extractor(name: str, **options: Any) -> SaliencyExtractor:
    """The extractor of this name.

    Raises:
        ValueError: Unknown name; the message lists the known ones and suggests the nearest.
        TypeError: The extractor does not know an option.

    Example:
        >>> create_extractor("grad_cam", layer="layer4")
        GradCAM(layer='layer4')
    """
    return EXTRACTORS.create(name, **options)


def list_extractors() -> list[str]:
    """The names of all extractors, those of installed plugins included.

    Example:
        >>> list_extractors()
        ['cam', 'captum_layer_grad_cam', 'captum_saliency', 'grad_cam', 'input_gradient']
    """
    return EXTRACTORS.names()


register_extractor = EXTRACTORS.register
