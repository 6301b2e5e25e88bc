"""BatchNorm in train mode above the layer: a map is the sample's own, or, by request, what plain autograd gives."""

import copy

import oracles
import pytest
import torch
from models import batch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import saliency_losses as sl
from saliency_losses.extractors import GradCAM, InputGradient, IntegratedGradients
from saliency_losses.extractors.eigen_grad_cam import eigen_grad_cam
from saliency_losses.extractors.element_wise_grad_cam import element_wise_grad_cam
from saliency_losses.extractors.grad_cam import grad_cam
from saliency_losses.extractors.grad_cam_plus_plus import grad_cam_plus_plus
from saliency_losses.extractors.hires_cam import hires_cam
from saliency_losses.extractors.layer_cam import layer_cam
from saliency_losses.extractors.x_grad_cam import x_grad_cam
from saliency_losses.testing import check_gradients

FORMULAS = {
    "eigen_grad_cam": eigen_grad_cam,
    "element_wise_grad_cam": element_wise_grad_cam,
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "hires_cam": hires_cam,
    "layer_cam": layer_cam,
    "x_grad_cam": x_grad_cam,
}
NAMES = [*FORMULAS, "shapley_cam"]
PIECEWISE_LINEAR = {"grad_cam_plus_plus"}


class FunctionalNorm(nn.Module):
    """Calls ``batch_norm`` itself."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(channels)), nn.Parameter(torch.randn(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = 1e-3

    def forward(self, x):
        buffers = self.running_mean, self.running_var
        return F.batch_norm(x, *buffers, self.weight, self.bias, training=self.training, momentum=0.3, eps=self.eps)


NORMS = (nn.modules.batchnorm._BatchNorm, FunctionalNorm)


class Held(nn.Module):
    """A BatchNorm written out, whose mean and variance are given numbers."""

    def __init__(self, norm, batch_of_inputs):
        super().__init__()
        self.channels = []
        for c in range(batch_of_inputs.shape[1]):
            values = batch_of_inputs[:, c].detach().flatten()
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            weight = 1.0 if norm.weight is None else norm.weight[c].detach()
            bias = 0.0 if norm.bias is None else norm.bias[c].detach()
            self.channels.append((mean, variance + norm.eps, weight, bias))

    def forward(self, x):
        columns = [w * (x[:, c] - m) / v**0.5 + b for c, (m, v, w, b) in enumerate(self.channels)]
        return torch.stack(columns, 1)


def hold(net, images):
    """The network with the statistics of this batch as numbers, so that it takes one sample alone."""
    layers, x = [], images
    for layer in copy.deepcopy(net):
        held = Held(layer, x) if isinstance(layer, NORMS) else layer
        if isinstance(held, (nn.ReLU, nn.Dropout)):
            held.inplace = False
        x = held(x).detach()
        layers.append(held)
    return nn.Sequential(*layers)


def network(activation=nn.SiLU, norm=nn.BatchNorm2d, conv=nn.Conv2d, positions=25, **options):
    """Two normalised convolutions and a head that tells positions apart."""
    net = nn.Sequential(
        conv(3, 4, 3), norm(4, **options), activation(),
        conv(4, 5, 3), norm(5, **options), activation(),
        nn.Flatten(), nn.Linear(5 * positions, 3),
    )  # fmt: skip
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, NORMS) and layer.weight is not None:
                layer.weight.uniform_(0.5, 2.0)
                layer.bias.normal_()
    return net.double()


def constant(name, layer, net, images, labels, **options):
    """Map and output of a copy; the output and the buffers must be those of the plain model, bit for bit."""
    plain, guided = copy.deepcopy(net), copy.deepcopy(net)
    expected = plain(images)
    output, saliency = sl.create_extractor(name, layer=layer, **options)(guided, images, labels)
    assert torch.equal(output, expected)
    for key, value in guided.state_dict().items():
        assert torch.equal(value, plain.state_dict()[key]), key
        if key.endswith("num_batches_tracked"):
            assert int(value) == 1
    return saliency.detach()


def of_each_sample_alone(name, layer, net, images, labels):
    held = hold(net, images)
    maps = [oracles.EXTRACTORS[name](held, image, int(y), int(layer)) for image, y in zip(images, labels, strict=True)]
    return torch.stack([torch.as_tensor(one) for one in maps])


@pytest.mark.parametrize("layer", ["0", "2", "3"])
@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU])
@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_the_samples_own(name, activation, layer):
    if name in PIECEWISE_LINEAR:
        activation = nn.ReLU
    images, labels, _ = batch(3, dtype=torch.float64)
    net = network(activation)
    own = constant(name, layer, net, images, labels)
    torch.testing.assert_close(own, of_each_sample_alone(name, layer, net, images, labels), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_coupled_maps_are_those_of_plain_autograd(name, layer):
    images, labels, _ = batch(dtype=torch.float64)
    net = network()
    coupled = constant(name, str(layer), net, images, labels, batch_statistics="coupled")
    own = constant(name, str(layer), net, images, labels)
    activation = net[: layer + 1](images).detach().requires_grad_()
    score = net[layer + 1 :](activation).gather(1, labels[:, None]).sum()
    (grad,) = torch.autograd.grad(score, activation, create_graph=True)
    if name == "shapley_cam":
        (product,) = torch.autograd.grad(grad, activation, activation)
        expected = grad_cam(activation.flatten(2), (grad - product / 2).flatten(2))
    else:
        expected = FORMULAS[name](activation.flatten(2), grad.flatten(2))
    torch.testing.assert_close(coupled, expected.view_as(coupled).detach())
    assert float((coupled - own).norm() / own.norm()) > 0.01


VARIANTS = {
    "without affine parameters": network(affine=False),
    "without running statistics": network(track_running_stats=False),
    "cumulative average": network(momentum=None),
    "large eps": network(eps=0.5),
    "one dimension": network(norm=nn.BatchNorm1d, conv=nn.Conv1d, positions=5),
    "three dimensions": network(norm=nn.BatchNorm3d, conv=nn.Conv3d, positions=125),
    "functional": network(norm=FunctionalNorm),
    "in-place ReLU behind": network(lambda: nn.ReLU(inplace=True)),
}


@pytest.mark.parametrize("layer", ["0", "1", "3"])
@pytest.mark.parametrize("name", ["grad_cam", "hires_cam"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_kinds_of_batchnorm(variant, name, layer):
    net, labels = VARIANTS[variant], torch.tensor([0, 2, 1])
    dimensions = net[0].weight.ndim - 2
    images = torch.randn(3, 3, *[9] * dimensions, dtype=torch.float64)
    own = constant(name, layer, net, images, labels)
    torch.testing.assert_close(own, of_each_sample_alone(name, layer, net, images, labels), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["grad_cam", "layer_cam", "shapley_cam"])
def test_several_classes_per_image(name):
    images, _, _ = batch(3, dtype=torch.float64)
    classes, net = torch.tensor([[0, 1], [2, 1], [1, 0]]), network()
    own = constant(name, "0", net, images, classes)
    for k in (0, 1):
        torch.testing.assert_close(own[:, k], of_each_sample_alone(name, "0", net, images, classes[:, k]))


@pytest.mark.parametrize("layer", ["0", "3"])
def test_channels_last(layer):
    images, labels, _ = batch(3)
    images = images.to(memory_format=torch.channels_last)
    net = network().float().to(memory_format=torch.channels_last)
    own = constant("grad_cam", layer, net, images, labels)
    torch.testing.assert_close(own, of_each_sample_alone("grad_cam", layer, net, images, labels), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast(name):
    images, labels, _ = batch(3)
    net = network(nn.Softplus).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own = constant(name, "2", net, images, labels)
    assert own.dtype == torch.float32
    exact = constant(name, "2", net, images, labels)
    assert float(torch.cosine_similarity(own.flatten(1), exact.flatten(1)).min()) > 0.98


def test_eval_mode_needs_no_choice():
    images, labels, _ = batch(3, dtype=torch.float64)
    net = network().eval()
    own, coupled = (
        sl.create_extractor("grad_cam", layer="0", batch_statistics=choice)(net, images, labels).saliency
        for choice in ("constant", "coupled")
    )
    assert torch.equal(own, coupled)


def test_checkpointed_batchnorm_above_the_layer_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
            self.body = nn.Sequential(nn.BatchNorm2d(4), nn.GELU())

        def forward(self, x):
            return self.head(checkpoint(self.body, self.stem(x), use_reentrant=False).mean((2, 3)))

    images, labels, human = batch()
    net = Net()
    guided = sl.SaliencyGuidedLoss(net, GradCAM(layer="stem"), "correlation")
    with pytest.raises(RuntimeError, match=r"checkpointed region above the layer.*batch_statistics='coupled'"):
        guided(images, labels, human)
    sl.SaliencyGuidedLoss(net, GradCAM(layer="stem", batch_statistics="coupled"))(images, labels, human).loss.backward()
    assert net.stem.weight.grad.isfinite().all()
    net.eval()
    guided(images, labels, human).loss.backward()


def test_checkpointed_batchnorm_below_the_layer():
    """As long as nothing tells which layer is taken by default, the remedy is to name it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU())
            self.body, self.head = nn.Conv2d(4, 5, 3), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.body(checkpoint(self.stem, x, use_reentrant=False)).relu().mean((2, 3)))

    images, labels, human = batch()
    with pytest.raises(RuntimeError, match=r"if it lies below the layer that would be taken by default.*layer=\.\.\."):
        sl.SaliencyGuidedLoss(Net(), GradCAM())(images, labels, human)
    net = Net()
    sl.SaliencyGuidedLoss(net, GradCAM(layer="body"))(images, labels, human).loss.backward()
    assert net.body.weight.grad.isfinite().all()


