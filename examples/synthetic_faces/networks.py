"""The architectures of the study, and which of their layers the published code of CYBORG explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .arm import Arm
from .plan import Plan
from .small_net import SmallNet
from .weights import load_weights

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of the three channels."""

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Network:
    """One architecture.

    Attributes:
        make: Builds it, with two logits.
        size: Side of the images that it is trained on.
        features: Name of the module whose output is pooled (for DenseNet-121, after a ReLU in place).
        classifier: Name of the last linear layer.
        tap: The layer whose output the published code explains; None: what is pooled.
        statistics: What its weights expect images to be normalised by; None: images in [0, 1].
    """

    make: Callable[[], nn.Module]
    size: int
    features: str
    classifier: str
    tap: str | None = None
    statistics: Statistics | None = IMAGENET


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        try:
            from torchvision.models import get_model
        except ImportError as error:
            raise ValueError(f'{name} needs torchvision: pip install "saliency-losses[vision]"') from error
        model: nn.Module = get_model(name, weights=None, num_classes=2, **options)
        return model

    return make


def _xception() -> nn.Module:
    try:
        from timm import create_model
    except ImportError as error:
        raise ValueError("xception needs timm: pip install timm") from error
    model: nn.Module = create_model("legacy_xception", pretrained=False, num_classes=2)
    return model


_INCEPTION = {"aux_logits": False, "init_weights": True, "transform_input": True}  # as its ImageNet weights expect

NETWORKS = {
    "small": Network(SmallNet, 48, "features", "classifier", statistics=None),
    "resnet50": Network(_torchvision("resnet50"), 224, "layer4", "fc", "layer4.2.conv3"),
    "densenet121": Network(_torchvision("densenet121"), 224, "features", "classifier", "features"),
    "inception_v3": Network(_torchvision("inception_v3", **_INCEPTION), 299, "Mixed_7c", "fc", "Mixed_7c"),
    "xception": Network(_xception, 299, "act4", "fc", "conv4", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
}


def network(name: str) -> Network:
    """The architecture of that name.

    Raises:
        ValueError: There is none; the message lists what there is.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}. Choose from {', '.join(NETWORKS)}")
    return NETWORKS[name]


class Normalised(nn.Module):
    """A network and the normalisation of its images, so that those of all networks lie in [0, 1]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, statistics: Statistics) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("mean", "deviation"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of images in [0, 1]."""
        logits: Tensor = self.network((images - self.mean) / self.deviation)
        return logits


def build(plan: Plan) -> nn.Module:
    """The plan's network, from images in [0, 1] to two logits: fresh, or with the weights of the file that it names.

    Raises:
        ValueError: The network is unknown or its package missing, or the file does not hold its weights.
    """
    kind = network(plan.network)
    model = kind.make()
    if plan.pretrained is not None:
        load_weights(model, plan.pretrained, kind.classifier)
    return model if kind.statistics is None else Normalised(model, kind.statistics)


def features(model: nn.Module) -> nn.Module:
    """The module of a network that :func:`build` gave whose output is pooled.

    Raises:
        ValueError: The model is no such network.
    """
    parts = dict((model.network if isinstance(model, Normalised) else model).named_children())
    for kind in NETWORKS.values():
        if kind.features in parts:
            return parts[kind.features]
    raise ValueError(f"{type(model).__name__} is none of the study's networks: {', '.join(NETWORKS)}")


def input_size(name: str) -> int:
    """The side of the images that the network of that name is trained on."""
    return network(name).size


def cam_layer(plan: Plan) -> str | None:
    """The layer that :class:`~saliency_losses.extractors.CAM` is to take under this plan; None: what is pooled.

    Under ``feature_tap: official`` it is the layer that the published code of CYBORG (Boyd et al., WACV 2023) taps: of
    DenseNet-121 the features before their ReLU, of ResNet-50 and Xception the last convolution before its
    normalisation, of Inception v3 what is pooled.
    """
    tap = network(plan.network).tap
    return None if plan.feature_tap == "pooled" or tap is None else f"network.{tap}"


def tapped(arm: Arm, plan: Plan) -> Arm:
    """The arm with the plan's layer, where its extractor is CAM and chooses none itself."""
    layer = cam_layer(plan)
    if layer is None or arm.extractor != "cam" or "layer" in arm.extractor_options:
        return arm
    return replace(arm, extractor_options={**arm.extractor_options, "layer": layer})


def explained(arm: Arm, plan: Plan) -> Arm:
    """The arm with the maps that networks are compared by: of the true class, and CAM for arms that have none."""
    options = {name: value for name, value in arm.extractor_options.items() if name != "score"}
    return tapped(replace(arm, extractor=arm.extractor or "cam", extractor_options=options), plan)
