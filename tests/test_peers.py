"""Maps of other packages: equal where those follow the paper; each known difference is shown by a test.

Raw maps are compared, before the others rectify, rescale and resize them. docs/differences.md tells the differences.
"""

import captum.attr
import numpy as np
import pytest
import torch
from models import batch
from torch import nn

import saliency_losses as sl
from saliency_losses.extractors import CAM, EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, InputGradient, XGradCAM
from saliency_losses.extractors.eigen_cam import eigen_cam

IMAGES, LABELS, _ = batch(pixels=16)
LAYERS = [5, 8]


def network(activation=nn.ReLU):
    """A small convolutional network in eval mode, whose layer 5 is in the middle and whose layer 8 is pooled."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), activation(),
        nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8), activation(),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), activation(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    with torch.no_grad():
        net[11].weight.mul_(1000.0)  # away from the constants that others add to denominators
        net(IMAGES)
    return net.eval()


def ours(part, net, layer=None):
    options = {} if layer is None else {"layer": str(layer)}
    part = sl.create_extractor(part, **options) if isinstance(part, str) else part
    return part(net, IMAGES, LABELS).saliency.detach()


def of_grad_cam(method, net, layer):
    """The raw map of pytorch-grad-cam."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(int(label)) for label in LABELS]
    with getattr(pytorch_grad_cam, method)(net, [net[layer]]) as cam:
        raw = []
        original = cam.get_cam_image

        def kept(*args, **options):
            raw.append(np.asarray(original(*args, **options)))
            return raw[-1]

        cam.get_cam_image = kept
        cam(IMAGES, targets)
    net.zero_grad()
    return torch.from_numpy(raw[0])


def of_torchcam(method, net, layer):
    """The map of torchcam before it is rescaled; it is rectified unless the method is CAM."""
    from torchcam import methods

    with getattr(methods, method)(net, str(layer), input_shape=(3, 16, 16)) as cam:
        return cam(LABELS.tolist(), net(IMAGES), normalized=False)[0].detach()


def close(got, expected):
    scale = float(expected.abs().max())
    torch.testing.assert_close(got / scale, expected / scale, rtol=1e-4, atol=1e-5)


def apart(got, expected):
    """By how much two maps differ, at the best common scale."""
    scale = (got * expected).sum() / expected.square().sum()
    return float((got - scale * expected).norm() / got.norm())


@pytest.mark.parametrize("layer", LAYERS)
def test_captum_grad_cam(layer):
    net = network(nn.SiLU)
    theirs = captum.attr.LayerGradCam(net, net[layer]).attribute(IMAGES, LABELS).squeeze(1)
    close(ours("grad_cam", net, layer), theirs.detach())


@pytest.mark.parametrize("layer", LAYERS)
def test_captum_gradient_times_activation_is_hires_cam(layer):
    net = network(nn.SiLU)
    theirs = captum.attr.LayerGradientXActivation(net, net[layer]).attribute(IMAGES, LABELS).sum(1)
    close(ours("hires_cam", net, layer), theirs.detach())


def test_captum_saliency():
    net = network(nn.SiLU)
    theirs = captum.attr.Saliency(net).attribute(IMAGES.clone().requires_grad_(), LABELS)
    close(ours(InputGradient(reduce="abs_max"), net), theirs.amax(1))
    close(ours(InputGradient(reduce="abs_mean"), net), theirs.mean(1))


@pytest.mark.peers
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("grad_cam", "GradCAM"),
        ("grad_cam_plus_plus", "GradCAMPlusPlus"),
        ("x_grad_cam", "XGradCAM"),
        ("hires_cam", "HiResCAM"),
        ("element_wise_grad_cam", "GradCAMElementWise"),
        ("layer_cam", "LayerCAM"),
        ("shapley_cam", "ShapleyCAM"),
    ],
)
def test_grad_cam(name, method, layer):
    net = network(nn.Softplus if name == "shapley_cam" else nn.ReLU)
    close(ours(name, net, layer), of_grad_cam(method, net, layer))


@pytest.mark.peers
@pytest.mark.parametrize("layer", LAYERS)
def test_grad_cam_eigen_cam_up_to_sign(layer):
    net = network()
    mine, theirs = ours(EigenCAM(layer=str(layer), center=True), net), of_grad_cam("EigenCAM", net, layer)
    close(mine, theirs * (mine * theirs).sum((1, 2), keepdim=True).sign())


@pytest.mark.peers
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("name", "method"), [("grad_cam", "GradCAM"), ("x_grad_cam", "XGradCAM"), ("layer_cam", "LayerCAM")]
)
def test_torchcam(name, method, layer):
    net = network()
    close(ours(name, net, layer).relu(), of_torchcam(method, net, layer))


@pytest.mark.peers
def test_torchcam_cam():
    net = network()
    close(ours(CAM(), net).relu(), of_torchcam("CAM", net, 8).relu())


@pytest.mark.peers
def test_torchcam_grad_cam_plus_plus_leaves_out_the_coefficients():
    """Its weights are the sums of g² relu(g)."""
    net = network()
    theirs = of_torchcam("GradCAMpp", net, 5)
    activation = net[:6](IMAGES).detach().requires_grad_()
    (grad,) = torch.autograd.grad(net[6:](activation).gather(1, LABELS[:, None]).sum(), activation)
    weights = (grad.square() * grad.relu()).sum((2, 3), keepdim=True)
    close(theirs, (weights * activation).sum(1).relu().detach())
    assert apart(theirs, ours(GradCAMPlusPlus(layer="5", relu=True), net)) > 0.01


