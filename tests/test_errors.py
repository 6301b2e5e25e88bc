"""Bad input: a message that says what was expected, what came, and what to do."""

import re

import pytest
import torch
from models import TwoInputs, batch, plain_net
from torch import nn
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.extractors import CAM, GradCAM, InputGradient

IMAGES, LABELS, HUMAN = batch()
NAN = torch.where(torch.arange(4)[:, None, None] == 2, float("nan"), HUMAN)


def guided(*args, **options):
    return sl.SaliencyGuidedLoss(plain_net(), *args, **options)


class VGG(nn.Module):
    """Pooling to more than one position, then two linear layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Unused(nn.Module):
    """One layer that is never called, one that is called twice, one that returns a tuple, one beside the score."""

    def __init__(self):
        super().__init__()
        self.conv, self.never, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.ReLU()
        self.beside, self.fc, self.lstm = nn.Conv2d(3, 2, 3), nn.Linear(4, 3), nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        self.beside(x)
        x = self.relu(self.relu(self.conv(x)))
        return self.fc(self.lstm(x.mean(3).transpose(1, 2))[0].mean(1))


class Returns(nn.Module):
    """Whatever a function makes of its features."""

    def __init__(self, value):
        super().__init__()
        self.conv, self.value = nn.Conv2d(3, 4, 3), value

    def forward(self, x):
        return self.value(self.conv(x))


BAD_CALLS = {
    "unknown extractor": (
        lambda: guided("grad_camm"),
        r"Unknown extractor 'grad_camm'. Did you mean 'grad_cam'.*Known: .*cam,",
    ),
    "unknown divergence": (lambda: guided(divergence="correlations"), "Unknown divergence.*Did you mean 'correlation'"),
    "alpha above 1": (lambda: guided(alpha=1.5), r"alpha must lie in \[0, 1\].*got 1.5"),
    "alpha below 0": (lambda: guided(alpha=-0.1), r"alpha must lie in \[0, 1\]"),
    "alpha NaN": (lambda: guided(alpha=float("nan")), r"alpha must lie in \[0, 1\]"),
    "both weights": (lambda: guided(alpha=0.5, saliency_weight=1.0), "exclude each other"),
    "negative weight": (
        lambda: guided(saliency_weight=-1.0),
        "saliency_weight must be finite and not negative, got -1",
    ),
    "reduction": (lambda: guided(reduction="sum"), "reduction must be 'mean' or 'none', got 'sum'"),
    "denominator": (lambda: guided(denominator="all"), "denominator must be 'annotated', 'batch', 'sum' or a positive"),
    "an infinite denominator": (lambda: guided(denominator=float("inf")), "or a positive finite number, got inf"),
    "denominator zero": (
        lambda: guided(denominator=0),
        "denominator must be 'annotated', 'batch', 'sum' or a positive",
    ),
    "gradient_sync": (lambda: guided(gradient_sync="no"), "gradient_sync must be 'wrapper', 'manual' or 'none'"),
    "score": (lambda: CAM(score="truth"), "score must be one of 'true', .*, a class index or a callable"),
    "reduce": (
        lambda: InputGradient(reduce="max"),
        "reduce must be one of abs_max, abs_mean, mean, sum, l2, none, got 'max'",
    ),
    "no such layer": (
        lambda: sl.SaliencyGuidedLoss(VGG(), GradCAM(layer="feature"))(IMAGES, LABELS, HUMAN),
        r"VGG has no layer 'feature'. Did you mean 'features'.*list_layers\(model, images\)",
    ),
    "layer never called": (
        lambda: sl.SaliencyGuidedLoss(Unused(), GradCAM(layer="never"))(IMAGES, LABELS, HUMAN),
        "Layer 'never' was never called in this forward pass",
    ),
    "layer called twice": (
        lambda: sl.SaliencyGuidedLoss(Unused(), GradCAM(layer="relu"))(IMAGES, LABELS, HUMAN),
        "Layer 'relu' was called 2 times in one forward pass, so its activation is ambiguous",
    ),
    "layer returns a tuple": (
        lambda: sl.SaliencyGuidedLoss(Unused(), GradCAM(layer="lstm"))(IMAGES, LABELS, HUMAN),
        r"Nothing tells where the channels of layer 'lstm' are.*shape \(4, 7, 4\)",
    ),
    "layer beside the score": (
        lambda: sl.SaliencyGuidedLoss(Unused(), GradCAM(layer="beside"))(IMAGES, LABELS, HUMAN),
        "score does not depend on layer 'beside'",
    ),
    "layer without positions": (
        lambda: sl.SaliencyGuidedLoss(plain_net(), GradCAM(layer="5"))(IMAGES, LABELS, HUMAN),
        r"Layer '5' gives shape \(4, 8\), expected \(B, C, \*positions\)",
    ),
    "cam of a VGG": (
        lambda: sl.SaliencyGuidedLoss(VGG())(IMAGES, LABELS, HUMAN),
        r"CAM needs global average pooling.*GradCAM\(layer=...\). Candidates: .*'features' \(4, 4, 7, 7\)",
    ),
    "cam of a multi-layer perceptron": (
        lambda: sl.SaliencyGuidedLoss(nn.Sequential(nn.Flatten(), nn.Linear(243, 3)))(IMAGES, LABELS, HUMAN),
        "CAM needs global average pooling.*No layer of it has positions, so use extractor='input_gradient'",
    ),
    "grad_cam of a multi-layer perceptron": (
        lambda: sl.SaliencyGuidedLoss(nn.Sequential(nn.Flatten(), nn.Linear(243, 3)), "grad_cam")(
            IMAGES, LABELS, HUMAN
        ),
        "found no layer to take by default.*use extractor='input_gradient'",
    ),
    "no head of that name": (
        lambda: sl.SaliencyGuidedLoss(plain_net(), CAM(head="7"))(IMAGES, LABELS, HUMAN),
        r"head='7' is not a linear classifier behind global pooling; those of this model: \['6'\]",
    ),
    "targets out of range": (lambda: guided()(IMAGES, LABELS + 3, HUMAN), r"must lie in 0..2.*got 3..5"),
    "targets negative": (lambda: guided()(IMAGES, LABELS - 1, HUMAN), r"must lie in 0..2.*got -1..1"),
    "targets too few": (
        lambda: guided()(IMAGES, LABELS[:3], HUMAN),
        r"Expected class indices of shape \(4,\).*got \(3,\)",
    ),
    "targets as float": (lambda: guided()(IMAGES, LABELS.float(), HUMAN), r"Float classes weigh the logits.*\(4, 3\)"),
    "targets alone out of range": (lambda: guided(alpha=1.0)(IMAGES, LABELS + 3, HUMAN), r"targets must lie in 0..2"),
    "targets alone too few": (lambda: guided()(IMAGES, LABELS[:2], None), r"expected class indices \(4,\)"),
    "integer targets with a class axis": (
        lambda: guided(task_loss=lambda o, t: o.sum())(IMAGES, torch.ones(4, 3, dtype=torch.long), HUMAN),
        r"Integer targets of shape \(4, 3\) do not say which class each map explains; pass classes=",
    ),
    "classes for a score that has one": (
        lambda: guided(CAM(score="predicted"))(IMAGES, LABELS, HUMAN, classes=LABELS[:, None].expand(4, 2)),
        r"classes= would be ignored: CAM\(score='predicted'\) explains score='predicted'",
    ),
    "captum with several classes": (
        lambda: guided("captum_saliency")(IMAGES, LABELS, HUMAN, classes=LABELS[:, None].expand(4, 2)),
        r"gives one map per sample; classes of shape \(B, K\) need another extractor",
    ),
    "too few maps": (lambda: guided()(IMAGES, LABELS, HUMAN[:3]), r"shape \(3, 9, 9\), so 3 maps, but the batch has 4"),
    "targets that are no probabilities": (
        lambda: guided()(IMAGES, torch.ones(4, 3), None),
        "must be class probabilities",
    ),
    "map of the wrong rank": (
        lambda: guided()(IMAGES, LABELS, HUMAN[:, 0]),
        r"human_saliency has shape \(4, 9\), expected \(4, \*S of 2 axes\).*the model's map has shape \(4, 5, 5\)",
    ),
    "map with channels": (lambda: guided()(IMAGES, LABELS, torch.rand(4, 3, 9, 9)), r"shape \(4, 3, 9, 9\), expected"),
    "negative map": (
        lambda: guided()(IMAGES, LABELS, HUMAN - 5 * (LABELS == 1)[:, None, None]),
        "values below 0 in sample 1",
    ),
    "NaN in a map": (lambda: guided()(IMAGES, LABELS, NAN), r"NaN or infinite values in sample 2 .*annotated="),
    "infinite map": (
        lambda: guided()(IMAGES, LABELS, NAN.nan_to_num(float("inf"))),
        "NaN or infinite values in sample 2",
    ),
    "mask above 1": (
        lambda: guided(divergence="right_reasons")(IMAGES, LABELS, 2 * HUMAN),
        r"values above 1 in sample 0.*\(got .*RightReasons\(\) reads values from 0 to 1. Divide a map by its maximum",
    ),
    "annotated without maps": (
        lambda: guided()(IMAGES, LABELS, None, annotated=torch.ones(4, dtype=torch.bool)),
        "annotated says that there are maps, but human_saliency is None",
    ),
    "maps of another batch while the weight is zero": (
        lambda: guided(alpha=1.0)(IMAGES, LABELS, HUMAN[:3]),
        r"human_saliency has shape \(3, 9, 9\), so 3 maps, but the batch has 4 samples",
    ),
    "annotated of the wrong shape": (
        lambda: guided()(IMAGES, LABELS, HUMAN, annotated=torch.ones(3, dtype=torch.bool)),
        r"annotated has shape \(3,\), expected \(4,\) \(is there a map\) or \(4, 9, 9\) \(is the pixel known\)",
    ),
    "sample_weight": (
        lambda: guided()(IMAGES, LABELS, HUMAN, sample_weight=torch.ones(3)),
        r"sample_weight must be a tensor of shape \(4,\)",
    ),
    "a uint8 mask of zeros and ones": (
        lambda: guided(divergence="right_reasons")(IMAGES, LABELS, (HUMAN > 0.5).to(torch.uint8)),
        r"uint8 and read as 0..255, but holds only 0 to 1: pass a mask as bool",
    ),
    "a mask of zeros and ones divided by 255": (
        lambda: guided(divergence="right_reasons")(IMAGES, LABELS, (HUMAN > 0.5).float() / 255),
        r"the largest value 1/255, .*ToTensor for instance: pass it as bool, \(mask > 0\)",
    ),
    "annotated as indices": (
        lambda: guided()(IMAGES, LABELS, HUMAN, annotated=torch.tensor([0, 1, 2, 3])),
        "are these indices",
    ),
    "cam of a layer with other channels": (
        lambda: guided(CAM(layer="0"))(IMAGES, LABELS, HUMAN),
        r"Layer '0' gives shape \(4, 6, 7, 7\), but the classifier '6' weighs 8 channels",
    ),
    "captum with several scores": (
        lambda: guided(sl.create_extractor("captum_saliency", score=lambda o, t: o))(IMAGES, LABELS, HUMAN),
        r"Captum gives one map per sample, so score must return \(B,\), got \(4, 3\)",
    ),
    "empty batch": (lambda: guided()(IMAGES[:0], LABELS[:0], HUMAN[:0]), "The batch is empty"),
    "output is a map": (
        lambda: sl.SaliencyGuidedLoss(Returns(lambda x: x), "input_gradient")(IMAGES, LABELS, HUMAN),
        r"a tensor of shape \(4, 4, 7, 7\), expected logits of shape \(B, C\).*score=lambda output, targets",
    ),
    "output is a list": (
        lambda: sl.SaliencyGuidedLoss(Returns(lambda x: [x]), "grad_cam")(IMAGES, LABELS, HUMAN),
        r"The model returned list, expected logits.*score=lambda output, targets",
    ),
    "score of the wrong shape": (
        lambda: guided(GradCAM(score=lambda o, t: o.sum()))(IMAGES, LABELS, HUMAN),
        r"score\(output, targets\) must return a tensor of shape \(B,\) or \(B, K\), got \(\)",
    ),
    "score class that does not exist": (
        lambda: guided(CAM(score=3))(IMAGES, LABELS, HUMAN),
        "score=3 names a class, but",
    ),
    "scalar task loss with weights": (
        lambda: guided(task_loss=F.cross_entropy)(IMAGES, LABELS, HUMAN, sample_weight=torch.ones(4)),
        r"task_loss\(output, targets\) returned shape \(\), expected one value per sample",
    ),
    "several inputs to choose from": (
        lambda: sl.SaliencyGuidedLoss(TwoInputs(), "input_gradient")((IMAGES, IMAGES[:, :1]), LABELS % 2, HUMAN),
        r"fits 2 floating-point tensors among the inputs \{0: \(4, 3, 9, 9\), 1: \(4, 1, 9, 9\)\}, expected one",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_values(name):
    call, message = BAD_CALLS[name]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sl.SaliencyGuidedLoss(lambda x: x), "model must be a torch.nn.Module, got function"),
        (lambda: guided(GradCAM), r"must be a name or a SaliencyExtractor.*Pass an instance: GradCAM\(...\)"),
        (lambda: guided(divergence=nn.MSELoss()), "Known names: .*correlation, .*kl, .*a subclass of Divergence"),
        (lambda: GradCAM(layer=-1), "layer must be a dotted name such as 'layer4'.*got int"),
        (lambda: CAM(layer=nn.Conv2d(1, 1, 1)), "layer must be a dotted name.*got Conv2d"),
        (lambda: guided(task_loss=nn.CrossEntropyLoss), r"task_loss must be a callable\(output, targets\)"),
        (lambda: guided(task_loss="ce"), r"task_loss must be a callable\(output, targets\)"),
        (lambda: sl.register_divergence(sl.divergences.MSE), r"needs a name: @register_divergence\('name'\)"),
        (lambda: guided(GradCAM(layr="0")), "unexpected keyword argument 'layr'"),
        (lambda: guided()(IMAGES, LABELS.tolist(), HUMAN), "must be a tensor, got list"),
        (lambda: guided()(IMAGES, LABELS.tolist(), None), "targets must be a tensor, got list"),
        (lambda: guided()(IMAGES, LABELS, HUMAN.tolist()), "human_saliency must be a tensor or None, got list"),
        (
            lambda: guided()(IMAGES, LABELS, HUMAN.long()),
            "human_saliency must be float, uint8, int8 or bool, got torch.int64",
        ),
        (lambda: guided()(IMAGES, LABELS > 0, HUMAN), "The explained classes are bool"),
        (lambda: guided()(IMAGES, LABELS, HUMAN, annotated=torch.ones(4)), "annotated must be bool.*sample_weight"),
    ],
)
def test_bad_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("name", ["cam", "grad_cam", "input_gradient", "captum_saliency"])
def test_a_frozen_model_cannot_be_guided(name):
    net = plain_net().requires_grad_(False)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"reaches no trainable parameter.*Unfreeze parameters"):
            sl.SaliencyGuidedLoss(net, name)(IMAGES, LABELS, HUMAN)


def test_parameters_that_the_map_does_not_reach_do_not_count():
    net = plain_net().requires_grad_(False)
    net[6].bias.requires_grad_(True)
    for part in ("cam", "grad_cam"):
        with pytest.raises(RuntimeError, match="reaches no trainable parameter"):
            sl.SaliencyGuidedLoss(net, part)(IMAGES, LABELS, HUMAN)


def test_a_map_on_another_device():
    with pytest.raises(ValueError, match=r"human_saliency is on meta, the model's map on cpu"):
        guided()(IMAGES, LABELS, HUMAN.to("meta"))


def test_data_parallel_over_several_devices_is_refused(monkeypatch):
    net = nn.DataParallel(plain_net())
    monkeypatch.setattr(net, "device_ids", [0, 1])
    with pytest.raises(RuntimeError, match=r"Use DistributedDataParallel around the loss"):
        sl.SaliencyGuidedLoss(net)(IMAGES, LABELS, HUMAN)
