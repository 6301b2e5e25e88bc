"""The methods that read one layer: their formulas at layers in the middle, and what happens where they have poles."""

import oracles
import pytest
import torch
from models import batch
from torch import nn

import saliency_losses as sl
from saliency_losses.extractors import EigenCAM, GradCAM, HiResCAM, LayerCAM, ShapleyCAM, XGradCAM
from saliency_losses.extractors.eigen_cam import eigen_cam
from saliency_losses.extractors.grad_cam_plus_plus import grad_cam_plus_plus
from saliency_losses.extractors.reciprocal import reciprocal
from saliency_losses.extractors.x_grad_cam import x_grad_cam
from saliency_losses.testing import check_extractor, check_gradients, smooth_network

FIRST_ORDER = ["activation_map", "eigen_cam"]
GRADIENT = [
    "eigen_grad_cam",
    "element_wise_grad_cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "layer_cam",
    "shapley_cam",
    "x_grad_cam",
]
each = pytest.mark.parametrize("name", FIRST_ORDER + GRADIENT)
of_a_class = pytest.mark.parametrize("name", GRADIENT)


def rectified_network(classes=3):
    """Piecewise linear above each ReLU, with gradients that differ from position to position."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(125, classes)
    ).double()


@each
@pytest.mark.parametrize("layer", ["0", "2", "3"])
def test_contract_at_a_layer_in_the_middle(name, layer):
    check_extractor(sl.create_extractor(name, layer=layer))


@pytest.mark.parametrize(
    ("name", "make", "layer"),
    [(name, rectified_network, layer) for name in FIRST_ORDER + GRADIENT for layer in (1, 3)]
    # Above a curved network the derivatives of Grad-CAM++ have no closed form.
    + [(name, smooth_network, 2) for name in FIRST_ORDER + GRADIENT if name != "grad_cam_plus_plus"],
)
def test_equals_its_oracle_at_a_layer_in_the_middle(name, make, layer):
    images, labels, _ = batch(3, dtype=torch.float64)
    net = make().eval()
    maps = sl.create_extractor(name, layer=str(layer))(net, images, labels).saliency.detach()
    assert float(maps.abs().max()) > 1e-4
    for image, label, got in zip(images, labels, maps, strict=True):
        expected = torch.as_tensor(oracles.EXTRACTORS[name](net, image, int(label), layer))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-10)


def test_methods_that_coincide_where_theory_says_so():
    """Above a linear network there is no curvature; behind global pooling every gradient is its own mean."""
    images, labels, _ = batch(dtype=torch.float64)
    net = rectified_network()
    shapley, plain = (part(layer="3")(net, images, labels).saliency for part in (ShapleyCAM, GradCAM))
    torch.testing.assert_close(shapley, plain)
    net = smooth_network().eval()
    maps = [part()(net, images, labels).saliency for part in (GradCAM, HiResCAM, XGradCAM)]
    torch.testing.assert_close(maps[1], maps[0])
    torch.testing.assert_close(maps[2], maps[0])
    assert not torch.allclose(LayerCAM()(net, images, labels).saliency, maps[0])


def test_hires_cam_of_a_linear_head_sums_to_the_logit():
    images, labels, _ = batch(dtype=torch.float64)
    net = rectified_network()
    output, saliency = HiResCAM(layer="3")(net, images, labels)
    torch.testing.assert_close(saliency.sum((1, 2)) + net[5].bias[labels], output.gather(1, labels[:, None])[:, 0])


@each
def test_several_classes_per_image_equal_one_at_a_time(name):
    images, _, _ = batch(dtype=torch.float64)
    net, part = smooth_network().eval(), sl.create_extractor(name, layer="2")
    classes = torch.tensor([[0, 1], [2, 1], [1, 1], [2, 0]])
    together = part(net, images, classes).saliency
    assert together.shape == (4, 2, 7, 7)
    apart = torch.stack([part(net, images, classes[:, k]).saliency for k in (0, 1)], 1)
    torch.testing.assert_close(together, apart)
    guided = sl.SaliencyGuidedLoss(net, part, "mse")
    guided(images, classes[:, 0], torch.rand(4, 2, 9, 9, dtype=torch.float64), classes=classes).loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@of_a_class
def test_relu_keeps_what_speaks_for_the_score(name):
    images, labels, _ = batch(dtype=torch.float64)
    net = smooth_network().eval()
    raw, kept = (sl.create_extractor(name, layer="2", relu=on)(net, images, labels).saliency for on in (False, True))
    torch.testing.assert_close(kept, raw.relu())


def finite_step(net, part, images, labels):
    """Maps and parameter gradients of one guided step; both must be finite."""
    saliency = part(net, images, labels).saliency
    grads = torch.autograd.grad(saliency.square().sum(), list(net.parameters()), allow_unused=True)
    assert saliency.isfinite().all()
    assert all(grad is None or grad.isfinite().all() for grad in grads)
    return saliency


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dead", ["activation", "gradient", "one channel", "nothing"])
def test_dead_layers_give_finite_maps_and_gradients(name, dtype, dead):
    net = rectified_network().float()
    images, labels, _ = batch()
    with torch.no_grad():
        if dead == "activation":
            net[0].bias.fill_(-100.0)
        elif dead == "one channel":
            net[0].bias[1] = -100.0
        elif dead == "gradient":
            net[5].weight.zero_()
    part = sl.create_extractor(name, layer="1")
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        saliency = finite_step(net, part, images, labels)
    assert saliency.dtype == torch.float32
    silent = dead == "activation" or (dead == "gradient" and name not in FIRST_ORDER)
    assert bool((saliency == 0).all()) == silent


@each
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_size_of_the_activation_does_not_break_a_map(name, scale):
    images, labels, _ = batch()
    net = rectified_network().float()
    with torch.no_grad():
        net[0].weight.mul_(scale)
        net[0].bias.mul_(scale)
        net[2].weight.div_(scale)
    finite_step(net, sl.create_extractor(name, layer="1"), images, labels)


@each
def test_not_finite_activations_show(name):
    images, labels, _ = batch()
    net = rectified_network().float()
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    assert sl.create_extractor(name, layer="1")(net, images, labels).saliency.isnan().any()


@pytest.mark.parametrize("shift", [0.0, 1e-12, -1e-12, 1e-5, -1e-5])
@pytest.mark.parametrize(
    ("formula", "activation", "gradient"),
    [(x_grad_cam, [3.0, -3.0], [1.0, 2.0]), (grad_cam_plus_plus, [1.0, -3.0], [1.0, 0.5])],
)
def test_poles_are_passed_through_zero(formula, activation, gradient, shift):
    a = (torch.tensor([activation], dtype=torch.float64) + shift).requires_grad_()
    g = torch.tensor([gradient], dtype=torch.float64, requires_grad=True)
    saliency = formula(a, g)
    assert float(saliency.detach().abs().max()) < 1e4
    assert all(float(grad.abs().max()) < 1e7 for grad in torch.autograd.grad(saliency.sum(), (a, g)))


class OverPositions(nn.Module):
    """Divides each channel by its norm, after its mean was subtracted or not."""

    def __init__(self, *, center):
        super().__init__()
        self.center = center

    def forward(self, x):
        x = x - x.mean((2, 3), keepdim=True) if self.center else x
        return x / x.square().sum((2, 3), keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("part", "center", "match"),
    [
        (ShapleyCAM, True, "The mean gradient at layer '1' vanishes in every channel"),
        (XGradCAM, True, "The sum of activation times gradient at layer '1' vanishes in every channel"),
        (XGradCAM, False, "blind to scale .* choose another layer, or use extractor='hires_cam'"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_that_vanish_are_refused(part, center, match, dtype):
    images, labels, _ = batch(dtype=dtype)
    head = [OverPositions(center=center), nn.Flatten(), nn.Linear(196, 3)]
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), *head).to(dtype)
    for _ in range(2):
        with pytest.raises(ValueError, match=match):
            part(layer="1")(net, images, labels)
    assert HiResCAM(layer="1")(net, images, labels).saliency.any()


def test_the_reciprocal_is_exact_outside_and_right_everywhere():
    x = torch.tensor([-3.0, -0.2, -0.05, 0.0, 0.01, 0.3, 7.0], dtype=torch.float64, requires_grad=True)
    inside = x.detach().abs() < 0.1
    value = reciprocal(x, 0.1)
    torch.testing.assert_close(value[~inside], 1 / x[~inside])
    torch.testing.assert_close(value[inside], x[inside] * 100)
    check_gradients(lambda: reciprocal(x, 0.1).square().sum(), {"x": x})


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (2, 3, 4, 6)])
def test_eigen_cam_is_differentiated_exactly(shape, center):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(*shape[:-2], shape[-1], generator=generator, dtype=torch.float64)
    check_gradients(lambda: (eigen_cam(x, center=center) * weights).sum(), {"x": x}, tolerance=1e-6)
    matrix = x - x.mean(-1, keepdim=True) if center else x
    vectors = torch.linalg.svd(matrix, full_matrices=False)[0]
    expected = (matrix.mT @ vectors[..., :1]).squeeze(-1) * vectors[..., 0].sum(-1, keepdim=True).sign()
    torch.testing.assert_close(eigen_cam(x, center=center), expected)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (eigen_cam(x, center=center), expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
@pytest.mark.parametrize(
    "rows",
    [
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0 + 1e-6, 0.0]],
        [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]],
        [[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]],
    ],
)
def test_eigen_cam_is_finite_at_equal_and_zero_singular_values(rows, scale, dtype):
    for center in (False, True):
        x = (torch.tensor(rows, dtype=dtype) * scale).requires_grad_()
        value = eigen_cam(x, center=center)
        (grad,) = torch.autograd.grad(value.sum(), x)
        assert value.isfinite().all()
        assert grad.isfinite().all()
        assert float(grad.abs().max()) < 4 / torch.finfo(dtype).eps ** 0.5
        if center and rows[0][0] == rows[0][1]:
            assert not value.any()
            assert not grad.any()


@pytest.mark.parametrize("shape", [(512, 49), (8, 3136)])
def test_eigen_cam_of_maps_that_are_flat_but_for_rounding(shape):
    channels = torch.rand(2, shape[0], 1).expand(-1, *shape).clone().requires_grad_()
    value = eigen_cam(channels, center=True)
    assert not value.any()
    assert not torch.autograd.grad(value.sum(), channels)[0].any()
    assert eigen_cam(channels).all()


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_eigen_cam_keeps_its_sign(shape):
    """However the decomposition turns: one activation, moved a little, with its channels in another order."""
    x = torch.rand(1, *shape, dtype=torch.float64)
    reference = eigen_cam(x)
    assert bool((reference > 0).all())
    torch.testing.assert_close(eigen_cam(-x), -reference)
    for _ in range(20):
        moved = x + 0.01 * torch.randn_like(x)
        assert float(torch.cosine_similarity(eigen_cam(moved[:, torch.randperm(shape[0])]), reference)) > 0.99
        other = torch.randn_like(x)
        centred, total = eigen_cam(other, center=True), other.sum(1)
        assert float((centred * (total - total.mean())).sum()) > 0


def test_eigen_cam_prints_its_options():
    assert repr(EigenCAM(layer="2", center=True)) == "EigenCAM(layer='2', center=True)"
