"""torchvision's architectures: CAM where its identity holds, and the error that helps where it does not."""

import pytest
import torch
import torchvision
from torch import nn

from saliency_losses.extractors import CAM, GradCAM

HOLDS = {
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "mobilenet_v2": 64,
    "inception_v3": 120,
    "regnet_y_400mf": 64,
    "regnet_x_400mf": 64,
    "shufflenet_v2_x0_5": 64,
    "mnasnet0_5": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "googlenet": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
}
FAILS = {
    "vit_b_32": "encoder",
    "convnext_tiny": "features",
    "mobilenet_v3_small": "features",
    "mobilenet_v3_large": "features",
    "vgg11": "features",
    "vgg11_bn": "features",
    "alexnet": "features",
}
# Wider or deeper variants of the above: nothing new in kind, only slow.
SLOW = {
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "efficientnet_v2_s",
    "regnet_x_400mf",
    "squeezenet1_0",
    "swin_v2_t",
}


def make(name):
    options = {"aux_logits": False, "init_weights": False} if name in ("inception_v3", "googlenet") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=5, **options)


def names(table):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in table]


@pytest.mark.parametrize("name", names(HOLDS))
@pytest.mark.parametrize("training", [True, False])
def test_the_mean_of_the_map_plus_the_bias_is_the_logit(name, training):
    net, labels = make(name).train(training), torch.tensor([1, 3])
    images = torch.randn(2, 3, HOLDS[name], HOLDS[name])
    dropped = [m for m in net.modules() if isinstance(m, nn.Dropout)]
    before = [int(m.num_batches_tracked) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        CAM()(net, images, labels)  # the tap is found with dropout as it is
        for module in dropped:
            module.p = 0.0  # a dropped pooled vector is another vector than the map's mean
        output, saliency = CAM()(net, images, labels)
        torch.manual_seed(0)
        found = CAM()(net, images, labels)
    after = [int(m.num_batches_tracked) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [a - b for a, b in zip(after, before, strict=True)] == [3 * training] * len(before)
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    bias = linear[-1].bias.detach()[labels] if linear else 0.0
    logits = output.gather(1, labels[:, None])[:, 0]
    scale = float(saliency.abs().max()) + 1e-12
    torch.testing.assert_close(saliency.mean((1, 2)) + bias, logits, rtol=1e-4, atol=1e-4 * scale)
    if training is False:
        torch.testing.assert_close(saliency, found.saliency)
        grad_cam = GradCAM()(net, images, labels).saliency.detach()
        torch.testing.assert_close(grad_cam * saliency[0].numel(), saliency, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("name", FAILS)
def test_the_error_that_helps(name):
    size = {"vit_b_32": 224, "alexnet": 128}.get(name, 64)
    net, images = make(name), torch.randn(2, 3, size, size)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"CAM needs global average pooling.*grad_cam.*Candidates: ") as error:
            CAM()(net, images, torch.tensor([1, 3]))
        assert repr(FAILS[name]) in str(error.value)
    if name.startswith("vit"):
        with torch.no_grad():
            assert GradCAM()(net, images, torch.tensor([1, 3])).saliency.shape == (2, 7, 7)
            nn.init.normal_(net.heads.head.weight)  # torchvision's starts at zero
            with pytest.raises(ValueError, match=r"does not depend on the positions of layer 'encoder\.ln'"):
                GradCAM(layer="encoder.ln")(net, images, torch.tensor([1, 3]))
    else:
        assert GradCAM()(net, images, torch.tensor([1, 3])).saliency.shape[0] == 2


def test_auxiliary_outputs_are_reached_by_a_callable():
    net = torchvision.models.googlenet(weights=None, num_classes=5, aux_logits=True, init_weights=False)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([1, 3])

    def score(output, targets):
        return output.logits.gather(1, targets[:, None])[:, 0]

    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    by_name, by_callable = CAM()(net, images, labels), CAM(score=score)(net, images, labels)
    torch.testing.assert_close(by_name.saliency, by_callable.saliency)
    assert CAM()(net.eval(), images, labels).saliency.shape == by_name.saliency.shape
