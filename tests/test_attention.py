"""Maps of attention: what is captured is what the model computes, in every way in which transformers attend."""

import re

import pytest
import timm
import torch
import torchvision
import transformers
from conftest import ATTENTION, extractor
from models import Attention, First, batch, token_net
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

import saliency_losses as sl
from saliency_losses.extractors import AttentionRelevance, AttentionRollout, LeGrad
from saliency_losses.extractors.attention_watch import AttentionWatch
from saliency_losses.testing import check_gradients

each = pytest.mark.parametrize("name", ATTENTION)
LABELS = torch.tensor([0, 2, 1, 2])


def tokens(size=6, width=8, heads=2):
    return [torch.randn(3, heads, size, width // heads, dtype=torch.float64) for _ in range(3)]


def kept(function):
    """What the function gives by itself and watched, with the same random state, and what was seen."""
    torch.manual_seed(1)
    expected = function()
    torch.manual_seed(1)
    with AttentionWatch() as watch:
        result = function()
    return expected, result, watch.attentions


SEEN = torch.rand(6, 6) > 0.3
SEEN[:, 0] = True
NOTHING = SEEN.clone()
NOTHING[2] = False


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": SEEN},
        {"attn_mask": NOTHING},
        {"attn_mask": torch.randn(1, 2, 6, 6, dtype=torch.float64)},
        {"dropout_p": 0.4},
    ],
)
def test_fused_attention_is_restated(options):
    q, k, v = tokens()
    expected, result, seen = kept(lambda: F.scaled_dot_product_attention(q, k, v, **options))
    torch.testing.assert_close(result, expected)
    (attention,) = seen
    torch.testing.assert_close(attention.used @ v, expected)
    rows = torch.ones(3, 2, 6, dtype=torch.float64)
    if options.get("attn_mask") is NOTHING:
        rows[:, :, 2] = 0.0
    torch.testing.assert_close(attention.probabilities.sum(-1), rows)


def test_a_query_that_may_attend_to_nothing_has_a_finite_gradient():
    q, k, v = (t.requires_grad_() for t in tokens())
    with AttentionWatch():
        result = F.scaled_dot_product_attention(q, k, v, attn_mask=NOTHING)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(result.square().sum(), [q, k, v]))


