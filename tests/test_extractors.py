"""Every registered extractor: the contract, an oracle, and what real models and loops do to it."""

import copy
import gc
import pickle

import numpy as np
import oracles
import pytest
import torch
from conftest import extractor, needs_layer, network
from models import Attention, InplaceNet, TwoInputs, batch, plain_net
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import saliency_losses as sl
from saliency_losses.extractors import CAM, GradCAM, InputGradient
from saliency_losses.testing import check_extractor, check_gradients, smooth_network

each = pytest.mark.parametrize("name", sl.list_extractors())


@each
def test_contract(name):
    check_extractor(extractor(name), network(name))


@each
def test_equals_its_oracle(name):
    images, labels, _ = batch(3, dtype=torch.float64)
    net = network(name).eval()
    torch.manual_seed(2)
    maps = extractor(name)(net, images, labels).saliency.detach()
    torch.manual_seed(2)
    if name in oracles.DRAWN:
        expected = oracles.DRAWN[name](net, images, labels)
    else:
        pairs = zip(images, labels, strict=True)
        expected = np.stack([oracles.EXTRACTORS[name](net, image, int(label)) for image, label in pairs])
    torch.testing.assert_close(maps, torch.from_numpy(expected), rtol=1e-6, atol=1e-9)


def test_contract_catches_a_map_cut_off_the_graph():
    class Cut(sl.SaliencyExtractor):
        order = 1

        def forward(self, model, inputs, classes, *, run=None):
            output, saliency = CAM()(model, inputs, classes)
            return sl.Explanation(output, saliency.detach() + 0 * saliency)

    with pytest.raises(AssertionError, match=r"The gradient of .* finite differences give"):
        check_extractor(Cut())


def test_contract_catches_half_a_gradient():
    """The bug of a channel weight taken for a constant, which requires_grad does not show."""

    class Half(sl.SaliencyExtractor):
        order = 2

        def forward(self, model, inputs, classes, *, run=None):
            kept = []
            handle = model[5].register_forward_hook(lambda module, args, output: kept.append(output))
            output = model(inputs)
            handle.remove()
            (features,) = kept
            (grad,) = torch.autograd.grad(output.gather(1, classes[:, None]).sum(), features, retain_graph=True)
            return sl.Explanation(output, (grad.mean((2, 3), keepdim=True) * features).sum(1))

    with pytest.raises(AssertionError, match=r"The gradient of .* finite differences give"):
        check_extractor(Half())


def test_grad_cam_of_the_pooled_layer_is_cam_by_positions():
    for net in (smooth_network().eval(), InplaceNet().double().eval()):
        images, labels, _ = batch(dtype=torch.float64)
        cam, grad_cam = (part(net, images, labels).saliency for part in (CAM(), GradCAM()))
        torch.testing.assert_close(grad_cam * grad_cam[0].numel(), cam, rtol=1e-10, atol=1e-12)


def test_cam_mean_plus_bias_is_the_logit():
    images, labels, _ = batch(dtype=torch.float64)
    for net in (smooth_network(), InplaceNet().double()):
        net.train()
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        output, saliency = CAM()(net, images, labels)
        bias = [m for m in net.modules() if isinstance(m, nn.Linear)][-1].bias
        torch.testing.assert_close(
            saliency.mean((1, 2)) + bias[labels], output.gather(1, labels[:, None])[:, 0], rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.mean([-2, -1]),
        lambda x: x.mean(3).mean(2),
        lambda x: x.mean((2, 3), keepdim=True).flatten(1),
        lambda x: x.flatten(2).mean(2),
        lambda x: x.view(len(x), x.shape[1], -1).mean(dim=-1),
        lambda x: torch.mean(x, dim=(2, 3)),
        lambda x: F.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1),
        lambda x: F.avg_pool2d(x, x.shape[2:]).view(len(x), -1),
        lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
        lambda x: F.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1), 0.5, training=True),
    ],
)
def test_cam_finds_functional_pooling(pool):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.fc = nn.Linear(8, 3)

        def features(self, x):
            return F.gelu(self.conv(x)) * 1.5

        def forward(self, x):
            return self.fc(pool(self.features(x)))

    net = Net()
    images, labels, _ = batch()
    expected = torch.einsum("bchw,bc->bhw", net.features(images), net.fc.weight[labels])
    for _ in range(2):  # the first call looks at the whole model, the second at one layer
        torch.testing.assert_close(CAM()(net, images, labels).saliency, expected)