@pytest.mark.peers
def test_grad_cam_plus_plus_adds_a_constant_that_small_gradients_feel():
    net = network()
    with torch.no_grad():
        net[11].weight.div_(1e5)
    assert apart(of_grad_cam("GradCAMPlusPlus", net, 5), ours(GradCAMPlusPlus(layer="5"), net)) > 0.05


@pytest.mark.peers
def test_grad_cam_centres_eigen_cam_and_leaves_the_sign_open():
    net = network()
    theirs, centred = of_grad_cam("EigenCAM", net, 5), ours(EigenCAM(layer="5", center=True), net)
    agree = (theirs * centred).sum((1, 2)) > 0
    assert 0 < int(agree.sum()) < len(agree)
    theirs = theirs * torch.where(agree, 1.0, -1.0).view(-1, 1, 1)
    assert apart(theirs, ours(EigenCAM(layer="5"), net)) > 0.05


@pytest.mark.peers
@pytest.mark.parametrize("layer", LAYERS)
def test_grad_cam_centres_eigen_grad_cam_too(layer):
    net = network()
    theirs, uncentred = of_grad_cam("EigenGradCAM", net, layer), ours("eigen_grad_cam", net, layer)
    activation = net[: layer + 1](IMAGES).detach().requires_grad_()
    (grad,) = torch.autograd.grad(net[layer + 1 :](activation).gather(1, LABELS[:, None]).sum(), activation)
    centred = eigen_cam((activation * grad).flatten(2), center=True).view_as(theirs).detach()
    close(centred, theirs * (centred * theirs).sum((1, 2), keepdim=True).sign())
    assert apart(centred, uncentred) > 0.05


@pytest.mark.peers
@pytest.mark.parametrize("of", [of_grad_cam, of_torchcam])
def test_in_place_activations_change_what_others_read(of):
    """They take the activation behind an in-place ReLU for the layer's own; we read what the layer returned."""
    net, inplace = network(), network(lambda: nn.ReLU(inplace=True))
    inplace.load_state_dict(net.state_dict())
    close(ours("hires_cam", inplace, 4), ours("hires_cam", net, 4))
    close(ours("grad_cam", inplace, 4), ours("grad_cam", net, 4))
    assert apart(of("GradCAM", inplace, 4), of("GradCAM", net, 4)) > 0.05


@pytest.mark.peers
def test_x_grad_cam_where_activations_cancel():
    """Others add 1e-7 or 1e-8 to a sum that may be zero, which leaves a weight without bound."""
    from pytorch_grad_cam import XGradCAM as Theirs

    activation = torch.tensor([[[[1.0, -1.0]], [[1.0, 2.0]]]])
    grad = torch.tensor([[[[1.0, 0.5]], [[1.0, 1.0]]]])
    theirs = Theirs.get_cam_weights(None, None, None, None, activation.numpy(), grad.numpy())
    assert abs(theirs[0, 0]) > 1e6
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(4, 2, bias=False))
    net[2].weight.data = grad.flatten().repeat(2, 1)
    options = {"layer": "0", "reshape": lambda tensor: tensor}
    ours = XGradCAM(**options)(net, activation, torch.tensor([0])).saliency
    torch.testing.assert_close(ours, torch.tensor([[[1.0, 2.0]]]))


def parameter_gradient(net, saliency):
    grads = torch.autograd.grad(saliency.square().sum(), list(net[:6].parameters()), allow_unused=True)
    return torch.cat([grad.flatten() for grad in grads if grad is not None])


@pytest.mark.parametrize(
    ("part", "algorithm"),
    [(GradCAM, captum.attr.LayerGradCam), (HiResCAM, captum.attr.LayerGradientXActivation)],
)
def test_captum_takes_the_gradient_for_a_constant_when_trained_through(part, algorithm):
    net = network(nn.SiLU)
    mine = parameter_gradient(net, part(layer="5")(net, IMAGES, LABELS).saliency)
    theirs = algorithm(net, net[5]).attribute(IMAGES, LABELS).sum(1)
    close(theirs.detach(), ours(part(layer="5"), net))
    assert float((parameter_gradient(net, theirs) - mine).norm() / mine.norm()) > 0.05


def test_captum_mixes_samples_in_train_mode():
    """A sample's map depends on what else is in the batch through BatchNorm's statistics; ours holds them constant."""
    net = network().train()
    theirs = captum.attr.LayerGradCam(net, net[2]).attribute(IMAGES, LABELS).squeeze(1).detach()
    close(ours(GradCAM(layer="2", batch_statistics="coupled"), net), theirs)
    assert apart(theirs, ours("grad_cam", net, 2)) > 0.05


@pytest.mark.peers
def test_others_maps_are_off_the_graph():
    from pytorch_grad_cam import GradCAM as OfGradCam
    from torchcam.methods import GradCAM as OfTorchcam

    net = network()
    with OfTorchcam(net, "5", input_shape=(3, 16, 16)) as cam:
        assert cam(LABELS.tolist(), net(IMAGES))[0].requires_grad is False
    with OfGradCam(net, [net[5]]) as cam:
        assert isinstance(cam(IMAGES, None), np.ndarray)


def test_captum_calls_the_model_once_more():
    net = network().train()
    before = int(net[1].num_batches_tracked)
    captum.attr.LayerGradCam(net, net[2]).attribute(IMAGES, LABELS)
    assert int(net[1].num_batches_tracked) == before + 1


@pytest.mark.peers
def test_grad_cam_leaves_the_model_in_another_state():
    from pytorch_grad_cam import GradCAM as Theirs

    net = network().train()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    with Theirs(net, [net[5]]) as cam:
        cam(IMAGES, None)
    assert not net.training
    assert not torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
