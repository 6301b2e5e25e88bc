"""Models on which a map could be silently wrong: each gives the right map, or an error that says why."""

import copy
import dataclasses

import pytest
import torch
from models import batch, plain_net
from torch import nn
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.divergences import KL, MSE, Correlation
from saliency_losses.extractors import CAM, GradCAM, InputGradient
from saliency_losses.extractors.grad_cam import mean_gradients
from saliency_losses.testing import check_gradients

IMAGES, LABELS, HUMAN = batch()


class Net(nn.Module):
    """Convolution, mean, whatever the test puts between, one linear layer."""

    def __init__(self, between=None, head=None):
        super().__init__()
        self.conv, self.neck, self.fc = nn.Conv2d(3, 6, 3), nn.Identity(), head or nn.Linear(6, 3)
        self.between = between or (lambda pooled, features: pooled)

    def forward(self, x):
        features = self.conv(x)
        return self.fc(self.neck(self.between(features.mean((2, 3)), features)))


def cam_of(net, weight, labels=LABELS):
    return torch.einsum("bchw,bc->bhw", net.conv(IMAGES), weight[labels])


def bias_identity(net, output, saliency):
    got = saliency.mean((1, 2)) + net.fc(torch.zeros(1, 6))[0][LABELS]
    torch.testing.assert_close(got, output.gather(1, LABELS[:, None])[:, 0])


def refused(model, part=None, inputs=IMAGES, match="CAM"):
    for _ in range(2):
        with pytest.raises(ValueError, match=match):
            (part or CAM())(model, inputs, LABELS)


def inplace_max(pooled, features):
    pooled += features.amax((2, 3))
    return pooled


def inplace_norm(pooled, features):
    pooled /= pooled.norm(dim=1, keepdim=True).detach()
    return pooled


@pytest.mark.parametrize(
    "between",
    [
        inplace_max,
        inplace_norm,
        lambda pooled, features: F.relu(pooled, inplace=True),
        lambda pooled, features: pooled.tanh_(),
        lambda pooled, features: F.normalize(pooled, dim=1),
        lambda pooled, features: pooled.flip(1),
        lambda pooled, features: pooled + features.std((2, 3)),
    ],
)
def test_a_pooled_vector_that_is_changed(between):
    refused(Net(between))


@pytest.mark.parametrize("change", [lambda z: z.div_(0.07), lambda z: z * 2.0, lambda z: z.log_softmax(1)])
def test_logits_that_are_changed(change):
    class Changed(Net):
        def forward(self, x):
            return change(super().forward(x))

    refused(Changed())


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
        nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 3)),
        nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)),
    ],
)
def test_heads_that_bend_even_where_it_does_not_show_yet(head):
    nn.init.zeros_(head[-1].weight)
    net = Net(head=head)
    refused(net, inputs=torch.ones(4, 3, 9, 9), match="is not one linear layer")
    refused(net.bfloat16(), inputs=IMAGES.bfloat16(), match="is not one linear layer")
    tracked = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
    assert [int(module.num_batches_tracked) for module in tracked] == [1] * len(
        tracked
    )  # refused at once from the second call on


def test_a_head_that_bends_out_of_sight():
    class Capped(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 6) * 1e-3)

        def forward(self, pooled):
            return (
                30 * torch.tanh(F.linear(pooled, self.weight) / 30)
                if self.weight.abs().max() > 1
                else (F.linear(pooled, self.weight))
            )

    net = Net(head=Capped())
    CAM()(net, IMAGES, LABELS)
    with torch.no_grad():
        net.fc.weight.mul_(1e5)
    with pytest.raises(ValueError, match="its classifier is not linear: the map's mean plus the bias misses the logit"):
        CAM()(net, IMAGES, LABELS)


