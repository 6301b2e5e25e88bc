"""Extractors of the input: gradients in several forms, and hidden parts."""

import captum.attr
import pytest
import torch
from conftest import RECTIFIED, extractor, network
from models import Attention, InplaceNet, TwoInputs, batch, plain_net
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

import saliency_losses as sl
from saliency_losses.extractors import (
    RISE,
    ExpectedGradients,
    InputGradient,
    IntegratedGradients,
    Occlusion,
    SmoothGrad,
)
from saliency_losses.extractors.rectifiers import Rectifiers
from saliency_losses.testing import check_extractor, check_gradients, smooth_network

ONE_PASS = ("deconvolution", "guided_backprop", "input_gradient", "input_x_gradient")
SAMPLED = ("expected_gradients", "integrated_gradients", "smooth_grad")
HIDING = ("occlusion", "rise")
NAMES = (*ONE_PASS, *SAMPLED, *HIDING)
IMAGES, LABELS, HUMAN = batch(dtype=torch.float64)
one_pass = pytest.mark.parametrize("name", ONE_PASS)
each = pytest.mark.parametrize("name", NAMES)


def drop_dropout(net):
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


def mirrored(x):
    return x.flip(3)


def mean_color(x):
    return x.mean((2, 3), keepdim=True)


def probability(output, labels):
    return output.softmax(1).gather(1, labels[:, None])[:, 0]


@pytest.mark.parametrize(
    "part",
    [
        InputGradient(batch_statistics="coupled", reduce="sum"),
        IntegratedGradients(steps=4, chunk=3, baseline=IMAGES[3], reduce="l2"),
        IntegratedGradients(steps=2, baseline=mirrored, score="log_probabilities"),
        ExpectedGradients(references=3, chunk=2, score="cross_entropy"),
        ExpectedGradients(references=2, background=IMAGES.flip(3)),
        SmoothGrad(samples=3, squared=True, chunk=2, score="contrast"),
        SmoothGrad(samples=2, noise=0.0, score=probability),
        Occlusion(window=(4, 3), stride=3, baseline=0.5, score="log_probability"),
        Occlusion(chunk=1, baseline=torch.tensor([0.2, 0.5, 0.7]).view(3, 1, 1)),
        RISE(n_masks=5, grid=4, p=0.3, chunk=2, baseline=mean_color),
    ],
    ids=lambda part: type(part).__name__,
)
def test_contract_with_options(part):
    check_extractor(part)


@each
def test_in_train_mode_a_map_is_the_samples_own(name):
    """Moving one sample, at the statistics of the batch, must not move another's map."""
    net = drop_dropout(network(name))
    labels = torch.tensor([0, 1, 2, 1])
    swapped = labels.clone()
    swapped[0] = 2
    maps = []
    for classes in (labels, swapped):
        torch.manual_seed(1)
        maps.append(extractor(name)(net, IMAGES, classes).saliency.detach())
    torch.testing.assert_close(maps[0][1:], maps[1][1:])
    assert not torch.allclose(maps[0][0], maps[1][0])


@one_pass
def test_coupled_is_the_plain_gradient(name):
    net = drop_dropout(network(name))
    swapped = torch.tensor([2, 1, 2, 0])
    part = extractor(name, batch_statistics="coupled")
    first, second = (part(net, IMAGES, classes).saliency for classes in (LABELS, swapped))
    assert not torch.allclose(first[1], second[1])
    if name == "input_gradient":
        pixels = IMAGES.clone().requires_grad_()
        (grad,) = torch.autograd.grad(net(pixels).gather(1, LABELS[:, None]).sum(), pixels)
        torch.testing.assert_close(first, grad.abs().amax(1))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "expected_gradients"])
def test_several_classes_equal_one_at_a_time(name):
    net, classes = plain_net(rectified=True).double(), torch.tensor([[0, 1], [2, 1], [1, 1], [2, 0]])
    maps = []
    for chosen in (classes, classes[:, 0], classes[:, 1]):
        torch.manual_seed(3)
        maps.append(extractor(name)(net, IMAGES, chosen).saliency)
    torch.testing.assert_close(maps[0], torch.stack(maps[1:], 1))


