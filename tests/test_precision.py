"""Mixed precision: maps and divergences in float32, finite and close to the full-precision step."""

import pytest
import torch
from conftest import DIVERGENCES, extractor, network, one_of
from models import batch, plain_net

import saliency_losses as sl

PAIRS = {(name, divergence) for name in sl.list_extractors() for divergence in DIVERGENCES}
PAIRS |= {("grad_cam", divergence) for divergence in sl.list_divergences()}
pairs = pytest.mark.parametrize(("name", "divergence"), sorted(PAIRS))


# Divergences whose gradient has no jumps and no poles: rounding the map moves it little.
SMOOTH = ("mse", "kl", "correlation", "right_reasons", "huber", "js")


@pytest.mark.parametrize("name", sl.list_extractors())
@pytest.mark.parametrize("divergence", one_of(SMOOTH, "mse", "correlation"))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_with_gradient_scaling(name, divergence, dtype):
    images, labels, human = batch()
    net = network(name, plain_net)
    guided = sl.SaliencyGuidedLoss(net, extractor(name), divergence, saliency_weight=1.0)
    torch.manual_seed(0)
    exact = guided(images, labels, human)
    expected = torch.autograd.grad(exact.saliency_loss, list(net.parameters()), allow_unused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=dtype):
        out = guided(images, labels, human)
    assert out.model_saliency.dtype == out.saliency_loss.dtype == torch.float32
    torch.testing.assert_close(out.saliency_loss, exact.saliency_loss, rtol=0.1, atol=0.02)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    scaler.scale(out.saliency_loss).backward()
    scaler.unscale_(optimizer)
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert parameter.grad is None or parameter.grad.isfinite().all()
        rounded = dtype == torch.bfloat16 and (
            name == "occlusion"  # differences of scores of eight bits
            or (name, divergence) == ("eigen_grad_cam", "robust")  # which of two cells is the smallest changes
        )
        if gradient is not None and float(gradient.norm()) > 1e-4 and not rounded:
            cosine = torch.cosine_similarity(parameter.grad.flatten(), gradient.flatten(), dim=0)
            assert float(cosine) > 0.9


def test_half_precision_input_gradients_do_not_vanish():
    """Without scaling, float16 gradients of this score underflow to zero and guidance would silently be off."""
    net = plain_net()
    with torch.no_grad():
        net[6].weight.mul_(1e-5)
    images, labels, _ = batch()
    exact = extractor("input_gradient", reduce="mean")(net, images, labels).saliency
    with torch.autocast("cpu", dtype=torch.float16):
        half = extractor("input_gradient", reduce="mean")(net, images, labels).saliency
    cosine = torch.cosine_similarity(half.flatten(), exact.flatten(), dim=0)
    assert float(cosine.detach()) > 0.99


@pairs
@pytest.mark.filterwarnings("ignore:human_saliency marks something", "ignore:No map of the model has a positive value")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_flat_empty_and_single_pixel_maps_are_finite(name, divergence, dtype):
    images, labels, _ = batch()
    human = torch.zeros(4, 9, 9)
    human[1] = 0.7
    human[2, 4, 4] = 1.0
    images[3] = 0.0  # constant input: a flat map for some extractors
    net = network(name, plain_net)
    guided = sl.SaliencyGuidedLoss(net, extractor(name), divergence)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        out = guided(images, labels, human, annotated=torch.ones(4, dtype=torch.bool))
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pairs
@pytest.mark.filterwarnings("ignore:No map of the model has a positive value")
def test_flat_model_maps_are_finite(name, divergence):
    """A dead network: every map is exactly zero."""
    images, labels, human = batch()
    net = network(name, plain_net)
    with torch.no_grad():
        net[-1].weight.zero_()
    out = sl.SaliencyGuidedLoss(net, extractor(name), divergence)(images, labels, human)
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_a_model_in_half_precision():
    images, labels, human = batch()
    for name in sl.list_extractors():
        net = network(name, plain_net).bfloat16()
        out = sl.SaliencyGuidedLoss(net, extractor(name))(images.bfloat16(), labels, human)
        assert out.saliency_loss.dtype == torch.float32
        out.loss.backward()


@pytest.mark.parametrize("divergence", sl.list_divergences())
def test_the_default_dtype_does_not_widen_float32_maps(divergence):
    torch.set_default_dtype(torch.float64)
    try:
        value = sl.create_divergence(divergence)(*torch.rand(2, 2, 7, 7, dtype=torch.float32))
    finally:
        torch.set_default_dtype(torch.float32)
    assert value.dtype == torch.float32
