"""Images and human maps: reading them, and moving both by the same transform."""

from importlib import import_module
from typing import Any

__all__ = ["JointTransform", "KorniaJoint", "SaliencyMap"]

_MODULES = {"JointTransform": "joint", "KorniaJoint": "kornia_joint", "SaliencyMap": "saliency_map"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