def test_cam_of_a_convolution_as_classifier():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 3, 1), nn.Flatten())
    images, labels, _ = batch()
    expected = torch.einsum("bchw,bc->bhw", net[:2](images), net[3].weight[labels, :, 0, 0])
    torch.testing.assert_close(CAM()(net, images, labels).saliency, expected)


def test_cam_of_tokens_in_channels_last():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 3, stride=3)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            x = self.norm(self.patch(x).permute(0, 2, 3, 1))
            return self.head(x.mean((1, 2)))

    net = Tokens()
    images, labels, _ = batch()
    features = net.norm(net.patch(images).permute(0, 2, 3, 1))
    expected = torch.einsum("bhwc,bc->bhw", features, net.head.weight[labels])
    for part in (CAM(), GradCAM(), GradCAM(layer="norm")):
        saliency = part(net, images, labels).saliency
        scale = 1 if isinstance(part, CAM) else 9
        torch.testing.assert_close(saliency * scale, expected)


@pytest.mark.parametrize("name", ["cam", "grad_cam", "input_gradient", "captum_saliency"])
@pytest.mark.parametrize("squeeze", [False, True])
def test_one_logit_speaks_for_both_classes(name, squeeze):
    net = nn.Sequential(*plain_net(1), *([nn.Flatten(0)] if squeeze else []))
    images = batch()[0]
    options = {"reduce": "mean"} if name in ("input_gradient", "captum_saliency") else {}
    one, zero = (extractor(name, **options)(net, images, torch.full((4,), label)).saliency for label in (1, 0))
    torch.testing.assert_close(one, -zero)
    half = extractor(name, **options)(net, images, torch.tensor([1.0, 0.0, 0.5, 1.0])).saliency
    torch.testing.assert_close(half, torch.stack([one[0], zero[1], 0 * one[2], one[3]]))


@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_soft_labels_mix_the_maps(name):
    net, images = plain_net(), batch()[0]
    weights = torch.tensor([[0.7, 0.3, 0.0]]).expand(4, 3)
    first, second = (extractor(name)(net, images, torch.full((4,), k)).saliency for k in (0, 1))
    torch.testing.assert_close(extractor(name)(net, images, weights).saliency, 0.7 * first + 0.3 * second)


@pytest.mark.parametrize("name", ["cam", "grad_cam", "input_gradient", "attention_relevance", "le_grad"])
def test_several_classes_per_image_equal_one_at_a_time(name):
    net, images = network(name, plain_net), batch()[0]
    classes = torch.tensor([[0, 1], [2, 1], [1, 1], [2, 0]])
    together = extractor(name)(net, images, classes).saliency
    apart = torch.stack([extractor(name)(net, images, classes[:, k]).saliency for k in (0, 1)], 1)
    torch.testing.assert_close(together, apart)


def test_scores():
    net, images = plain_net(), batch()[0]
    logits = net(images)
    predicted = logits.argmax(1)
    maps = {k: CAM(score=k)(net, images, None).saliency for k in (0, 1, 2)}
    torch.testing.assert_close(
        CAM(score="predicted")(net, images, 0 * predicted).saliency, CAM()(net, images, predicted).saliency
    )
    torch.testing.assert_close(CAM()(net, images, None).saliency, CAM()(net, images, predicted).saliency)
    labels = torch.tensor([0, 1, 2, 0])
    rival = logits.scatter(1, labels[:, None], float("-inf")).argmax(1)
    expected = torch.stack(
        [maps[int(t)][i] - maps[int(r)][i] for i, (t, r) in enumerate(zip(labels, rival, strict=True))]
    )
    torch.testing.assert_close(CAM(score="contrast")(net, images, labels).saliency, expected)
    doubled = CAM(score=lambda out, y: 2 * out.gather(1, y[:, None])[:, 0])(net, images, labels).saliency
    torch.testing.assert_close(doubled, 2 * CAM()(net, images, labels).saliency)


