"""Extractors: where a model looks, as a map that can be trained through."""

from typing import Any, Literal, overload

from saliency_losses.extractors.activation_map import ActivationMap
from saliency_losses.extractors.attention_relevance import AttentionRelevance
from saliency_losses.extractors.attention_rollout import AttentionRollout
from saliency_losses.extractors.auto import Auto
from saliency_losses.extractors.base import EXTRACTORS, Explanation, SaliencyExtractor, call_model
from saliency_losses.extractors.cam import CAM, class_activation_map
from saliency_losses.extractors.captum import CaptumExtractor
from saliency_losses.extractors.channels import reduce_channels
from saliency_losses.extractors.deconvolution import Deconvolution
from saliency_losses.extractors.details import Details, DetailsTable, details_of
from saliency_losses.extractors.eigen_cam import EigenCAM
from saliency_losses.extractors.eigen_grad_cam import EigenGradCAM
from saliency_losses.extractors.element_wise_grad_cam import ElementWiseGradCAM
from saliency_losses.extractors.expected_gradients import ExpectedGradients
from saliency_losses.extractors.grad_cam import GradCAM
from saliency_losses.extractors.grad_cam_plus_plus import GradCAMPlusPlus
from saliency_losses.extractors.guided_backprop import GuidedBackprop
from saliency_losses.extractors.hires_cam import HiResCAM
from saliency_losses.extractors.input_gradient import InputGradient
from saliency_losses.extractors.input_x_gradient import InputXGradient
from saliency_losses.extractors.integrated_gradients import IntegratedGradients
from saliency_losses.extractors.layer_cam import LayerCAM
from saliency_losses.extractors.layers import Layer
from saliency_losses.extractors.le_grad import LeGrad
from saliency_losses.extractors.occlusion import Occlusion
from saliency_losses.extractors.probe import list_layers
from saliency_losses.extractors.rise import RISE
from saliency_losses.extractors.score import Score
from saliency_losses.extractors.shapley_cam import ShapleyCAM
from saliency_losses.extractors.smooth_grad import SmoothGrad
from saliency_losses.extractors.x_grad_cam import XGradCAM

__all__ = [
    "CAM",
    "RISE",
    "ActivationMap",
    "AttentionRelevance",
    "AttentionRollout",
    "Auto",
    "CaptumExtractor",
    "Deconvolution",
    "Details",
    "DetailsTable",
    "EigenCAM",
    "EigenGradCAM",
    "ElementWiseGradCAM",
    "ExpectedGradients",
    "Explanation",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "HiResCAM",
    "InputGradient",
    "InputXGradient",
    "IntegratedGradients",
    "Layer",
    "LayerCAM",
    "LeGrad",
    "Occlusion",
    "SaliencyExtractor",
    "Score",
    "ShapleyCAM",
    "SmoothGrad",
    "XGradCAM",
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


@overload
def list_extractors() -> list[str]: ...
@overload
def list_extractors(*, details: Literal[False]) -> list[str]: ...
@overload
def list_extractors(*, details: Literal[True]) -> DetailsTable: ...
def list_extractors(*, details: bool = False) -> list[str] | DetailsTable:
    """The names of all extractors, those of installed plugins included.

    Args:
        details: Instead, what each declares to be: prints as a table.

    Example:
        >>> [name for name in list_extractors() if name.startswith("grad_cam")]
        ['grad_cam', 'grad_cam_plus_plus']
        >>> print(DetailsTable(row for row in list_extractors(details=True) if row.name in ("cam", "grad_cam")))
        extractor  needs                order  passes  compiles  static graph  tokens  axes     K maps
        cam        activations          1      1       yes       yes           yes     1, 2, 3  yes
        grad_cam   activation gradient  2      1       yes       -             yes     1, 2, 3  yes
    """
    return DetailsTable(map(details_of, EXTRACTORS.names())) if details else EXTRACTORS.names()


register_extractor = EXTRACTORS.register
