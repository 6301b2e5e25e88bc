"""A long run leaves nothing behind."""

import gc

import pytest
import torch
from conftest import extractor, needs_layer, network, one_of
from models import InplaceNet, batch

import saliency_losses as sl
from saliency_losses.testing import smooth_network


def alive() -> int:
    gc.collect()
    return tensors()


# By activation, its gradient, the input's gradient, perturbation, attention and Captum.
ONE_OF_EACH_KIND = ("cam", "grad_cam", "input_gradient", "occlusion", "attention_relevance", "captum_saliency")


def tensors() -> int:
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("name", one_of(sl.list_extractors(), "cam", "grad_cam"))
def test_a_thousand_steps_leave_no_tensor_and_no_hook(name):
    net = network(name).float()
    guided = sl.SaliencyGuidedLoss(net, extractor(name), "mse")
    optimizer = torch.optim.SGD(guided.parameters(), lr=1e-3)
    images, labels, human = batch(2)

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            guided(images, labels, human).loss.backward()
            optimizer.step()

    steps(20)
    before = alive()
    steps(980)
    assert alive() <= before
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    assert torch.overrides._get_current_function_mode() is None


@pytest.mark.parametrize("name", one_of(sl.list_extractors(), *ONE_OF_EACH_KIND))
@pytest.mark.parametrize("make", one_of([smooth_network, InplaceNet], smooth_network))
@pytest.mark.parametrize("warm", one_of([0, 2], 0))
def test_nothing_waits_for_garbage_collection(name, make, warm):
    """Graphs are freed when the step ends, the first one too: no reference cycle holds a tensor."""
    net = network(name, make).float()
    options = {"layer": "bn1"} if needs_layer(name) and make is InplaceNet else {}
    guided = sl.SaliencyGuidedLoss(net, extractor(name, **options), "mse")
    images, labels, human = batch(2)
    for _ in range(warm):
        guided(images, labels, human).loss.backward()
    net.zero_grad()
    gc.collect()
    before = tensors()
    gc.disable()
    try:
        for _ in range(3):
            guided(images, labels, human).loss.backward()
            net.zero_grad()
        held = tensors()
    finally:
        gc.enable()
    assert held <= before