@each
def test_averaged_model_and_autocast(name):
    net = plain_net(rectified=True)
    images = IMAGES.float()
    torch.manual_seed(3)
    expected = extractor(name)(net, images, LABELS).saliency
    torch.manual_seed(3)
    torch.testing.assert_close(extractor(name)(AveragedModel(net), images, LABELS).saliency, expected)
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = extractor(name)(net, images, LABELS).saliency
    assert half.dtype == torch.float32
    assert float(torch.cosine_similarity(half.flatten(), expected.flatten(), dim=0).detach()) > 0.98


@pytest.mark.parametrize("name", [*SAMPLED, *HIDING])
def test_chunks_change_neither_map_nor_gradient(name):
    """Also with another input per sample, which goes along."""
    net = TwoInputs().double()
    inputs = {"image": IMAGES, "age": torch.rand(4, 1, dtype=torch.float64)}
    options = {"references": 3} if name == "expected_gradients" else {}
    found = []
    for chunk in (1, 2, 50):
        part = extractor(name, chunk=chunk, input="image", **options)
        torch.manual_seed(3)
        saliency = part(net, inputs, LABELS % 2).saliency
        grads = torch.autograd.grad(saliency.square().sum(), list(net.parameters()), allow_unused=True)
        found.append((saliency.detach(), *(grad for grad in grads if grad is not None)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("name", [*SAMPLED, *HIDING])
def test_further_passes_leave_buffers_as_one_pass_does(name):
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        net, twin = smooth_network(), smooth_network()
        twin.load_state_dict(net.state_dict())
        with context():
            extractor(name)(net, IMAGES, LABELS)
            twin(IMAGES)
        for key, value in twin.state_dict().items():
            torch.testing.assert_close(net.state_dict()[key], value, rtol=0, atol=0)


def multiplied(module, mean):
    module.scale.mul_(0.9).add_(mean, alpha=0.1)


def replaced(module, mean):
    module.scale = 0.9 * module.scale + 0.1 * mean


def changed_behind_autograd(module, mean):
    module.scale.data.mul_(0.9).add_(mean, alpha=0.1)


def replaced_behind_autograd(module, mean):
    module.scale.data = 0.9 * module.scale + 0.1 * mean


def changed_by_another_name(module, mean):
    module.same.mul_(0.9).add_(mean, alpha=0.1)


WAYS = (multiplied, replaced, changed_behind_autograd, replaced_behind_autograd, changed_by_another_name)


class Scaled(nn.Module):
    """Divides by a running scale, updated in the given way; the gradient of the division needs the scale."""

    def __init__(self, way):
        super().__init__()
        self.conv, self.fc, self.way = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), way
        self.register_buffer("scale", torch.ones(4))
        self.register_buffer("running_mean", torch.zeros(4))
        self.register_buffer("running_var", torch.ones(4))
        self.same = self.scale

    def forward(self, x):
        mean = x.detach().mean().expand(4)
        x = self.conv(x)
        x = F.silu(torch.batch_norm(x, None, None, self.running_mean, self.running_var, True, 0.1, 1e-5, False))
        x = x.square().mean((2, 3))
        with torch.no_grad():
            self.way(self, mean)
        return self.fc(x / self.scale)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*SAMPLED, *HIDING])
def test_further_passes_leave_buffers_alone_however_they_are_changed(name, way):
    net = Scaled(way).double()
    net.same = net.scale
    twin = Scaled(way).double()
    twin.load_state_dict(net.state_dict())
    twin.same = twin.scale
    extractor(name)(net, IMAGES, LABELS)
    twin(IMAGES)
    for key, value in twin.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    assert way is replaced or net.same is net.scale


@pytest.mark.parametrize("way", [multiplied, replaced, changed_behind_autograd])
@pytest.mark.parametrize("name", ["smooth_grad", "occlusion"])
def test_gradients_where_every_pass_changes_a_buffer(name, way):
    net = Scaled(way).double()
    start = net.scale.clone()
    guided = sl.SaliencyGuidedLoss(net, extractor(name), "mse")
    human = torch.rand(4, 9, 9, dtype=torch.float64)

    def loss():
        torch.manual_seed(3)
        net.scale = start.clone()
        return guided(IMAGES, LABELS, human).loss

    check_gradients(loss, dict(net.named_parameters()))