@each
def test_dict_output_and_two_inputs(name):
    net, (images, labels, _) = network(name, TwoInputs), batch(classes=2)
    options = {"layer": "stem"} if needs_layer(name) else {}
    options |= {"input": "image"} if hasattr(extractor(name), "input") else {}
    part = extractor(name, **options)
    inputs = {"image": images, "age": torch.rand(4, 1)}
    output, saliency = part(net, inputs, labels)
    assert output.keys() == {"logits", "features"}
    assert len(saliency) == 4
    assert saliency.requires_grad


@each
def test_a_model_that_raises_keeps_no_hook(name):
    class Raises(nn.Module):
        def forward(self, x):
            raise KeyError("broken on purpose")

    net = network(name, plain_net)
    part = extractor(name)
    part(net, *batch()[:2])
    net.append(Raises())
    with pytest.raises(KeyError, match="broken on purpose"):
        part(net, *batch()[:2])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@each
def test_evaluation_of_a_frozen_model(name):
    net = network(name, plain_net).requires_grad_(False)
    images, labels, _ = batch()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            torch.manual_seed(0)
            saliency = extractor(name)(net, images.clone(), labels.clone()).saliency
        torch.manual_seed(0)
        torch.testing.assert_close(saliency, extractor(name)(plain_copy(net), images, labels).saliency)


def plain_copy(net):
    return copy.deepcopy(net).requires_grad_(True)


def test_frozen_backbone_with_a_trainable_head_is_exact():
    net = smooth_network()
    net[:6].requires_grad_(False)
    images, labels, human = batch(dtype=torch.float64)
    for part in (CAM(), GradCAM(), GradCAM(layer="2")):
        guided = sl.SaliencyGuidedLoss(net, part, "correlation")

        def loss(guided=guided):
            torch.manual_seed(1)
            return guided(images, labels, human).loss

        for _ in range(2):
            check_gradients(loss, {"head": net[9].weight})


def test_replacing_the_head_is_noticed():
    net = plain_net()
    images, labels, _ = batch()
    CAM()(net, images, labels)
    net[6] = nn.Sequential(nn.Linear(8, 4), nn.GELU(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"\(Linear, GELU, Linear\) is not one linear layer"):
        CAM()(net, images, labels)


def test_replacing_a_layer_is_noticed():
    """Where the channels are is found on the first call, and again when the layer is another one."""
    net = plain_net()
    images, labels, _ = batch()
    GradCAM(layer="2")(net, images, labels)

    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(6, 8, 3), nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(self.conv(x).permute(0, 2, 3, 1))

    class Back(nn.Module):
        def forward(self, x):
            return x.permute(0, 3, 1, 2)

    net[2], net[3] = ChannelsLast(), Back()
    assert GradCAM(layer="2")(net, images, labels).saliency.shape == (4, 5, 5)


def test_two_views_through_one_backbone():
    """The logits come from the first of two calls of the same modules."""

    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.pool, self.fc = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

        def forward(self, x):
            first, second = (self.pool(F.gelu(self.body(view))).flatten(1) for view in (x, x.flip(3)))
            return {"logits": self.fc(first), "distance": (first - second).norm(dim=1)}

    net = Siamese()
    images, labels, _ = batch()
    expected = torch.einsum("bchw,bc->bhw", F.gelu(net.body(images)), net.fc.weight[labels])
    for _ in range(2):
        torch.testing.assert_close(CAM()(net, images, labels).saliency, expected)
        torch.testing.assert_close(GradCAM()(net, images, labels).saliency * 49, expected)


def test_another_way_in_evaluation_is_another_map():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
            self.fc_a, self.fc_b = nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x):
            a, b = self.fc_a(self.a(x).mean((2, 3))), self.fc_b(self.b(x).mean((2, 3)))
            return {"aux": b, "logits": a} if self.training else b

    net = Net()
    images, labels, _ = batch()
    for _ in range(2):
        for mode, body, head in ((True, net.a, net.fc_a), (False, net.b, net.fc_b)):
            expected = torch.einsum("bchw,bc->bhw", body(images), head.weight[labels])
            torch.testing.assert_close(CAM()(net.train(mode), images, labels).saliency, expected)


@pytest.mark.parametrize(
    "reorder", [lambda x: x[torch.tensor([1, 0, 3, 2])], lambda x: x.flip(0), lambda x: x[:, range(8)]]
)
def test_a_pooled_vector_that_changes_places_is_not_followed(reorder):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(reorder(self.conv(x).mean((2, 3))))

    with pytest.raises(ValueError, match="CAM needs global average pooling"):
        CAM()(Net(), *batch()[:2])