def test_grouped_queries():
    q, (k, v, _) = tokens(heads=4)[0], [t[..., :2] for t in tokens()]
    expected, result, seen = kept(lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    torch.testing.assert_close(result, expected)
    assert seen[0].used.shape == (3, 4, 6, 6)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ({}, {"need_weights": False}),
        ({}, {"need_weights": True}),
        ({}, {"average_attn_weights": False}),
        ({}, {"key_padding_mask": torch.arange(6).expand(3, -1) > 3}),
        ({}, {"attn_mask": torch.randn(6, 6), "need_weights": False}),
        ({}, {"attn_mask": ~torch.ones(6, 6).tril().bool(), "is_causal": True, "need_weights": False}),
        ({"batch_first": False}, {"need_weights": False}),
        ({"dropout": 0.3}, {"need_weights": False}),
        ({"add_bias_kv": True, "add_zero_attn": True}, {}),
        ({"kdim": 8, "vdim": 8, "bias": False}, {}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_attention_with_heads_is_restated(module, call, training):
    attention = nn.MultiheadAttention(8, 2, **{"batch_first": True, **module}).train(training)
    x = torch.randn(3, 6, 8) if attention.batch_first else torch.randn(6, 3, 8)
    for context in (torch.enable_grad, torch.no_grad):  # without gradients, evaluation takes PyTorch's fast path
        with context():
            expected, result, seen = kept(lambda: attention(x, x, x, **call))
        torch.testing.assert_close(result, expected)
        assert len(seen) == 1
        assert seen[0].used.shape[:3] == (3, 2, 6)


def test_attention_with_heads_of_one_sample_without_a_batch():
    attention, x = nn.MultiheadAttention(8, 2), torch.randn(6, 8)
    expected, result, _ = kept(lambda: attention(x, x, x))
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    "attend",
    [
        lambda s, v: s.softmax(-1) @ v,
        lambda s, v: torch.matmul(torch.softmax(s, dim=3), v),
        lambda s, v: F.softmax(s, dim=-1, dtype=torch.float32).to(s.dtype) @ v,
        lambda s, v: F.dropout(nn.Softmax(-1)(s), 0.3) @ v,
        lambda s, v: torch.einsum("bhij,bhjd->bhid", s.softmax(-1), v),
        lambda s, v: torch.bmm(s[:, 0].softmax(-1), v[:, 0]),
    ],
)
def test_attention_in_plain_operations_is_seen(attend):
    q, k, v = (t.requires_grad_() for t in tokens())
    expected, result, seen = kept(lambda: attend(q @ k.transpose(-2, -1), v))
    assert torch.equal(result, expected)
    (attention,) = seen
    assert torch.autograd.grad(result.sum(), attention.used)[0].any()
    assert torch.autograd.grad(attention.probabilities.square().sum(), q)[0].any()


def test_other_softmaxes_are_not_attention():
    q, k, _ = tokens()
    with AttentionWatch() as watch:
        (q @ k.transpose(-2, -1)).softmax(1) @ k
        q.sum((1, 2)).softmax(-1) @ k[0, 0, :2].T
        q.softmax(-1).sum()
    assert not watch.attentions


def test_the_model_goes_on_as_before_behind_the_call():
    net, images = token_net(), batch()[0]
    expected = net(images)
    AttentionRollout()(net, images, None)
    assert torch.equal(net(images), expected)


class Square(nn.Module):
    """What a network of square images makes of those that are not."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x[..., :24])


def hugging_face(kind, attention="sdpa"):
    config = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
    config |= {"image_size": 24, "attn_implementation": attention}
    config |= {"mlp_ratio": 2} if kind.startswith("Dino") else {"intermediate_size": 16}
    if kind == "CLIP":
        return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(projection_dim=3, **config))
    config = getattr(transformers, f"{kind}Config")(num_labels=3, **config)
    return getattr(transformers, f"{kind}ForImageClassification")(config)


class Logits(nn.Module):
    """The embedding in CLIP's output, alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).image_embeds


def of_timm(name, *, fused=True, **options):
    sizes = {"img_size": (24, 32), "patch_size": 8, "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": 3}
    before = timm.layers.use_fused_attn()
    timm.layers.set_fused_attn(fused)
    try:
        return timm.create_model(name, **{**sizes, **options})
    finally:
        timm.layers.set_fused_attn(bool(before))


def of_torchvision(dropout=0.0):
    return torchvision.models.VisionTransformer(
        24, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3, attention_dropout=dropout
    )


TRANSFORMERS = {
    "torchvision": lambda: Square(of_torchvision()),
    "torchvision, dropout": lambda: Square(of_torchvision(0.2)),
    "timm ViT": lambda: of_timm("vit_tiny_patch16_224", attn_drop_rate=0.2),
    "timm ViT, eager": lambda: of_timm("vit_tiny_patch16_224", fused=False, attn_drop_rate=0.2),
    "timm ViT, normalised queries and keys": lambda: of_timm("vit_tiny_patch16_224", qk_norm=True),
    "timm ViT, patches averaged": lambda: of_timm("vit_tiny_patch16_224", global_pool="avg"),
    "timm ViT, no class token": lambda: of_timm("vit_tiny_patch16_224", global_pool="avg", class_token=False),
    "timm DeiT": lambda: of_timm("deit_tiny_distilled_patch16_224"),
    "timm BEiT": lambda: of_timm("beit_base_patch16_224"),
    "timm EVA-02": lambda: of_timm("eva02_tiny_patch14_224"),
    "timm DINOv2 with registers": lambda: of_timm("vit_small_patch14_reg4_dinov2"),
    "Hugging Face ViT": lambda: Square(hugging_face("ViT")),
    "Hugging Face DINOv2": lambda: Square(hugging_face("Dinov2")),
    "Hugging Face DINOv2 with registers": lambda: Square(hugging_face("Dinov2WithRegisters")),
    "Hugging Face CLIP": lambda: Square(Logits(hugging_face("CLIP"))),
}


def made(name):
    """The network, with weights that make attention differ between tokens."""
    torch.manual_seed(2)
    net = TRANSFORMERS[name]()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    return net.double()


@pytest.mark.parametrize("model", TRANSFORMERS)
@each
def test_transformers(model, name):
    """Shape, the model's own output, and the gradient of the map for every fourth parameter, in train mode."""
    net = made(model)
    images = torch.rand(4, 3, 24, 32, dtype=torch.float64)
    part = extractor(name)
    with torch.no_grad():
        output, saliency = part(net.eval(), images, LABELS)
        expected = net(images)
    for got, plain in zip(pytree.tree_leaves(output), pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(got, plain)
    assert saliency.shape == (4, 3, 3 if isinstance(net, Square) else 4)
    probe = torch.randn(saliency.shape, dtype=torch.float64)
    net.train()

    def loss():
        torch.manual_seed(3)
        return (part(net, images, LABELS).saliency * probe).sum()

    check_gradients(loss, dict(list(net.named_parameters())[::4]), tolerance=1e-4)


@pytest.mark.parametrize("kind", ["ViT", "Dinov2WithRegisters", "Beit"])
@each
def test_eager_and_fused_attention_of_hugging_face_agree(kind, name):
    images, maps = torch.rand(4, 3, 24, 24), []
    fused, eager = hugging_face(kind), hugging_face(kind, "eager")
    for parameter in fused.parameters():
        nn.init.normal_(parameter, std=0.4)
    eager.load_state_dict(fused.state_dict())
    for net in (fused.eval(), eager.eval()):
        saliency = extractor(name)(net, images, LABELS).saliency
        grads = torch.autograd.grad(saliency.square().sum(), list(net.parameters()), allow_unused=True)
        maps.append([saliency.detach(), *(grad for grad in grads if grad is not None)])
    for a, b in zip(*maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()))


def classify(model, tokens):
    return model.heads(model.encoder.ln(tokens.mean(1)))


@pytest.mark.peers
def test_le_grad_as_published_is_that_of_torchcam():
    import torchcam.methods

    net = made("torchvision").net.eval()
    images, label = torch.rand(4, 3, 24, 24, dtype=torch.float64), 1
    ours = LeGrad(blocks="encoder.layers", classify=classify)
    last = LeGrad(blocks="encoder.layers", classify=classify, start=-1)
    for part, layers in ((ours, net.encoder.layers), (last, net.encoder.layers[-1:])):
        with torchcam.methods.LeGrad(net, list(layers)) as theirs:
            (expected,) = theirs(label, net(images), normalized=False)
        saliency = part(net, images, torch.full((4,), label)).saliency
        torch.testing.assert_close(saliency.detach(), expected, rtol=1e-9, atol=1e-12)


def test_le_grad_as_published_can_be_trained_through():
    net = made("torchvision").net
    images = torch.rand(4, 3, 24, 24, dtype=torch.float64)
    ours = LeGrad(blocks="encoder.layers", classify=classify)
    probe = torch.randn(4, 3, 3, dtype=torch.float64)
    check_gradients(lambda: (ours(net, images, LABELS).saliency * probe).sum(), dict(net.named_parameters()))


class MeanOfPatches(nn.Module):
    """Leaves the class token out."""

    def forward(self, x):
        return x[:, 1:].mean(1)


def test_the_row_that_is_read():
    """Networks differ in whether the class token is read at all; by default what is read is found out."""
    images = batch(dtype=torch.float64)[0]
    for pool, read in ((First(), "class"), (MeanOfPatches(), "mean")):
        for part in (AttentionRollout, AttentionRelevance):
            net = token_net().double()
            net[4] = pool
            found = [part()(net, images, LABELS).saliency for _ in range(2)]
            maps = {query: part(query=query)(net, images, LABELS).saliency for query in ("class", "mean")}
            assert not torch.allclose(maps["class"], maps["mean"])
            assert all(torch.equal(saliency, maps[read]) for saliency in found)


def test_a_head_of_zeros_is_no_evidence_of_what_is_read():
    net, images = token_net(), batch()[0]
    weight = net[5].weight.detach().clone()
    nn.init.zeros_(net[5].weight)
    first = AttentionRollout()(net, images, None).saliency
    with torch.no_grad():
        net[5].weight.copy_(weight)
    assert torch.equal(first, AttentionRollout()(net, images, None).saliency)
    assert torch.equal(first, AttentionRollout(query="class")(net, images, None).saliency)


def test_rollout_options():
    images = batch(dtype=torch.float64)[0]
    net = token_net().double().eval()
    with AttentionWatch() as watch:
        net(images)
    first, second = (attention.probabilities for attention in watch.attentions)
    last = AttentionRollout(start=-1, residual=0.0)(net, images, None).saliency
    torch.testing.assert_close(last.flatten(1), second.mean(1)[:, 0, 1:])
    for fusion, fuse in (("max", torch.amax), ("min", torch.amin)):
        a, b = (0.75 * fuse(t, 1) + 0.25 * torch.eye(10) for t in (first, second))
        expected = (b / b.sum(2, keepdim=True)) @ (a / a.sum(2, keepdim=True))
        saliency = AttentionRollout(fusion=fusion, residual=0.25)(net, images, None).saliency
        torch.testing.assert_close(saliency.flatten(1), expected[:, 0, 1:])


def test_start_of_gradient_maps():
    images, labels, _ = batch(dtype=torch.float64)
    net = token_net().double().eval()
    whole, last = (LeGrad(start=start)(net, images, labels).saliency for start in (0, 1))
    assert (2 * whole - last).min() >= 0
    with AttentionWatch() as watch:
        logits = net(images)
    used = watch.attentions[-1].used
    (grad,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), used)
    torch.testing.assert_close(last.flatten(1), grad.relu().mean((1, 2))[:, 1:])
    relevance = AttentionRelevance(start=-1)(net, images, labels).saliency
    torch.testing.assert_close(relevance.flatten(1), (grad * used).relu().mean(1)[:, 0, 1:])


