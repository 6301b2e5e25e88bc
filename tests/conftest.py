"""What all tests share: a seed, one thread, and which options make each registered part testable."""

from typing import Any

import pytest
import torch

import saliency_losses as sl
from saliency_losses.testing import smooth_network

# Parts that cannot be made from their name alone, for networks whose layers are named as in tests/models.py.
EXTRACTOR_OPTIONS: dict[str, dict[str, Any]] = {
    "captum_integrated_gradients": {"n_steps": 4},
    "captum_layer_grad_cam": {"layer": "2"},
    "captum_layer_gradient_x_activation": {"layer": "2"},
    "integrated_gradients": {"steps": 3, "chunk": 2},
    "occlusion": {"window": 5, "stride": 4},
    "rise": {"n_masks": 12, "grid": 3},
    "smooth_grad": {"samples": 3, "chunk": 3},
}
# Parts that need a model with ReLUs.
RECTIFIED = ("deconvolution", "guided_backprop")


def needs_layer(name: str) -> bool:
    """Whether the extractor of this name has no default layer."""
    return "layer" in EXTRACTOR_OPTIONS.get(name, {})


def extractor(name: str, **options: Any) -> sl.SaliencyExtractor:
    """The extractor of this name, with what it needs for ``smooth_network`` and ``plain_net``."""
    return sl.create_extractor(name, **{**EXTRACTOR_OPTIONS.get(name, {}), **options})


def network(name: str) -> torch.nn.Sequential:
    """``smooth_network`` for the extractor of this name."""
    return smooth_network(rectified=name in RECTIFIED)


torch.set_num_threads(1)  # the networks are tiny: threads cost more than they give


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
