"""The architectures of the study by name."""

from __future__ import annotations

from torch import nn

from .network import SmallNet
from .plan import Plan


def build(plan: Plan) -> nn.Module:
    """A fresh network."""
    return SmallNet()


def features(model: nn.Module) -> nn.Module:
    """The module whose output is pooled."""
    return model.get_submodule("features")