@pytest.mark.parametrize("name", ["smooth_grad", "occlusion"])
def test_gradients_through_a_buffer_that_the_plain_pass_put_on_the_graph(name):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
            self.register_buffer("scale", torch.ones(4))

        def forward(self, x):
            x = F.silu(self.conv(x)).square().mean((2, 3))
            self.scale = 0.5 * self.scale + x.mean(0)
            return self.fc(x / self.scale)

    net = Net().double()
    guided = sl.SaliencyGuidedLoss(net, extractor(name), "mse")
    human = torch.rand(4, 9, 9, dtype=torch.float64)

    def loss():
        torch.manual_seed(3)
        net.scale = torch.ones(4, dtype=torch.float64)
        return guided(IMAGES, LABELS, human).loss

    check_gradients(loss, dict(net.named_parameters()))


class SkipsLayers(nn.Module):
    """Blocks of one shape, of which a pass runs those that it is told to."""

    def __init__(self, runs, **options):
        super().__init__()
        self.runs = iter(runs)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3, **options), nn.GELU()) for _ in range(2)
        )
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        for number in next(self.runs):
            x = x + self.blocks[number](x)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("options", [{}, {"affine": False}])
@pytest.mark.parametrize("runs", [[(0,), (1,)], [(0, 1), (0,)], [(0,), (0, 1)], [(0, 1), (1, 0)]])
def test_passes_that_skip_layers_at_random_are_refused(runs, options):
    """Also where the statistics of another layer would fit."""
    with pytest.raises(RuntimeError, match=r"BatchNorm in another order.*left out a layer.*skips layers at random"):
        SmoothGrad(samples=1)(SkipsLayers(runs, **options).double(), IMAGES, LABELS)


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"affine": False, "track_running_stats": False}])
def test_passes_may_call_a_layer_again(options):
    again = [(0, 1, 0)] * 4
    assert SmoothGrad(samples=3)(SkipsLayers(again, **options).double(), IMAGES, LABELS).saliency.isfinite().all()


def test_passes_may_compute_what_batchnorm_takes():
    """Parameters and buffers that are slices are others in every pass."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(6), nn.Linear(4, 3)

        def forward(self, x):
            norm = self.norm
            parts = (part[:4] for part in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
            return self.fc(F.silu(F.batch_norm(self.conv(x), *parts, training=True)).mean((2, 3)))

    net = Net().double()
    check_extractor(SmoothGrad(samples=2), net, IMAGES)
    with torch.inference_mode():
        assert SmoothGrad(samples=2)(net, IMAGES, LABELS).saliency.isfinite().all()


@pytest.mark.parametrize("name", [*SAMPLED, *HIDING])
def test_the_predicted_class_is_that_of_the_input(name):
    """Even where other points are predicted to be something else."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(243, 3)).double()
    with torch.no_grad():
        net[1].weight.mul_(20.0)
        net[1].bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    predicted = net(IMAGES).argmax(1)
    assert (predicted != net(0.01 * IMAGES).argmax(1)).any()
    maps = []
    for options, classes in (({}, predicted), ({}, None), ({"score": "predicted"}, 0 * predicted)):
        torch.manual_seed(3)
        maps.append(extractor(name, **options)(net, IMAGES, classes).saliency)
    torch.testing.assert_close(maps[1], maps[0])
    torch.testing.assert_close(maps[2], maps[0])


@pytest.mark.parametrize("name", ["input_gradient", "integrated_gradients", "expected_gradients", "smooth_grad"])
def test_attention_needs_no_context_of_the_users(name):
    net = Attention().double()
    guided = sl.SaliencyGuidedLoss(net, extractor(name), "correlation")

    def loss():
        torch.manual_seed(3)
        return guided(IMAGES, LABELS, HUMAN).loss

    check_gradients(loss, dict(net.named_parameters()))