def test_several_classifiers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc_a, self.fc_b = nn.Conv2d(3, 8, 3), nn.Linear(8, 3), nn.Linear(8, 5)

        def forward(self, x):
            x = self.conv(x).mean((2, 3))
            return {"a": self.fc_a(x), "b": self.fc_b(x)}

    net = Net()
    images, labels, _ = batch()
    with pytest.raises(ValueError, match=r"several classifiers: \['fc_a', 'fc_b'\]. Choose one: CAM\(head=...\)"):
        CAM()(net, images, labels)
    for name in ("a", "b"):
        weight = getattr(net, f"fc_{name}").weight
        expected = torch.einsum("bchw,bc->bhw", net.conv(images), weight[labels])
        torch.testing.assert_close(CAM(head=f"fc_{name}")(net, images, labels).saliency, expected)


def test_nothing_keeps_a_model_alive():
    import weakref

    net = plain_net()
    CAM()(net, *batch()[:2])
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_checkpointed_region():
    class Net(nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 3)
            self.reentrant = reentrant

        def forward(self, x):
            x = F.gelu(self.stem(x))
            if self.reentrant is None:
                return self.head(F.silu(self.body(x)).mean((2, 3)))
            return self.head(checkpoint(lambda t: F.silu(self.body(t)), x, use_reentrant=self.reentrant).mean((2, 3)))

    images, labels, human = batch()
    plain = Net(None)
    saved, broken = Net(False), Net(True)
    saved.load_state_dict(plain.state_dict())
    for part in (CAM(), GradCAM(layer="body"), GradCAM(layer="stem"), InputGradient()):
        grads = []
        for net in (plain, saved):
            loss = sl.SaliencyGuidedLoss(net, part, "mse")(images, labels, human).loss
            grads.append(torch.autograd.grad(loss, list(net.parameters()), allow_unused=True))
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="use_reentrant=False"):
        sl.SaliencyGuidedLoss(broken, GradCAM(layer="body"))(images, labels, human)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        sl.SaliencyGuidedLoss(broken, GradCAM(layer="stem"))(images, labels, human)


def test_fused_attention_that_the_model_insists_on_is_refused():
    class Fused(Attention):
        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
                tokens = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
            return self.head(tokens[:, 0, 0])

    images, labels, human = batch()
    guided = sl.SaliencyGuidedLoss(Fused(), GradCAM(layer="patch"), "mse")
    with pytest.raises(RuntimeError, match=r"sdpa_kernel\(torch.nn.attention.SDPBackend.MATH\)"):
        guided(images, labels, human)
    with torch.no_grad():
        guided(images, labels, human)


@each
def test_pickle_repr_and_deepcopy(name):
    part = extractor(name)
    assert repr(pickle.loads(pickle.dumps(part))) == repr(copy.deepcopy(part)) == repr(part)


def test_list_layers_changes_nothing():
    net = smooth_network().train()
    net[4].eval()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    layers = sl.list_layers(net, batch(dtype=torch.float64)[0])
    assert [layer.name for layer in layers] == ["0", "1", "2", "3", "4", "5"]
    assert layers[0].shape == (4, 4, 7, 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net] == [i != 4 for i in range(10)]
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_one_dimensional_and_three_dimensional_inputs():
    for conv, shape in ((nn.Conv1d, (9,)), (nn.Conv3d, (5, 6, 7))):
        dims = tuple(range(2, 2 + len(shape)))

        class Net(nn.Module):
            def __init__(self, conv=conv, dims=dims):
                super().__init__()
                self.conv, self.fc, self.dims = conv(3, 4, 3), nn.Linear(4, 3), dims

            def forward(self, x):
                return self.fc(F.gelu(self.conv(x)).mean(self.dims))

        images = torch.rand(2, 3, *shape)
        for part in (CAM(), GradCAM(), GradCAM(layer="conv"), InputGradient()):
            guided = sl.SaliencyGuidedLoss(Net(), part, "mse")
            out = guided(images, torch.tensor([0, 2]), torch.rand(2, *shape))
            assert out.model_saliency.ndim == 1 + len(shape)
            out.loss.backward()