class Tasks(Net):
    """A classifier for each task, chosen by the caller."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 3)])

    def forward(self, x, task):
        return self.heads[task](self.conv(x).mean((2, 3)))


def test_a_head_chosen_by_the_call():
    net = Tasks()
    CAM()(net, (IMAGES, 0), LABELS)
    with pytest.raises(ValueError, match=r"its classifier 'heads.0' was not called this time.*CAM\(head=...\)"):
        CAM()(net, (IMAGES, 1), LABELS)
    for _ in range(2):
        for task in (0, 1):
            saliency = CAM(head=f"heads.{task}")(net, (IMAGES, task), LABELS).saliency
            torch.testing.assert_close(saliency, cam_of(net, net.heads[task].weight))


def test_a_head_that_takes_more_than_the_pooled_vector():
    class PerTask(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3, 6))

        def forward(self, pooled, task=0):
            return F.linear(pooled, self.weight[task])

    class Model(Net):
        def forward(self, x, task):
            return self.fc(self.conv(x).mean((2, 3)), task)

    refused(Model(head=PerTask()), inputs=(IMAGES, 1), match="takes more than the pooled vector")


def test_a_module_put_between_later():
    for late in (nn.LayerNorm(6), nn.BatchNorm1d(6), nn.GELU()):
        net = Net()
        CAM()(net, IMAGES, LABELS)
        net.neck = late
        refused(net)


def test_a_head_repaired_after_a_refusal():
    net = Net(head=nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)))
    refused(net)
    net.fc = nn.Linear(6, 3)
    torch.testing.assert_close(CAM()(net, IMAGES, LABELS).saliency, cam_of(net, net.fc.weight))


def test_a_pooling_window_that_no_longer_covers_the_features():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AvgPool2d(7), nn.Flatten(), nn.Linear(6, 3))
    CAM()(net, IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"CAM follows one way.*not the mean of a feature map"):
        CAM()(net, torch.randn(4, 3, 12, 12), LABELS)


def test_adapters_on_a_linear_head():
    """Low-rank adapters that start at zero, by a patched forward and by a hook."""
    patched, hooked = Net(), Net()
    extra = [nn.Linear(6, 3, bias=False) for _ in range(2)]
    for layer in extra:
        nn.init.zeros_(layer.weight)
    original = patched.fc.forward
    patched.fc.forward = lambda pooled: original(pooled) + extra[0](pooled)
    hooked.fc.register_forward_hook(lambda module, args, output: output + extra[1](args[0]))
    for net in (patched, hooked):
        CAM()(net, IMAGES, LABELS)
    for layer in extra:
        nn.init.normal_(layer.weight)
    saliency = CAM()(patched, IMAGES, LABELS).saliency
    torch.testing.assert_close(saliency, cam_of(patched, patched.fc.weight + extra[0].weight))
    with pytest.raises(ValueError, match="CAM follows one way"):
        CAM()(hooked, IMAGES, LABELS)


def test_a_low_rank_head_as_a_module():
    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.down, self.up = nn.Linear(6, 3), nn.Linear(6, 2, bias=False), nn.Linear(2, 3, bias=False)

        def forward(self, pooled):
            return self.base(pooled) + self.up(self.down(pooled))

    net = Net(head=LowRank())
    expected = net.fc.base.weight + net.fc.up.weight @ net.fc.down.weight
    for _ in range(2):
        output, saliency = CAM()(net, IMAGES, LABELS)
        torch.testing.assert_close(saliency, cam_of(net, expected))
        bias_identity(net, output, saliency)


def test_another_layer_under_a_head_that_is_called():
    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 3)

        def forward(self, pooled):
            return self.up(self.down(pooled))

    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), LowRank())
    weight = net[4].up.weight @ net[4].down.weight
    expected = torch.einsum("bchw,bc->bhw", net[0](IMAGES), weight[LABELS])
    for _ in range(2):
        torch.testing.assert_close(CAM(layer="0")(net, IMAGES, LABELS).saliency, expected)


def test_parametrised_heads():
    net = Net(head=nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)))
    for _ in range(2):
        torch.testing.assert_close(CAM()(net, IMAGES, LABELS).saliency, cam_of(net, net.fc.weight))


class Scaled(nn.Module):
    """Linear, but not a linear layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6))

    def forward(self, pooled):
        return 2.0 * F.linear(pooled, self.weight)


@pytest.mark.parametrize("head", [nn.Linear(6, 3), Scaled()])
def test_a_listener_on_the_classifier_hears_only_the_model(head):
    heard = []
    net = Net(head=head)
    net.fc.register_forward_hook(lambda module, args, output: heard.append(args[0].shape))
    for _ in range(3):
        CAM()(net, IMAGES, LABELS)
    assert heard == [(4, 6)] * 3