def test_rollout_is_of_probabilities_before_dropout():
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True), nn.Flatten())
    images = torch.rand(4, 9, 8)
    rollouts = [AttentionRollout(grid=(3, 3))(net.train(mode), images, None).saliency for mode in (True, False)]
    torch.testing.assert_close(*rollouts)


def test_one_head_without_an_axis_of_heads():
    class OneHead(Attention):
        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            q, k, v = self.qkv(tokens).chunk(3, -1)
            return self.head((tokens + F.scaled_dot_product_attention(q, k, v))[:, 0])

    images, labels, _ = batch()
    with_axis, without = Attention(), OneHead()
    without.load_state_dict(with_axis.state_dict())
    for name in ATTENTION:
        a, b = (extractor(name)(net, images, labels).saliency for net in (with_axis, without))
        torch.testing.assert_close(a, b)
    classes = torch.stack([labels, 2 - labels], 1)
    for name in ("attention_relevance", "le_grad"):
        assert extractor(name)(without, images, classes).saliency.shape == (4, 2, 3, 3)


@each
def test_frozen_lower_blocks(name):
    net = token_net().double()
    net[:2].requires_grad_(False)
    images, labels, human = batch(dtype=torch.float64)
    guided = sl.SaliencyGuidedLoss(net, name, "correlation")
    check_gradients(
        lambda: guided(images, labels, human).loss,
        {key: p for key, p in net.named_parameters() if p.requires_grad},
    )


