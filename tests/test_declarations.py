"""What an extractor declares is what it does."""

import pytest
import torch
from conftest import ATTENTION, RECTIFIED, extractor, needs_layer, network
from models import Block, Patches, batch, plain_net
from torch import nn

import saliency_losses as sl
from saliency_losses.extractors import Details

NEEDS = {"activations", "activation gradient", "input gradient", "perturbed inputs", "attention", "attention gradient"}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
TABLE = {details.name: details for details in sl.list_extractors(details=True)}
each = pytest.mark.parametrize("name", sl.list_extractors())


class PatchMean(nn.Module):
    """Drops the class token and averages the rest."""

    def forward(self, tokens):
        return tokens[:, 1:].mean(1)


def token_mean_net():
    return nn.Sequential(Patches(), Block(), Block(), PatchMean(), nn.Linear(8, 3))


def test_the_table_has_a_row_for_each_and_prints():
    assert list(TABLE) == sl.list_extractors()
    lines = str(sl.list_extractors(details=True)).splitlines()
    assert lines[0].split()[:2] == ["extractor", "needs"]
    assert [line.split()[0] for line in lines[1:]] == sl.list_extractors()
    assert all(isinstance(details, Details) and details.needs in NEEDS for details in TABLE.values())


@each
def test_order_two_differentiates_and_order_one_does_not(name, monkeypatch):
    taken, original = [], torch.autograd.grad

    def spy(*args, **kwargs):
        taken.append(kwargs.get("create_graph"))
        return original(*args, **kwargs)

    part, net = extractor(name), plain_net()
    if name == "auto":
        net = nn.Sequential(net[0], net[1], nn.Flatten(), nn.Linear(294, 3))  # for this it takes Grad-CAM
    net = net if name == "auto" else network(name, plain_net)
    part(net, *batch()[:2])
    monkeypatch.setattr(torch.autograd, "grad", spy)
    part(net, *batch()[:2])
    assert part.order == TABLE[name].order
    assert any(taken) == (part.order == 2)
    assert TABLE[name].static_graph == (part.order == 1)


@each
def test_several_maps_per_sample(name):
    net, images = network(name, plain_net), batch()[0]
    classes = torch.tensor([[0, 1], [2, 1], [1, 1], [2, 0]])

    def maps(which):
        torch.manual_seed(0)
        return extractor(name)(net, images, which).saliency

    if TABLE[name].maps_per_sample:
        together = maps(classes)
        torch.testing.assert_close(together, torch.stack([maps(classes[:, k]) for k in (0, 1)], 1))
        return
    guided = sl.SaliencyGuidedLoss(net, extractor(name))
    with pytest.raises(ValueError, match="gives one map per sample"):
        guided(images, classes[:, 0], torch.rand(4, 2, 9, 9), classes=classes)


@each
def test_tokens(name):
    net, part = token_mean_net(), extractor(name, **({"layer": "1"} if needs_layer(name) else {}))
    if not TABLE[name].tokens:
        with pytest.raises((ValueError, RuntimeError), match=r"elsewhere|ReLU"):
            part(net, *batch()[:2])
        return
    saliency = part(net, *batch()[:2]).saliency
    assert saliency.shape in ((4, 3, 3), (4, 9, 9))
    saliency.sum().backward()
    assert net[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("axes", [1, 2, 3])
@each
def test_dimensions(name, axes):
    if name in ATTENTION:
        assert TABLE[name].dimensions == (2,)
        return
    conv, size = CONV[axes], (9, 8, 7)[:axes]
    middle = nn.ReLU() if name in RECTIFIED else nn.GELU()
    net = nn.Sequential(conv(3, 6, 3), middle, conv(6, 5, 3), nn.SiLU(), POOL[axes](1), nn.Flatten(), nn.Linear(5, 3))
    assert axes in TABLE[name].dimensions
    saliency = extractor(name)(net, torch.rand(4, 3, *size), torch.tensor([0, 1, 2, 0])).saliency
    assert saliency.ndim == 1 + axes
    saliency.square().sum().backward()
    assert net[0].weight.grad.abs().sum() > 0