def test_weights_swapped_in_for_one_call():
    net = Net()
    fast = {name: (p.detach() * -2.0).requires_grad_() for name, p in net.named_parameters()}
    guided = sl.SaliencyGuidedLoss(net, "cam", forward=lambda model, x: torch.func.functional_call(model, fast, (x,)))
    features = F.conv2d(IMAGES, fast["conv.weight"], fast["conv.bias"])
    expected = torch.einsum("bchw,bc->bhw", features, fast["fc.weight"][LABELS])
    for _ in range(2):
        out = guided(IMAGES, LABELS, HUMAN)
        torch.testing.assert_close(out.model_saliency, expected)
        assert torch.autograd.grad(out.saliency_loss, fast["fc.weight"])[0].abs().sum() > 0


def test_two_views_through_one_head():
    class Views(Net):
        def forward(self, x):
            return Net.forward(self, x), Net.forward(self, x.flip(3))

    net = Views()
    refused(net, match=r"several classifiers: \['fc', 'fc, call 2'\]")
    second = torch.einsum("bchw,bc->bhw", net.conv(IMAGES.flip(3)), net.fc.weight[LABELS])
    for _ in range(2):
        torch.testing.assert_close(CAM(head="fc")(net, IMAGES, LABELS).saliency, cam_of(net, net.fc.weight))
        torch.testing.assert_close(CAM(head="fc, call 2")(net, IMAGES, LABELS).saliency, second)


def test_a_gate_that_pools_twice():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool, self.fc = nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

        def forward(self, x):
            y = self.conv(x)
            gate = self.pool(y).mean((2, 3))
            return self.fc((y * torch.sigmoid(gate)[:, :, None, None]).mean((2, 3)))

    net = Gated()
    first, second = (CAM()(net, IMAGES, LABELS).saliency for _ in range(2))
    assert first.shape == (4, 7, 7)
    torch.testing.assert_close(first, second)


def test_a_backbone_under_no_grad():
    class Probe(Net):
        def forward(self, x):
            with torch.no_grad():
                pooled = self.conv(x).mean((2, 3))
            return self.fc(pooled)

    net = Probe()
    for _ in range(2):
        loss = sl.SaliencyGuidedLoss(net, "cam")(IMAGES, LABELS, HUMAN).saliency_loss
        assert torch.autograd.grad(loss, net.fc.weight)[0].abs().sum() > 0
        with pytest.raises(ValueError, match="runs without gradients"):
            sl.SaliencyGuidedLoss(net, "grad_cam")(IMAGES, LABELS, HUMAN)


def test_autocast_inside_the_model():
    class Mixed(Net):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                features = self.conv(x)
            return self.fc(features.mean((2, 3)).float())

    net = Mixed()
    for _ in range(2):
        saliency = CAM()(net, IMAGES, LABELS).saliency
        torch.testing.assert_close(saliency, cam_of(net, net.fc.weight), rtol=0.05, atol=0.02)


def test_a_device_context_inside_the_model():
    class Placed(Net):
        def forward(self, x):
            with torch.device("cpu"):
                features = self.conv(x)
            return self.fc(features.mean((2, 3)))

    net = Placed()
    for _ in range(3):
        torch.testing.assert_close(CAM()(net, IMAGES, LABELS).saliency, cam_of(net, net.fc.weight))
    assert torch.overrides._get_current_function_mode() is None


def test_class_maps_changed_in_place_after_pooling():
    class Segments(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            maps = self.conv(x)
            logits = maps.mean((2, 3))
            return {"logits": logits, "segments": maps.sigmoid_()}

    refused(Segments())


def test_a_callable_score_on_more_than_the_logits():
    class Both(Net):
        def forward(self, x):
            logits = super().forward(x)
            return {"logits": logits, "shares": logits.softmax(1)}

    net = Both()
    part = CAM(score=lambda output, y: (output["logits"] + 5 * output["shares"]).gather(1, y[:, None])[:, 0])
    trained = part(net, IMAGES, LABELS).saliency.detach()
    with torch.no_grad():
        torch.testing.assert_close(part(net, IMAGES, LABELS).saliency, trained)
    torch.testing.assert_close(part(net.requires_grad_(False), IMAGES, LABELS).saliency, trained)


class ChannelsLast(nn.Module):
    """Works on (B, H, W, C) behind a convolution."""

    def __init__(self, mid):
        super().__init__()
        self.conv, self.mid, self.fc = nn.Conv2d(3, 6, 3), mid, nn.Linear(294, 3)

    def forward(self, x):
        return self.fc(self.mid(self.conv(x).permute(0, 2, 3, 1)).flatten(1))


class Custom(nn.Module):
    """A reordering of one's own."""

    def forward(self, x):
        return x.flip(1)


@pytest.mark.parametrize(
    "mid", [nn.RMSNorm(6), nn.LayerNorm(6), nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.GELU())]
)
def test_channels_last_layers(mid):
    saliency = GradCAM(layer="mid")(ChannelsLast(mid), IMAGES, LABELS).saliency
    assert saliency.shape == (4, 7, 7)