@each
def test_a_frozen_model_cannot_be_guided(name):
    net, (images, labels, human) = token_net().requires_grad_(False), batch()
    with pytest.raises(RuntimeError, match=r"reaches no trainable parameter.*Unfreeze parameters"):
        sl.SaliencyGuidedLoss(net, name)(images, labels, human)


class Checkpointed(nn.Module):
    """Blocks are run again in the backward pass."""

    def __init__(self, net, reentrant):
        super().__init__()
        self.net, self.reentrant = net, reentrant

    def forward(self, x):
        x = self.net[0](x)
        for block in self.net[1:3]:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return self.net[3:](x)


@each
def test_checkpointing(name):
    images, labels, human = batch()
    net = token_net(fused=False)
    grads = []
    for model in (net, Checkpointed(net, False)):
        loss = sl.SaliencyGuidedLoss(model, name)(images, labels, human).loss
        grads.append(torch.autograd.grad(loss, list(net.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(RuntimeError, match=r"checkpointing runs fused attention again.*attn_implementation='eager'"):
        sl.SaliencyGuidedLoss(Checkpointed(token_net(), False), name)(images, labels, human)
    with pytest.raises(ValueError, match=r"runs without gradients.*use_reentrant=False"):
        sl.SaliencyGuidedLoss(Checkpointed(token_net(), True), name)(images, labels, human)


class Tokens(nn.Module):
    """Attends to tokens that no convolution made, in the way that it is given."""

    def __init__(self, attend, size=9):
        super().__init__()
        self.linear, self.attend, self.head, self.size = nn.Linear(27, 8), attend, nn.Linear(8, 3), size

    def forward(self, x):
        x = self.linear(x.flatten(1)[:, : 27 * self.size].unflatten(1, (self.size, 27)))
        return self.head(self.attend(x).mean(1))


def windows(x):
    x = x.unflatten(1, (3, 3)).flatten(0, 1)
    return F.scaled_dot_product_attention(x, x, x).unflatten(0, (-1, 3)).flatten(1, 2)


def compiled():
    net = token_net()
    net[2] = torch.compile(net[2], backend="eager")
    return net


def plain(x):
    return F.scaled_dot_product_attention(x, x, x)


class Pruned(nn.Module):
    """Three patches are dropped behind the convolution that made nine."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, stride=3), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(plain(self.conv(x).flatten(2).transpose(1, 2)[:, :6]).mean(1))


BAD_CALLS = {
    "no attention": (lambda: Tokens(lambda x: x), {}, "No attention was seen.*attn_implementation='sdpa' or 'eager'"),
    "windows": (lambda: Tokens(windows), {}, r"B=4, but these were seen: \[\(12, 3, 3\)\].*extractor='grad_cam'"),
    "cross-attention": (
        lambda: Tokens(lambda x: F.scaled_dot_product_attention(x[:, :1], x, x)),
        {},
        r"self-attention over all tokens.*seen: \[\(4, 1, 9\)\]. Windows, cross-attention and attention pooling",
    ),
    "attention pooling": (
        lambda: Tokens(lambda x: F.scaled_dot_product_attention(x[:, :1], plain(x), x)),
        {},
        r"seen: \[\(4, 1, 9\), \(4, 9, 9\)\]",
    ),
    "no convolution": (lambda: Tokens(plain), {}, r"where 9 tokens are in the image.*grid=\(height, width\)"),
    "dropped patches": (Pruned, {}, r"where 6 tokens are in the image.*layer 0 they could not be.*dropped or merged"),
    "a grid that does not fit": (lambda: Tokens(plain), {"grid": (4, 3)}, r"9 tokens are not 12 patches \(4, 3\)"),
    "start": (token_net, {"start": 2}, "start=2 names an attention layer, but the model has 2, from 0"),
    "compiled": (compiled, {}, "inside a compiled module cannot be seen.*before torch.compile"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
@each
def test_bad_models(case, name):
    make, options, message = BAD_CALLS[case]
    images, labels, human = batch()
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        sl.SaliencyGuidedLoss(make(), extractor(name, **options))(images, labels, human)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionRollout(fusion="sum"), "fusion must be one of mean, max, min, got 'sum'"),
        (lambda: AttentionRollout(residual=1.0), r"residual must lie in \[0, 1\), got 1.0"),
        (lambda: AttentionRollout(query="cls"), "query must be 'class', 'mean' or None, got 'cls'"),
        (lambda: AttentionRelevance(grid=7), r"grid must be the number of patches along each axis.*got 7"),
        (lambda: LeGrad(grid=(3, 0)), r"grid must be the number of patches.*got \(3, 0\)"),
        (lambda: LeGrad(blocks="encoder.layers"), "blocks= and classify= together"),
        (
            lambda: AttentionRelevance(query="class", grid=(3, 3))(Tokens(plain), *batch()[:2]),
            "query='class' needs a token that is no patch",
        ),
        (
            lambda: AttentionRollout()(token_net(), batch()[0], torch.zeros(4, 2).long()),
            r"one map per sample, the same for every class, so classes must be \(B,\)",
        ),
        (
            lambda: LeGrad(blocks="1", classify=lambda m, t: t)(token_net(), *batch()[:2]),
            "'1' has 6 blocks, but the model has 2 attention layers",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_start_must_be_a_number():
    with pytest.raises(TypeError, match="start must be the number of the first attention layer that counts, got '1'"):
        LeGrad(start="1")
