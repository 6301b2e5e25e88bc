"""The promise: the gradient of the guided loss is right for every parameter, in train mode, on curved networks."""

import pytest
import torch
from conftest import DIVERGENCES, extractor, network, one_of
from models import Attention, InplaceNet, batch

import saliency_losses as sl
from saliency_losses.testing import check_gradients, smooth_network

# Every extractor with one divergence; with others in the slow tier.
several = pytest.mark.parametrize("divergence", one_of(DIVERGENCES, "correlation"))


def check(model, part, divergence, **options):
    images, labels, human = batch(dtype=torch.float64)
    model = model.double().train()
    guided = sl.SaliencyGuidedLoss(model, part, divergence, **options)
    annotated = torch.tensor([True, True, False, True])

    def loss():
        torch.manual_seed(3)
        return guided(images, labels, human, annotated=annotated).loss

    check_gradients(loss, dict(model.named_parameters()), tolerance=1e-5)


@several
@pytest.mark.parametrize("name", sl.list_extractors())
def test_smooth_network_with_batchnorm_in_train_mode(name, divergence):
    check(network(name), extractor(name), divergence)


@several
@pytest.mark.parametrize("name", sl.list_extractors())
def test_inplace_relus_behind_batchnorm(name, divergence):
    tapped = hasattr(extractor(name), "layer") and extractor(name).needs == "activation gradient"
    options = {"layer": "bn1"} if tapped else {}  # with a BatchNorm above it
    check(network(name, InplaceNet), extractor(name, **options), divergence, saliency_weight=3.0)


@several
@pytest.mark.parametrize(
    "score", one_of(["contrast", "predicted", 1, lambda out, y: out.log_softmax(1).sum(1)], "contrast", 1)
)
@pytest.mark.parametrize(
    "name",
    one_of(
        ["cam", "grad_cam", "input_gradient", "captum_saliency", "attention_relevance", "le_grad"],
        "cam", "grad_cam", "input_gradient", "attention_relevance",
    ),
)  # fmt: skip
def test_every_score(name, score, divergence):
    check(network(name), extractor(name, score=score), divergence)


@several
@pytest.mark.parametrize("options", [{"layer": "bn1", "relu": True}, {"layer": "conv3"}, {}])
def test_grad_cam_at_any_layer(options, divergence):
    check(InplaceNet(), sl.create_extractor("grad_cam", **options), divergence)


@several
@pytest.mark.parametrize("reduce", ["abs_max", "abs_mean", "mean", "l2"])
def test_input_gradient_reductions(reduce, divergence):
    check(smooth_network(), sl.create_extractor("input_gradient", reduce=reduce), divergence)


@several
def test_attention_under_the_math_kernel(divergence):
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        check(Attention(), sl.create_extractor("grad_cam", layer="patch"), divergence)


@pytest.mark.parametrize("divergence", sl.list_divergences())
@pytest.mark.parametrize("name", one_of(["cam", "grad_cam"], "grad_cam"))
def test_every_divergence(name, divergence):
    held = sl.create_divergence(divergence).holds_statistics  # the published form's gradient is not a derivative
    check(smooth_network(), extractor(name), sl.create_divergence(divergence, **({"detach": False} if held else {})))