def test_a_layer_whose_channels_nothing_tells():
    net = ChannelsLast(Custom())
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Nothing tells where the channels of layer 'mid' are.*reshape="):
            GradCAM(layer="mid")(net, IMAGES, LABELS)
    told = GradCAM(layer="mid", reshape=lambda t: t.movedim(-1, 1))
    assert told(net, IMAGES, LABELS).saliency.shape == (4, 7, 7)
    assert GradCAM()(net, IMAGES, LABELS).saliency.shape == (4, 7, 7)


def test_a_norm_over_channels_and_positions():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.LayerNorm([6, 7, 7]), nn.Flatten(), nn.Linear(294, 3))
    assert [layer.channel_axis for layer in sl.list_layers(net, IMAGES)] == [1, 1]
    assert GradCAM()(net, IMAGES, LABELS).saliency.shape == (4, 7, 7)


def test_a_layer_by_its_other_name():
    net = ChannelsLast(nn.LayerNorm(6))
    net.last = net.mid
    assert GradCAM(layer="last")(net, IMAGES, LABELS).saliency.shape == (4, 7, 7)


def test_a_layer_first_seen_with_one_position():
    class Shrinks(ChannelsLast):
        def forward(self, x):
            return self.fc(
                F.adaptive_avg_pool2d(self.mid(self.conv(x).permute(0, 2, 3, 1)).movedim(-1, 1), 7).flatten(1)
            )

    net = Shrinks(nn.LayerNorm(6))
    GradCAM(layer="mid")(net, torch.randn(4, 3, 3, 3), LABELS)
    assert GradCAM(layer="mid")(net, IMAGES, LABELS).saliency.shape == (4, 7, 7)


def test_a_layer_with_another_axis_first():
    class SequenceFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mix, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(self.mix(self.conv(x).flatten(2).permute(2, 0, 1)).mean(0))

    with pytest.raises(ValueError, match=r"Nothing tells .* layer 'mix' are.*shape \(49, 4, 6\).*the batch first"):
        GradCAM(layer="mix")(SequenceFirst(), IMAGES, LABELS)
    with pytest.raises(ValueError, match="score has 3 samples"):
        InputGradient(score=lambda output, y: output.sum(0))(plain_net(), IMAGES, LABELS)