@pytest.mark.parametrize("train", [False, True])
def test_integrated_gradients_are_complete(train):
    """They sum to the change of the score, in train mode at the statistics of the batch."""
    net = drop_dropout(smooth_network()).train(train)
    baseline = torch.rand(3, 9, 9, dtype=torch.float64)
    output, saliency = IntegratedGradients(steps=64, baseline=baseline, chunk=16)(net, IMAGES, LABELS)
    if train:
        with torch.no_grad():
            for norm, before in ((net[1], net[:1]), (net[4], net[:4])):
                x = before(IMAGES)
                norm.running_mean, norm.running_var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
                norm.eval()
    start = net(baseline.expand_as(IMAGES)).gather(1, LABELS[:, None])[:, 0]
    fall = output.gather(1, LABELS[:, None])[:, 0] - start
    torch.testing.assert_close(saliency.sum((1, 2)), fall, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
def test_against_captum():
    net = plain_net(rectified=True).double().eval()
    pairs = [
        (
            IntegratedGradients(steps=20, baseline=0.3),
            captum.attr.IntegratedGradients,
            {"baselines": 0.3, "n_steps": 20},
        ),
        (
            Occlusion(window=3, stride=2, baseline=0.2),
            captum.attr.Occlusion,
            {"sliding_window_shapes": (3, 3, 3), "strides": (3, 2, 2), "baselines": 0.2},
        ),
        (extractor("guided_backprop", reduce="sum"), captum.attr.GuidedBackprop, {}),
        (extractor("deconvolution", reduce="sum"), captum.attr.Deconvolution, {}),
        (extractor("input_x_gradient"), captum.attr.InputXGradient, {}),
    ]
    for part, algorithm, options in pairs:
        expected = algorithm(net).attribute(IMAGES.clone().requires_grad_(), target=LABELS, **options).detach()
        expected = expected[:, 0].double() if isinstance(part, Occlusion) else expected.sum(1)
        torch.testing.assert_close(part(net, IMAGES, LABELS).saliency.detach(), expected, rtol=1e-5, atol=1e-7)


def test_expected_gradients_never_take_the_sample_itself():
    seen = []

    class Watch(nn.Sequential):
        def forward(self, x):
            seen.append(x.detach())
            return super().forward(x)

    net = Watch(*plain_net()).double()
    images = torch.stack([torch.full((3, 9, 9), 10.0**k, dtype=torch.float64) for k in range(3)])
    maps = ExpectedGradients(references=200, chunk=200)(net, images, LABELS[:3]).saliency
    points = seen[1].view(200, 3, 3, 9, 9)[..., 0, 0, 0]
    own = images[:, 0, 0, 0]
    assert maps.isfinite().all()
    assert not (points == own).any()
    assert (points[:, 1] < own[1]).any()
    assert (points[:, 1] > own[1]).any()
    background = torch.zeros(1, 3, 9, 9)
    ExpectedGradients(references=50, chunk=50, background=background)(net, images, LABELS[:3])
    share = seen[3].view(50, 3, -1)[..., 0] / own
    assert (share < 1).all()
    assert float(share.min()) < 0.1
    assert float(share.max()) > 0.9


def test_expected_gradients_approach_integrated_gradients():
    net = plain_net().double()
    background = torch.full((1, 3, 9, 9), 0.25)
    drawn = ExpectedGradients(references=400, background=background, chunk=100)(net, IMAGES, LABELS).saliency
    exact = IntegratedGradients(steps=40, baseline=0.25, chunk=40)(net, IMAGES, LABELS).saliency
    assert float(torch.cosine_similarity(drawn.flatten(), exact.flatten(), dim=0).detach()) > 0.98


def test_smooth_grad_without_noise_is_the_gradient():
    net = plain_net().double()
    expected = InputGradient(reduce="mean")(net, IMAGES, LABELS).saliency
    options = {"samples": 2, "noise": 0.0, "reduce": "mean"}
    torch.testing.assert_close(SmoothGrad(**options)(net, IMAGES, LABELS).saliency, expected)
    grad = InputGradient(reduce="none")(net, IMAGES, LABELS).saliency
    squared = SmoothGrad(squared=True, **options)(net, IMAGES, LABELS).saliency
    torch.testing.assert_close(squared, grad.square().mean(1))


@one_pass
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at the input's
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # older compilers do
def test_a_compiled_model_is_evaluated_by_the_same_rules(name):
    net = drop_dropout(network(name))
    expected = extractor(name)(net, IMAGES, LABELS).saliency.detach()
    torch.compiler.reset()
    compiled = torch.compile(net, backend="aot_eager")
    with torch.no_grad():
        compiled(IMAGES)
        torch.testing.assert_close(extractor(name)(compiled, IMAGES, LABELS).saliency, expected)
    with pytest.raises(RuntimeError, match=r"torch\.compile has no double backward"):
        extractor(name)(compiled, IMAGES, LABELS)


class Ways(nn.Module):
    """Every way to write a ReLU, an in-place one whose argument is read again, and curvature elsewhere."""

    def __init__(self):
        super().__init__()
        self.module, self.inplace = nn.ReLU(), nn.ReLU(inplace=True)
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(8))
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        ways = [self.module, self.inplace, F.relu, torch.relu, torch.Tensor.relu, torch.relu_, torch.Tensor.relu_]
        for layer, relu in zip(self.layers, [*ways, lambda x: F.relu(x, inplace=True)], strict=True):
            inner = layer(x)
            x = F.silu(x) + relu(inner) + inner
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("name", RECTIFIED)
def test_rules_hold_for_every_way_to_write_a_relu(name):
    net = Ways().double()
    modes = []

    class Spy(Rectifiers):
        def __init__(self, rule):
            super().__init__(rule)
            modes.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"saliency_losses.extractors.{name}.Rectifiers", Spy)
        output = extractor(name)(net, IMAGES, LABELS).output
    assert modes[-1].found == 8
    torch.testing.assert_close(output, net(IMAGES))
    check_extractor(extractor(name), net, IMAGES)
    check_extractor(extractor(name), InplaceNet().double(), IMAGES)


