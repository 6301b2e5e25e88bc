"""What all tests share: a seed, one thread, and which options make each registered part testable."""

from typing import Any

import pytest
import torch

import saliency_losses as sl

# Parts that cannot be made from their name alone, for networks whose layers are named as in tests/models.py.
EXTRACTOR_OPTIONS: dict[str, dict[str, Any]] = {
    "captum_integrated_gradients": {"n_steps": 4},
    "captum_layer_grad_cam": {"layer": "2"},
    "captum_layer_gradient_x_activation": {"layer": "2"},
}


def needs_layer(name: str) -> bool:
    """Whether the extractor of this name has no default layer."""
    return "layer" in EXTRACTOR_OPTIONS.get(name, {})


def extractor(name: str, **options: Any) -> sl.SaliencyExtractor:
    """The extractor of this name, with what it needs for ``smooth_network`` and ``plain_net``."""
    return sl.create_extractor(name, **{**EXTRACTOR_OPTIONS.get(name, {}), **options})


torch.set_num_threads(1)  # the networks are tiny: threads cost more than they give


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