def test_grad_cam_before_a_layer_that_is_blind_to_shifts():
    """There the mean gradient is zero, and what floating point leaves of it must not become a map."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    for model in (net, net.double()):
        images = IMAGES.to(model[0].weight.dtype)
        with pytest.raises(ValueError, match="mean gradient at layer '0' vanishes in every channel"):
            GradCAM(layer="0")(model, images, LABELS)
        assert GradCAM(layer="1")(model, images, LABELS).saliency.abs().max() > 1e-5


def test_an_in_place_layer_behind_the_tapped_one_changes_nothing():
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(294, 3)]
    plain = nn.Sequential(*layers)
    inplace = nn.Sequential(layers[0], nn.ReLU(inplace=True), *layers[2:])
    for _ in range(2):
        first, second = (GradCAM(layer="0")(net, IMAGES, LABELS).saliency for net in (plain, inplace))
        assert first.min() < 0
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    "divergence", [MSE(), KL(), KL(normalize="sum"), Correlation(), MSE(normalize="max_abs")], ids=repr
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_map_that_is_not_finite_shows(divergence, value):
    maps = torch.randn(2, 5, 5)
    maps[0, 1, 1] = value
    values = divergence(maps, torch.rand(2, 5, 5))
    assert not values[0].isfinite()
    assert values[1].isfinite()


def test_logits_that_are_not_finite_show_in_the_loss():
    net = plain_net()
    guided = sl.SaliencyGuidedLoss(net, "cam")
    guided(IMAGES, LABELS, HUMAN)
    with torch.no_grad():
        net[6].weight[0, 0] = float("nan")
    assert guided(IMAGES, LABELS, HUMAN).loss.isnan()


def test_large_logits_in_half_precision():
    class Clip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.body = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
            self.text = nn.Parameter(torch.randn(3, 16))

        def forward(self, x):
            pooled = F.normalize(F.gelu(self.body(F.gelu(self.conv(x)))).mean((2, 3)), dim=1)
            return 100.0 * pooled @ F.normalize(self.text, dim=1).T

    torch.manual_seed(0)
    net = Clip()
    for part in (GradCAM(layer="body"), InputGradient()):
        exact = sl.SaliencyGuidedLoss(net, part)(IMAGES, LABELS, HUMAN)
        with torch.autocast("cpu", dtype=torch.float16):
            half = sl.SaliencyGuidedLoss(net, part)(IMAGES, LABELS, HUMAN)
        torch.testing.assert_close(half.saliency_loss, exact.saliency_loss, rtol=0.05, atol=0.01)


def test_a_dataclass_output_is_off_the_graph_in_evaluation():
    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor

    class Wrapped(Net):
        def forward(self, x):
            return Output(super().forward(x))

    net = Wrapped()
    for part in (CAM(), GradCAM(), InputGradient()):
        part(net, IMAGES, LABELS).saliency.sum().backward()
        with torch.no_grad():
            assert not part(net, IMAGES, LABELS).output.logits.requires_grad


def test_ignored_targets_and_weights():
    targets = torch.tensor([0, 1, -100, -100])
    guided = sl.SaliencyGuidedLoss(plain_net(), "cam")
    plain = guided(IMAGES, targets, None).task_loss
    weighted = guided(IMAGES, targets, None, sample_weight=torch.ones(4)).task_loss
    torch.testing.assert_close(weighted, plain)


class CutTanh(torch.autograd.Function):
    """A function as extensions write them: right forward, right backward, nothing behind the backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.from_numpy((grad.detach() * (1 - x.tanh() ** 2)).detach().numpy().copy())


class Cut(nn.Module):
    """Applies it."""

    def forward(self, x):
        return CutTanh.apply(x)


def test_a_function_without_a_double_backward_of_its_own():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), Cut(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    for part in (GradCAM(layer="0"), InputGradient()):
        with pytest.raises(RuntimeError, match=r"backward pass of CutTanhBackward, .* not differentiable itself"):
            sl.SaliencyGuidedLoss(net, part)(IMAGES, LABELS, HUMAN)
    for part in (CAM(), GradCAM(layer="2")):
        guided = sl.SaliencyGuidedLoss(net.double(), part, "correlation")
        inputs = IMAGES.double(), LABELS, HUMAN.double()
        check_gradients(lambda guided=guided, inputs=inputs: guided(*inputs).loss, dict(net.named_parameters()))
    with torch.no_grad():
        InputGradient()(net, IMAGES.double(), LABELS)


def test_an_obstacle_beside_the_way_is_none():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.q, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(4, 4), nn.Linear(10, 3)

        def forward(self, image, other):
            tokens = self.q(other).unsqueeze(1)
            attended = F.scaled_dot_product_attention(tokens, tokens, tokens).squeeze(1).mean(1)
            return self.fc(torch.cat([F.silu(self.conv(image)).mean((2, 3)), attended], 1))

    other = torch.randn(4, 5, 4)
    for part in (InputGradient(input="image"), GradCAM(layer="conv")):
        out = sl.SaliencyGuidedLoss(Beside(), part)({"image": IMAGES, "other": other}, LABELS, HUMAN)
        out.loss.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_blind_layer_in_mixed_precision(dtype):
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    with torch.autocast("cpu", dtype=dtype), pytest.raises(ValueError, match="vanishes in every channel"):
        GradCAM(layer="0")(net, IMAGES, LABELS)


def test_soft_labels_and_weights():
    soft = torch.rand(4, 3).softmax(1)
    guided = sl.SaliencyGuidedLoss(plain_net(), "cam")
    plain, weighted = (guided(IMAGES, soft, HUMAN, sample_weight=weight).task_loss for weight in (None, torch.ones(4)))
    torch.testing.assert_close(weighted, plain)


def test_ignored_targets_have_no_class_and_hence_no_map():
    net = plain_net()
    targets = torch.tensor([0, -100, 1, -100])
    for reduction in ("mean", "none"):
        guided = sl.SaliencyGuidedLoss(net, "cam", reduction=reduction)
        out = guided(IMAGES, targets, HUMAN)
        marked = guided(IMAGES, LABELS, HUMAN, classes=targets.clamp_min(0), annotated=targets >= 0)
        torch.testing.assert_close(out.saliency_loss, marked.saliency_loss)


def test_many_classes_cost_only_the_explained_one():
    """The classes that nobody asked for are not applied to the positions."""
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5000))
    largest = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            largest.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    images = torch.randn(2, 3, 34, 34)
    with torch.no_grad(), Largest():
        CAM()(net, images, torch.tensor([3, 4999]))
    assert max(largest) <= 5000 * 32