@pytest.mark.parametrize("name", RECTIFIED)
def test_rules_hold_for_one_derivative_only(name):
    """The output's own gradient is that of ReLU."""
    net = Ways().double()
    output = extractor(name)(net, IMAGES, LABELS).output
    parameters = list(net.parameters())
    grads = torch.autograd.grad(F.cross_entropy(output, LABELS), parameters)
    expected = torch.autograd.grad(F.cross_entropy(net(IMAGES), LABELS), parameters)
    torch.testing.assert_close(grads, expected)


@pytest.mark.parametrize("name", RECTIFIED)
def test_a_model_without_relus_has_no_rule(name):
    with pytest.raises(ValueError, match=f"{name} changes how ReLUs pass gradients back, but the model called none"):
        extractor(name)(smooth_network(), IMAGES, LABELS)


@pytest.mark.parametrize(("conv", "shape"), [(nn.Conv1d, (9,)), (nn.Conv3d, (5, 6, 7))])
@each
def test_one_dimensional_and_three_dimensional_inputs(name, conv, shape):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = conv(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(F.relu(self.conv(x)).flatten(2).mean(2))

    options = {"window": 3, "stride": 2} if name == "occlusion" else {}
    out = sl.SaliencyGuidedLoss(Net(), extractor(name, **options), "mse")(
        torch.rand(2, 3, *shape), torch.tensor([0, 2]), torch.rand(2, *shape)
    )
    assert out.model_saliency.shape == (2, *shape)
    out.loss.backward()


def test_occlusion_covers_the_last_row_and_column():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 8, 3)).double()
    saliency = Occlusion(window=(4, 3), stride=(4, 3))(net, IMAGES[..., :8], LABELS).saliency
    weight = net[1].weight[LABELS].view(4, 3, 9, 8)
    corner = (weight * IMAGES[..., :8])[:, :, 5:, 5:].sum((1, 2, 3))
    torch.testing.assert_close(saliency[:, 8, 7], corner)


def test_rise_masks_show_as_much_as_they_should():
    masks = sl.extractors.rise.rise_masks(4000, (20, 14), 7, 0.3)
    assert masks.shape == (4000, 20, 14)
    assert float(masks.min()) >= 0.0
    assert float(masks.max()) <= 1.0
    torch.testing.assert_close(masks.mean(0), torch.full((20, 14), 0.3), atol=0.04, rtol=0)


def test_defaults_are_declared():
    passes = {
        "input_gradient": 1,
        "integrated_gradients": 17,
        "expected_gradients": 2,
        "smooth_grad": 17,
        "rise": 9,
        "occlusion": None,
    }
    for name, count in passes.items():
        assert sl.create_extractor(name).passes == count
    assert sl.create_extractor("integrated_gradients", steps=10, chunk=4).passes == 4


def test_tensors_among_the_options_are_shown_by_their_shape():
    part = IntegratedGradients(baseline=torch.zeros(3, 9, 9))
    assert repr(part) == "IntegratedGradients(baseline=<Tensor of shape (3, 9, 9)>)"


