"""What all tests share: a seed, one thread, and which options make each registered part testable."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from models import InplaceNet, TokensAndAge, TwoInputs, plain_net, token_net
from torch import nn

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


def one_of(values: Iterable[Any], *quick: Any) -> list[Any]:
    """All values for a parametrized test, those but ``quick`` in the slow tier."""
    return [pytest.param(value, marks=() if value in quick else pytest.mark.slow) for value in values]


# What stands for all divergences where extractors are tested: the gradient reaches an extractor by one path, and what a
# divergence sends along it is tested for each divergence on its own.
DIVERGENCES = ("correlation", "kl", "mse", "right_reasons")


def needs_layer(name: str) -> bool:
    """Whether the extractor of this name has no default layer."""
    return "layer" in EXTRACTOR_OPTIONS.get(name, {})


# Extractors of attention, and the token networks that stand in for the convolutional ones.
ATTENTION = ("attention_relevance", "attention_rollout", "le_grad")
_TOKEN_NETWORKS: dict[Callable[..., nn.Module], Callable[[], nn.Module]] = {
    smooth_network: lambda: token_net(dropout=0.3).double(),
    plain_net: token_net,
    InplaceNet: lambda: token_net(dropout=0.25, fused=False),
    TwoInputs: TokensAndAge,
}


def network(name: str, make: Callable[..., nn.Module] = smooth_network) -> Any:
    """What ``make`` gives for the extractor of this name: with ReLUs, or tokens, where it needs them."""
    if name not in ATTENTION:
        return make() if make in (InplaceNet, TwoInputs) else make(rectified=name in RECTIFIED)
    torch.manual_seed(3)  # finite differences step over no kink of these methods' ReLUs
    return _TOKEN_NETWORKS[make]()


def extractor(name: str, **options: Any) -> sl.SaliencyExtractor:
    """The extractor of this name, with what it needs for ``smooth_network`` and ``plain_net``."""
    return sl.create_extractor(name, **{**EXTRACTOR_OPTIONS.get(name, {}), **options})


torch.set_num_threads(1)  # the networks are tiny: threads cost more than they give


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