class Pack:
    """What is kept for the backward pass goes through an object that is no function."""

    def __call__(self, tensor):
        return tensor


def test_hooks_for_saved_tensors_that_are_no_functions():
    images, labels, human = batch()
    net = network().float()
    with torch.autograd.graph.saved_tensors_hooks(Pack(), Pack()):
        sl.SaliencyGuidedLoss(net, GradCAM(layer="0"))(images, labels, human).loss.backward()
    assert net[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("part", [GradCAM(layer="0"), InputGradient()], ids=["grad_cam", "input_gradient"])
def test_the_task_loss_can_be_differentiated_twice(part):
    """As for a penalty on its gradient."""
    images, labels, human = batch(dtype=torch.float64)
    net = network()
    parameters = dict(net.named_parameters())
    guided = sl.SaliencyGuidedLoss(net, part, "mse")

    def loss():
        out = guided(images, labels, human)
        grads = torch.autograd.grad(out.task_loss, list(parameters.values()), create_graph=True)
        return out.loss + sum(grad.square().sum() for grad in grads)

    check_gradients(loss, parameters)


def test_checkpointed_fused_attention_above_the_layer_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.projection, self.head = nn.Conv2d(3, 8, 3, stride=3), nn.Linear(8, 24), nn.Linear(8, 3)

        def attend(self, x):
            return F.scaled_dot_product_attention(*self.projection(x).chunk(3, -1))

        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2).unsqueeze(1)
            return self.head(checkpoint(self.attend, tokens, use_reentrant=False).mean((1, 2)))

    images, labels, human = batch()
    for part in (GradCAM(layer="patch"), InputGradient(), IntegratedGradients(steps=2)):
        net = Net()
        guided = sl.SaliencyGuidedLoss(net, part, "mse")
        with pytest.raises(RuntimeError, match=r"checkpointing runs a part of the model again.*SDPBackend\.MATH"):
            guided(images, labels, human)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            guided(images, labels, human).loss.backward()
        assert net.projection.weight.grad.isfinite().all()