BAD_OPTIONS = {
    "steps": (lambda: IntegratedGradients(steps=-1), "steps must be a positive integer, got -1"),
    "chunk": (lambda: IntegratedGradients(chunk=0), "chunk must be a positive integer, got 0"),
    "references": (lambda: ExpectedGradients(references=0), "references must be a positive integer, got 0"),
    "samples": (lambda: SmoothGrad(samples=2.5), r"samples must be a positive integer, got 2\.5"),
    "noise": (lambda: SmoothGrad(noise=-0.1), r"noise must be a finite share of the range of values.*got -0\.1"),
    "infinite noise": (lambda: SmoothGrad(noise=float("inf")), "noise must be a finite share"),
    "n_masks": (lambda: RISE(n_masks=0), "n_masks must be a positive integer, got 0"),
    "grid": (lambda: RISE(grid=True), "grid must be a positive integer, got True"),
    "p": (lambda: RISE(p=0.0), r"p must be a probability above 0, got 0\.0"),
    "window": (lambda: Occlusion(window=0), "window must be a positive integer or a tuple of them.*got 0"),
    "empty window": (lambda: Occlusion(window=()), "window must be a positive integer or a tuple of them"),
    "stride": (lambda: Occlusion(stride=(2, -1)), r"stride must be a positive integer.*got \(2, -1\)"),
    "reduce": (lambda: IntegratedGradients(reduce="max"), "reduce must be one of abs_max, .*got 'max'"),
    "score": (lambda: RISE(score="truth"), "score must be one of 'true'"),
    "batch_statistics": (
        lambda: InputGradient(batch_statistics="free"),
        "batch_statistics must be 'constant' or 'coupled', got 'free'",
    ),
    "large window": (
        lambda: Occlusion(window=10)(plain_net().double(), IMAGES, LABELS),
        r"window=\(10, 10\) is larger than the image \(9, 9\)",
    ),
    "stride beyond the window": (
        lambda: Occlusion(window=2, stride=3)(plain_net().double(), IMAGES, LABELS),
        r"stride=\(3, 3\) is larger than window=\(2, 2\), so no window would hide the pixels between",
    ),
    "axes of the window": (
        lambda: Occlusion(window=(2, 2, 2))(plain_net().double(), IMAGES, LABELS),
        r"\(2, 2, 2\) has 3 axes, but the image \(9, 9\) has 2",
    ),
    "fine grid": (
        lambda: RISE(grid=10)(plain_net().double(), IMAGES, LABELS),
        r"grid=10 is finer than the image \(9, 9\)",
    ),
    "shape of the baseline": (
        lambda: IntegratedGradients(baseline=torch.rand(4, 1))(plain_net().double(), IMAGES, LABELS),
        r"baseline has shape \(4, 1\), which does not broadcast to the inputs \(4, 3, 9, 9\)",
    ),
    "shape of a called baseline": (
        lambda: Occlusion(baseline=lambda x: x[..., :4])(plain_net().double(), IMAGES, LABELS),
        r"baseline has shape \(4, 3, 9, 4\), which does not broadcast",
    ),
    "shape of the background": (
        lambda: ExpectedGradients(background=torch.rand(5, 3, 8, 8))(plain_net().double(), IMAGES, LABELS),
        r"background has shape \(5, 3, 8, 8\), expected \(M, \*\(3, 9, 9\)\)",
    ),
    "empty background": (
        lambda: ExpectedGradients(background=torch.rand(0, 3, 9, 9))(plain_net().double(), IMAGES, LABELS),
        "at least one image",
    ),
    "one sample without a background": (
        lambda: ExpectedGradients()(plain_net().double(), IMAGES[:1], LABELS[:1]),
        "A batch of one sample has no others to take for references; give some images as background=",
    ),
    "no positions": (
        lambda: Occlusion()(nn.Linear(5, 3), torch.rand(4, 5), LABELS),
        r"shape \(4, 5\), expected \(B, C, \*positions\) to hide parts of",
    ),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(name):
    call, message = BAD_OPTIONS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_types():
    for kind in (IntegratedGradients, Occlusion, RISE):
        with pytest.raises(TypeError, match=r"baseline must be a number, a tensor or a callable.*got str"):
            kind(baseline="black")
    with pytest.raises(TypeError, match=r"background must be a tensor of images \(M, C, \*S\), got list"):
        ExpectedGradients(background=[1.0])


@each
def test_without_a_floating_point_input(name):
    with pytest.raises(ValueError, match=r"input=None fits 0 floating-point tensors among the inputs"):
        extractor(name)(plain_net(), IMAGES.long(), LABELS)