def test_gradients_of_the_first_and_later_calls_are_the_same():
    for part in (CAM(), GradCAM(), GradCAM(layer="conv"), InputGradient()):
        net = Net().double()
        guided = sl.SaliencyGuidedLoss(net, part, "correlation")
        inputs = IMAGES.double(), LABELS, HUMAN.double()
        first, later = (torch.autograd.grad(guided(*inputs).loss, list(net.parameters())) for _ in range(2))
        for a, b in zip(first, later, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        check_gradients(lambda guided=guided, inputs=inputs: guided(*inputs).loss, dict(net.named_parameters()))


class Sized(nn.LayerNorm):
    """A norm over channels that are first, as ConvNeXt has it."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_a_channels_first_norm_with_as_many_channels_as_columns():
    net = nn.Sequential(nn.Conv2d(3, 7, 3), Sized(7), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 3))
    first = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(294, 3))
    for layer in ("0", "1", "2"):
        told = GradCAM(layer=layer, reshape=lambda t: t)(net, IMAGES, LABELS).saliency
        torch.testing.assert_close(GradCAM(layer=layer)(net, IMAGES, LABELS).saliency, told)
    assert GradCAM(layer="1")(first, IMAGES, LABELS).saliency.shape == (4, 7, 7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_show(value):
    grad = torch.randn(2, 3, 4, 4)
    grad[0, 1, 2, 2] = value
    weights = mean_gradients(grad.flatten(-2), torch.float32)
    assert not weights[0, 1].isfinite()
    assert weights[1].isfinite().all()


@pytest.mark.parametrize("late", [lambda p: 3 * p, lambda p: 1.15 * p, lambda p: p * (torch.arange(6) < 3)])
def test_a_scale_or_mask_put_in_later(late):
    net = Net()
    net.between = lambda pooled, features: late(pooled) if net.late else pooled
    net.late = False
    CAM()(net, IMAGES, LABELS)
    net.late = True
    with pytest.raises(ValueError, match="not the mean of a feature map"):
        CAM()(net, IMAGES, LABELS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.002, 0.2, 0.5, 0.9])
def test_dropout_on_sparse_features_is_no_reason_to_refuse(dtype, p):
    images = torch.zeros(4, 3, 28, 28)
    images[:, :, 8:10, 6:14] = 1.0
    for seed in range(8):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(p),
            nn.Linear(16, 2),
        )
        for _ in range(4):
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                CAM()(net, images, torch.tensor([0, 1, 1, 0]))


def test_a_window_that_misses_positions_in_low_precision():
    accepted = 0
    for seed in range(20):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(16, 4))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            try:
                CAM()(net, torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3]))
            except ValueError:
                continue
        accepted += 1
    assert accepted == 0


def test_averaged_models():
    net = plain_net()
    average = torch.optim.swa_utils.AveragedModel(net).eval()
    for part in (CAM(), GradCAM(layer="3")):
        guided = sl.SaliencyGuidedLoss(net, part)
        torch.testing.assert_close(guided.explain(IMAGES, LABELS, model=average), guided.explain(IMAGES, LABELS))


def test_a_spectral_norm_takes_one_step_per_call():
    heads = [nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)) for _ in range(20)]
    for head in heads:
        net, plain = Net(head=head), copy.deepcopy(Net(head=head))
        plain.load_state_dict(net.state_dict())
        for _ in range(3):
            CAM()(net, IMAGES, LABELS)
            plain(IMAGES)
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(net.state_dict()[key], value)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.Dropout(0.1), nn.ZeroPad2d(1)])
def test_layers_behind_functions(act):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(3, 6, 3), act, nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(F.silu(self.act(F.max_pool2d(self.conv(x), 2))).amax((2, 3)))

    assert GradCAM(layer="act")(Model(), IMAGES, LABELS).saliency.ndim == 3
