"""Captum's algorithms: those that can be trained through, and the reasons why the others cannot."""

import captum.attr
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from conftest import extractor
from models import TwoInputs, batch, plain_net
from torch import nn

import saliency_losses as sl
from saliency_losses.extractors import CaptumExtractor
from saliency_losses.extractors.captum_support import support_of
from saliency_losses.testing import check_extractor, smooth_network

NAMES = [name for name in sl.list_extractors() if name.startswith("captum_")]
ALGORITHMS = {
    name: algorithm
    for name, algorithm in vars(captum.attr).items()
    if isinstance(algorithm, type) and hasattr(algorithm, "attribute")
}
# What algorithms need besides their name to run on images of 3 x 9 x 9.
OPTIONS = {
    "DeepLiftShap": {"baselines": torch.zeros(2, 3, 9, 9)},
    "LayerDeepLiftShap": {"baselines": torch.zeros(2, 3, 9, 9)},
    "GradientShap": {"baselines": torch.zeros(2, 3, 9, 9)},
    "LayerGradientShap": {"baselines": torch.zeros(2, 3, 9, 9)},
    "KernelShap": {"n_samples": 3},
    "Lime": {"n_samples": 3},
    "Occlusion": {"sliding_window_shapes": (3, 3, 3), "strides": (3, 3, 3)},
    "ShapleyValueSampling": {"n_samples": 1, "feature_mask": torch.arange(3).view(1, 3, 1, 1).repeat(1, 1, 9, 9)},
    "ShapleyValues": {"feature_mask": torch.arange(3).view(1, 3, 1, 1).repeat(1, 1, 9, 9)},
    "FeatureAblation": {"feature_mask": torch.arange(3).view(1, 3, 1, 1).repeat(1, 1, 9, 9)},
    "FeaturePermutation": {"feature_mask": torch.arange(3).view(1, 3, 1, 1).repeat(1, 1, 9, 9)},
}


class FunctionalHead(nn.Module):
    """Of modules that LRP has rules for, each used once, as DeepLift wants."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


def usable():
    for name, algorithm in sorted(ALGORITHMS.items()):
        try:
            support = support_of(algorithm, {})
        except ValueError:
            continue
        yield pytest.param(algorithm, support, id=name)


def make(algorithm, support, layer="2", **options):
    layer = {"layer": layer} if support.needs_layer else {}
    return CaptumExtractor(algorithm, **layer, **OPTIONS.get(support.name, {}), **options)


@pytest.mark.parametrize(("algorithm", "support"), list(usable()))
def test_every_algorithm_is_proven_or_refused_with_the_reason(algorithm, support):
    if not support.why_not:
        options = {"n_steps": 3} if support.passes > 1 else {}
        check_extractor(make(algorithm, support, **options))
        return
    with pytest.raises(RuntimeError, match=r"cannot be trained through: .*Use extractor='") as error:
        make(algorithm, support)(plain_net(), *batch()[:2])
    assert support.instead in sl.list_extractors()
    assert support.instead in str(error.value)


# Algorithms that are bases or wrap another one.
NOT_ALONE = ("LimeBase", "NoiseTunnel")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("algorithm", "support"), list(usable()))
def test_every_algorithm_works_for_evaluation(algorithm, support):
    if support.name in NOT_ALONE:
        return
    net = FunctionalHead()
    with torch.no_grad():
        output, saliency = make(algorithm, support, "body.2")(net.eval(), *batch()[:2])
    assert torch.equal(output, net(batch()[0]))
    assert saliency.ndim == 3
    assert len(saliency) == 4
    assert not saliency.requires_grad


def test_a_function_makes_algorithms_that_wrap_others():
    part = CaptumExtractor(lambda model: NoiseTunnel(Saliency(model)), nt_samples=2, reduce="abs_mean")
    with torch.no_grad():
        assert part(plain_net(), *batch()[:2]).saliency.shape == (4, 9, 9)
    with pytest.raises(RuntimeError, match="not proven"):
        part(plain_net(), *batch()[:2])


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_updated_once(name):
    net = smooth_network()
    twin = smooth_network()
    twin.load_state_dict(net.state_dict())
    images, labels, _ = batch(dtype=torch.float64)
    extractor(name)(net, images, labels)
    twin(images)
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(net.state_dict()[key], value, rtol=0, atol=0)


def test_chunks_would_lose_their_graph():
    part = CaptumExtractor(captum.attr.IntegratedGradients, internal_batch_size=4)
    with pytest.raises(RuntimeError, match="only the first chunk keeps its graph"):
        part(plain_net(), *batch()[:2])


def test_further_passes_take_each_samples_own_inputs_and_class():
    net = TwoInputs().double()
    images, labels, _ = batch(classes=2, dtype=torch.float64)
    ages = torch.rand(4, 1, dtype=torch.float64)
    part = extractor("captum_integrated_gradients", input="image")
    together = part(net, {"image": images, "age": ages}, labels).saliency
    for index in range(4):
        alone = slice(index, index + 1)
        one = part(net, {"image": images[alone], "age": ages[alone]}, labels[alone]).saliency
        torch.testing.assert_close(together[alone], one)


def test_the_predicted_class_is_settled_before_the_way_begins():
    net, (images, _, _) = plain_net().double(), batch(dtype=torch.float64)
    predicted = net(images).argmax(1)
    expected = extractor("captum_integrated_gradients")(net, images, predicted).saliency
    for options, classes in (({}, None), ({"score": "predicted"}, None)):
        found = extractor("captum_integrated_gradients", **options)(net, images, classes).saliency
        torch.testing.assert_close(found, expected)


def test_what_explains_no_score_is_refused():
    for algorithm in (captum.attr.NeuronGradient, captum.attr.LLMAttribution, "Saliency"):
        with pytest.raises(ValueError, match=r"takes an algorithm of captum\.attr that explains a model's score"):
            CaptumExtractor(algorithm)
    with pytest.raises(ValueError, match="LayerGradCam needs layer="):
        CaptumExtractor(captum.attr.LayerGradCam)
    with pytest.raises(ValueError, match="Saliency does not take layer="):
        CaptumExtractor(captum.attr.Saliency, layer="2")
