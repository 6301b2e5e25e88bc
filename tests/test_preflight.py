"""Preflight: each planted problem is found with its remedy, a healthy model is left in peace, and nothing changes."""

import random
import re

import pytest
import torch
import torch.distributed as dist
from conftest import ATTENTION, extractor, network
from models import InplaceNet, TwoInputs, batch, plain_net
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.checkpoint import checkpoint

import saliency_losses as sl
from saliency_losses.extractors import CAM, GradCAM, InputGradient

IMAGES, LABELS, HUMAN = batch(pixels=16)


@pytest.fixture(autouse=True, scope="module")
def _compiled_code_is_forgotten():
    """The compiler counts what it compiled in a process, and stops at some number."""
    yield
    torch.compiler.reset()


class Residual(nn.Module):
    """A small residual network as torchvision builds them."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(True)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(x + self.bn2(self.conv2(x)))
        return self.fc(self.avgpool(x).flatten(1))


class Block(nn.Module):
    """Self-attention and a multi-layer perceptron."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.mlp = nn.LayerNorm(8), nn.Linear(8, 24), nn.Sequential(nn.Linear(8, 8), nn.GELU())

    def forward(self, tokens):
        q, k, v = self.qkv(self.norm(tokens)).unsqueeze(1).chunk(3, -1)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return tokens + self.mlp(tokens)


class ViT(nn.Module):
    """Patches, a class token, two blocks."""

    def __init__(self, block=Block):
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 1, 8))
        self.blocks, self.head = nn.Sequential(block(), block()), nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.blocks(torch.cat([self.token.expand(len(x), 1, 8), tokens], 1))[:, 0])


class InsistentBlock(Block):
    """Chooses its attention kernel by itself."""

    def forward(self, tokens):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return super().forward(tokens)


def patches(tokens):
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))


def vit(block=Block):
    return sl.SaliencyGuidedLoss(ViT(block), GradCAM(layer="blocks.0", reshape=patches))


class Checkpointed(nn.Module):
    """A stem and a neck, one of them under reentrant checkpointing."""

    def __init__(self, where):
        super().__init__()
        self.stem, self.neck = nn.Conv2d(3, 6, 3), nn.Sequential(nn.Conv2d(6, 6, 3), nn.Tanh())
        self.fc, self.where = nn.Linear(6, 3), where

    def forward(self, x):
        x = self.part("stem", x.requires_grad_())
        return self.fc(self.part("neck", x).mean((2, 3)))

    def part(self, name, x):
        module = getattr(self, name)
        return checkpoint(module, x, use_reentrant=True) if name == self.where else module(x)


def frozen(model, *names):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(names))
    return model


def changed(model, change):
    with torch.no_grad():
        change(model)
    return model


def check(model, extractor="grad_cam", divergence="mse", *, images=IMAGES, targets=LABELS, human=HUMAN, **options):
    guided = sl.SaliencyGuidedLoss(model, extractor, divergence)
    return sl.preflight(guided, images, targets, human, time=False, **options)


def hooked(model, name, inplace=False):
    model.get_submodule(name).register_full_backward_hook(lambda *_: None)
    return model


def compiled_neck():
    torch._dynamo.reset()  # what other tests compiled, it would not compile again
    net = plain_net()
    net[4] = torch.compile(nn.Sequential(nn.SiLU(), nn.AdaptiveAvgPool2d(1)), backend="aot_eager")
    return net


def data_parallel():
    model = nn.DataParallel(plain_net())
    model.device_ids = [0, 1]
    return model


def deep():
    """A network whose features have two by two positions."""
    return nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def with_dropout():
    layers = list(plain_net())
    return nn.Sequential(*layers[:6], nn.Dropout(0.5), layers[6])


def synchronised():
    return nn.SyncBatchNorm.convert_sync_batchnorm(Residual())


def autocast(dtype):
    with torch.autocast("cpu", dtype=dtype):
        return check(plain_net(), "cam")


class InPlaceImages(nn.Sequential):
    """Normalises its input in place."""

    def forward(self, x):
        return super().forward(x.sub_(0.5))


class Clamped(nn.Sequential):
    """Keeps its weights small in the forward pass."""

    def forward(self, x):
        with torch.no_grad():
            self[0].weight.clamp_(-1, 1)
        return super().forward(x)


FEW = torch.tensor([0, 1, 0, 0], dtype=torch.bool)
EMPTY = torch.where(FEW[:, None, None], 0.0, HUMAN)
NAN = torch.where(FEW[:, None, None], float("nan"), HUMAN)
SEVERAL = LABELS[:, None].expand(4, 2)

# What is planted, and the finding: its severity, code, and what message and remedy say.
PLANTED = {
    "fused attention": (
        lambda: sl.preflight(vit(InsistentBlock), IMAGES, LABELS, HUMAN),
        ("error", "fused_attention", "insists on a fused attention kernel without double", r"sdpa_kernel\(.*MATH"),
    ),
    "reentrant checkpointing above the layer": (
        lambda: check(Checkpointed("neck"), GradCAM(layer="stem")),
        ("error", "reentrant_checkpoint", "between the layer and the score", "use_reentrant=False"),
    ),
    "reentrant checkpointing below the layer": (
        lambda: check(Checkpointed("stem"), GradCAM(layer="neck")),
        ("note", "reentrant_checkpoint", "hides which parameters", "use_reentrant=False"),
    ),
    "a compiled module above the layer": (
        lambda: check(compiled_neck(), GradCAM(layer="2")),
        ("error", "compiled", "torch.compile has no double backward", "Compile only modules before the layer"),
    ),
    "a compiled model": (
        lambda: check(torch.compile(plain_net(), backend="aot_eager")),
        ("error", "compiled", "the model is compiled", "Compile only the modules before the layer"),
    ),
    "a backward hook before an in-place operation": (
        lambda: check(hooked(InplaceNet(), "conv3"), "cam"),
        ("error", "backward_hook", "BackwardHookFunction.*inplace", "Remove register_full_backward_hook"),
    ),
    "a backward hook above the layer": (
        lambda: check(hooked(plain_net(), "3"), GradCAM(layer="2")),
        ("warning", "backward_hook", "registered on '3', between 2 and the score", "count on two calls"),
    ),
    "SyncBatchNorm": (
        lambda: check(synchronised(), GradCAM(layer="conv1")),
        ("warning", "sync_batchnorm", "SyncBatchNorm 'bn1' lies between conv1 and the score", "extractor='cam'"),
    ),
    "DataParallel": (
        lambda: check(data_parallel()),
        ("error", "data_parallel", "nn.DataParallel runs replicas", r"DDP\(SaliencyGuidedLoss\(model"),
    ),
    "lazy modules": (
        lambda: check(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))),
        ("error", "uninitialised", "lazy modules", "Call the model once"),
    ),
    "everything frozen": (
        lambda: check(frozen(plain_net(), "")),
        ("error", "frozen", "reaches no trainable parameter", "Unfreeze parameters"),
    ),
    "a frozen backbone": (
        lambda: check(frozen(plain_net(), "0", "2"), "cam"),
        ("note", "head_only", r"only what lies behind the layer \(6.weight\)", "Unfreeze modules in front"),
    ),
    "a weight of zero": (
        lambda: sl.preflight(sl.SaliencyGuidedLoss(plain_net(), alpha=1.0), IMAGES, LABELS, HUMAN),
        ("warning", "no_weight", r"weight zero \(Convex\(alpha=1.0\)\)", "alpha below 1"),
    ),
    "a flat map": (
        lambda: check(changed(plain_net(), lambda net: net[2].weight.zero_()), "cam"),
        ("error", "flat_map", "one value everywhere for all 4 maps", "Choose another layer"),
    ),
    "a map that is NaN": (
        lambda: check(changed(plain_net(), lambda net: net[6].weight.fill_(float("nan")))),
        ("error", "map_not_finite", "NaN or infinite", "Look for them"),
    ),
    "a dead map": (
        lambda: check(changed(plain_net(), lambda net: net[6].weight.zero_()), GradCAM(relu=True)),
        ("error", "dead_map", "zero everywhere for all 4 maps", r"GradCAM\(relu=False\)"),
    ),
    "a gradient of zero": (
        lambda: check(plain_net(), "cam", Nothing()),
        ("error", "no_gradient", "exactly zero", "Choose another layer"),
    ),
    "a gradient that is not finite": (
        lambda: check(plain_net(), divergence=Root()),
        ("error", "gradient_not_finite", "NaN or infinite", "set_detect_anomaly"),
    ),
    "a vanishing saliency gradient": (
        lambda: check(plain_net(), "cam", Scaled(1e-6)),
        ("warning", "vanishing_saliency", "times the task's", r"saliency_weight=\de\+0"),
    ),
    "an exploding saliency gradient": (
        lambda: check(plain_net(), "cam", Scaled(1e6)),
        ("warning", "exploding_saliency", "times the task's", r"saliency_weight=\de-0"),
    ),
    "a coarse map": (
        lambda: check(deep()),
        ("warning", "coarse_map", "2 x 2 positions for human maps of 16 x 16", "earlier layer.*or larger images"),
    ),
    "BatchNorm above the layer": (
        lambda: check(Residual(), GradCAM(layer="conv1", batch_statistics="coupled")),
        ("warning", "coupled_samples", r"\('bn1', 'bn2'\) lies between conv1 and the score", "GroupNorm"),
    ),
    "BatchNorm above the input": (
        lambda: check(Residual(), InputGradient(batch_statistics="coupled")),
        ("warning", "coupled_samples", r"\('bn1', 'bn2'\) lies between the input and the score", "GroupNorm"),
    ),
    "empty human maps": (
        lambda: check(plain_net(), human=EMPTY),
        ("warning", "human_empty", "all zero for 1 of 4 maps", "annotated="),
    ),
    "flat human maps": (
        lambda: check(plain_net(), human=EMPTY + 0.5 * FEW[:, None, None]),
        ("warning", "human_flat", "one value everywhere for 1 of 4 maps", "not annotated"),
    ),
    "equal human maps": (
        lambda: check(plain_net(), human=HUMAN[:1].expand(4, -1, -1)),
        ("warning", "human_equal", "all 4 annotated samples are the same", "matched with images"),
    ),
    "human maps that are NaN": (
        lambda: check(plain_net(), human=NAN),
        ("error", "human_maps", "NaN or infinite values in sample 1", "annotated="),
    ),
    "human maps out of range": (
        lambda: check(plain_net(), divergence="right_reasons", human=255 * HUMAN),
        ("error", "human_maps", "values above 1 in sample 0", "Divide a map by its maximum"),
    ),
    "human maps that are NaN, unchecked by the loss": (
        lambda: sl.preflight(sl.SaliencyGuidedLoss(plain_net(), check_values=False), IMAGES, LABELS, NAN, time=False),
        ("error", "human_maps", "NaN or infinite values in sample 1", "annotated="),
    ),
    "nothing annotated": (
        lambda: check(plain_net(), annotated=torch.zeros(4, dtype=torch.bool)),
        ("warning", "none_annotated", "No sample of this batch", "a batch with maps"),
    ),
    "no human maps": (
        lambda: check(plain_net(), human=None),
        ("warning", "none_annotated", "No sample of this batch", "a batch with maps"),
    ),
    "a model in float16": (
        lambda: check(plain_net().half(), "cam", images=IMAGES.half()),
        ("warning", "float16", r"Trainable parameters \(0.weight", "bfloat16"),
    ),
    "images in float16 for a model in float32": (
        lambda: check(plain_net(), images=IMAGES.half()),
        ("error", "precision", "", "one dtype"),
    ),
    "autocast to float16": (
        lambda: autocast(torch.float16),
        ("warning", "autocast_float16", "small gradients become zero", "GradScaler"),
    ),
    "images in bytes": (
        lambda: check(plain_net(), "cam", images=(IMAGES.abs() * 60).clamp(0, 255)),
        ("note", "images_not_normalised", r"The images lie in 0\.?\d*\.\.\d+", "Divide by 255"),
    ),
    "images that are NaN": (
        lambda: check(plain_net(), images=IMAGES.log()),
        ("error", "images_not_finite", "NaN or infinite", "loading"),
    ),
    "eval mode": (
        lambda: check(Residual().eval()),
        ("warning", "eval_mode", "eval mode", r"guided.train\(\)"),
    ),
    "dropout in front of the classifier": (
        lambda: check(with_dropout(), "cam"),
        ("note", "dropout_before_head", "between the pooling and the classifier '7'", "smaller dropout"),
    ),
    "no logits": (
        lambda: check(nn.Conv2d(3, 4, 3), "input_gradient"),
        ("error", "no_logits", "expected logits of shape", "score=lambda"),
    ),
    "no head for CAM": (
        lambda: check(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, 3)), "cam"),
        ("error", "no_head", "CAM needs global average pooling", "Use extractor='grad_cam'"),
    ),
    "no such layer": (
        lambda: check(Residual(), GradCAM(layer="conv3")),
        ("error", "layer", "Residual has no layer 'conv3'", "Did you mean"),
    ),
    "targets out of range": (
        lambda: check(plain_net(), targets=LABELS + 2),
        ("error", "targets", "must lie in 0..2", "class indices from 0"),
    ),
    "several classes for one map": (
        lambda: check(plain_net(), "captum_saliency", classes=SEVERAL, human=HUMAN[:, None].expand(-1, 2, -1, -1)),
        ("error", "one_map_per_sample", "gives one map per sample", "one class per sample"),
    ),
    "images changed in place": (
        lambda: check(InPlaceImages(*plain_net()), "cam"),
        ("warning", "changes_images", "changes its images in place", "not in-place"),
    ),
    "parameters changed in the forward pass": (
        lambda: check(Clamped(*plain_net()), "cam"),
        ("warning", "changes_parameters", r"changes parameters in place \(0.weight\)", "after the optimizer's step"),
    ),
    "an error of the model's own": (
        lambda: check(Breaking()),
        ("error", "failed", "raised KeyError: 'broken on purpose'", "traceback"),
    ),
}


class Nothing(sl.Divergence):
    """Blind to the model's map."""

    def compare(self, model, human, known):
        return (model * 0.0).sum(1)


class Root(sl.Divergence):
    """Finite, but its gradient is not."""

    def compare(self, model, human, known):
        return (model * 0.0).sum(1).sqrt()


class Scaled(sl.Divergence):
    """The mean squared error, times a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def compare(self, model, human, known):
        return self.factor * (model - human).square().mean(1)


class Breaking(nn.Module):
    """Counts, draws random numbers, changes its mode, and fails behind its BatchNorm."""

    def __init__(self):
        super().__init__()
        self.bn, self.calls, self.seen = nn.BatchNorm2d(3), 0, []
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("ones", torch.ones(1).expand(5))

    def forward(self, x):
        self.calls += 1
        self.seen.append(torch.rand(()) + random.random())
        self.mean = x.mean((0, 2, 3))
        self.bn(x)
        self.bn.eval()
        self.bn.weight.grad = None
        self.bn.register_forward_hook(lambda *_: None)
        raise KeyError("broken on purpose")


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_problem_is_found_with_its_remedy(name):
    call, (severity, code, message, remedy) = PLANTED[name]
    report = call()
    found = {finding.code: finding for finding in report.findings}
    assert code in found, str(report)
    assert found[code].severity == severity
    assert re.search(message, found[code].message), found[code].message
    assert re.search(remedy, found[code].remedy), found[code].remedy
    assert report.ok == (not report.of("error"))
    others = {finding.code for finding in report.findings if finding.severity != "note"} - {code}
    assert not others or name in ALSO, str(report)


# Problems that are, or cause, another one.
ALSO = {
    "SyncBatchNorm",  # couples samples
    "eval mode",
    "images in float16 for a model in float32",
    "images that are NaN",
    "no human maps",
}


def healthy(model, extractor, divergence="mse", **options):
    guided = sl.SaliencyGuidedLoss(model, extractor, divergence, **options)
    return guided, (IMAGES, LABELS, HUMAN)


@pytest.mark.parametrize("divergence", ["mse", "kl", "correlation"])
@pytest.mark.parametrize("extractor", ["cam", "grad_cam"])
def test_silent_on_a_healthy_residual_network(extractor, divergence):
    guided, data = healthy(Residual(), extractor, divergence)
    report = sl.preflight(guided, *data, time=False)
    assert report.findings == ()
    assert report.layer == "the input of 'avgpool'"
    assert report.map_shape == (4, 16, 16)
    assert report.reached.missed == ("fc.bias",)
    assert report.reached.share > 0.99


def test_silent_on_a_healthy_transformer():
    with sdpa_kernel(SDPBackend.MATH):
        report = sl.preflight(vit(), IMAGES, LABELS, HUMAN, time=False)
    assert report.findings == ()
    assert report.layer == "blocks.0"
    assert report.map_shape == (4, 4, 4)


def test_silent_under_bfloat16_autocast():
    assert autocast(torch.bfloat16).findings == ()


@pytest.mark.parametrize("name", sl.list_extractors())
def test_every_extractor(name):
    report = check(network(name, plain_net), extractor(name))
    assert report.findings == ()
    assert (report.layer is None) == (name in ATTENTION)  # these take their maps of all layers
    assert report.reached.share > 0.5


def test_reached_is_what_the_saliency_loss_alone_reaches():
    net = plain_net()
    guided, data = healthy(net, GradCAM(layer="1"))
    report = sl.preflight(guided, *data, time=False)
    loss = guided(*data).saliency_loss
    grads = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    expected = [name for (name, _), g in zip(net.named_parameters(), grads, strict=True) if g is not None and g.any()]
    assert list(report.reached.names) == expected
    assert set(report.reached.missed) == {name for name, _ in net.named_parameters()} - set(expected)


@pytest.mark.parametrize("weight", [{"alpha": 0.2}, {"saliency_weight": 3.0}])
def test_the_ratio_is_that_of_the_weighted_terms(weight):
    net = plain_net()
    guided, data = healthy(net, "cam", **weight)
    norms = sl.preflight(guided, *data, time=False).gradients
    out = guided(*data)
    shared = [p for name, p in net.named_parameters() if name != "6.bias"]
    task, saliency = (
        torch.cat([g.flatten() for g in torch.autograd.grad(term, shared, retain_graph=True)]).norm()
        for term in (out.task_loss, out.saliency_loss)
    )
    factors = (0.2, 0.8) if "alpha" in weight else (1.0, 3.0)
    assert norms.task == pytest.approx(float(task) * factors[0], rel=1e-4)
    assert norms.ratio == pytest.approx(float(saliency / task) * factors[1] / factors[0], rel=1e-4)


def test_the_suggested_weight_makes_both_norms_equal():
    report = check(plain_net(), "cam", Scaled(1e-6))
    (finding,) = report.findings
    weight = float(re.search(r"saliency_weight=(\S+) ", finding.remedy)[1])
    guided, data = healthy(plain_net(), "cam", Scaled(1e-6), saliency_weight=weight)
    torch.manual_seed(0)
    assert 0.5 < sl.preflight(guided, *data, time=False).gradients.ratio < 2.0


def test_what_a_step_costs():
    guided, data = healthy(plain_net(), "input_gradient")
    step = sl.preflight(guided, *data).step
    assert min(step.plain_seconds, step.guided_seconds) > 0
    assert step.guided_bytes > step.plain_bytes > 0
    assert step.time_ratio == step.guided_seconds / step.plain_seconds
    assert sl.preflight(guided, *data, time=False).step is None


def test_bytes_are_those_of_saved_tensors_once_each_without_parameters():
    large = nn.Conv2d(3, 3, 15, padding=7)
    net = nn.Sequential(large, nn.Tanh(), nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    guided, data = healthy(net, "cam")
    what_convolutions_read = 2 * IMAGES.numel() * 4
    assert 0 <= sl.preflight(guided, *data).step.plain_bytes - what_convolutions_read < 300


def test_a_coarse_map_for_coarse_human_maps():
    assert check(deep(), human=F.interpolate(HUMAN[:, None], (4, 4))).findings == ()


def test_annotated_maps_may_be_empty():
    assert check(plain_net(), human=EMPTY, annotated=torch.ones(4, dtype=torch.bool)).findings == ()


def test_a_problem_is_told_once_and_errors_first():
    findings = [sl.checks.Finding(severity, code, "", "") for severity, code in (("note", "a"), ("error", "b"))]
    again = sl.checks.Finding("error", "a", "", "")
    assert [f.code + f.severity for f in sl.Preflight((*findings, again)).sorted().findings] == ["berror", "aerror"]


def test_the_report_reads_well():
    part = GradCAM(layer="conv1", batch_statistics="coupled")
    text = str(check(Residual(), part))
    assert text.startswith(f"Preflight: ready, 1 warning\n  extractor  {part}\n  layer      conv1 (as")
    assert "  map        4 x 16 x 16, human maps 4 x 16 x 16\n  reached    " in text
    assert "\n\n  warning    coupled_samples: BatchNorm in train mode" in text
    assert "\n             -> Use GradCAM(batch_statistics='constant'), a layer behind them" in text
    assert max(map(len, text.splitlines())) <= 100
    assert str(check(frozen(plain_net(), ""))).startswith("Preflight: not ready, 1 error\n")


def test_batch_statistics_as_constants_couple_nothing():
    assert check(Residual(), GradCAM(layer="conv1", batch_statistics="constant")).findings == ()
    (finding,) = check(Residual(), GradCAM(layer="conv1", batch_statistics="coupled")).findings
    assert finding.code == "coupled_samples"
    assert "GradCAM(batch_statistics='constant')" in finding.remedy


def test_frozen_statistics_couple_nothing():
    net = Residual()
    net.bn1.eval(), net.bn2.eval()
    assert check(net, GradCAM(layer="conv1", batch_statistics="coupled")).findings == ()


def test_several_inputs_and_a_dict_output():
    images = {"image": IMAGES, "age": torch.rand(4, 1)}
    report = check(TwoInputs(), "cam", images=images, targets=LABELS % 2)
    assert report.findings == ()


def test_several_maps_per_sample():
    report = check(plain_net(), "cam", classes=SEVERAL, human=torch.rand(4, 2, 16, 16))
    assert report.findings == ()
    assert report.map_shape == (4, 2, 12, 12)


def test_reduction_none():
    guided, data = healthy(plain_net(), "cam", reduction="none")
    assert sl.preflight(guided, *data).findings == ()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_around_it(context):
    guided, _ = healthy(plain_net(), "grad_cam")
    with context():
        images, labels, human = batch(pixels=16)
        assert sl.preflight(guided, images, labels, human, time=False).findings == ()


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_static_graph():
    wrapped = DDP(plain_net(), static_graph=True)
    report = check(wrapped)
    (finding,) = report.findings
    assert (finding.severity, finding.code) == ("error", "static_graph")
    assert "drop static_graph" in finding.remedy
    assert report.reached.missed == ("6.bias",)
    assert check(wrapped, "cam").findings == ()
    guided = DDP(sl.SaliencyGuidedLoss(plain_net(), "grad_cam"), static_graph=True)
    assert sl.preflight(guided, IMAGES, LABELS, HUMAN, time=False).findings == ()
    guided(IMAGES, LABELS, HUMAN).loss.backward()


@pytest.mark.usefixtures("one_process")
def test_sharded_parameters_are_left_alone():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    guided, data = healthy(plain_net(), "cam")
    fully_shard(guided, mesh=init_device_mesh("cpu", (1,)))
    report = sl.preflight(guided, *data)
    assert [finding.code for finding in report.findings] == ["sharded"]
    assert report.reached is None
    guided(*data).loss.backward()


def test_processes_that_nothing_synchronises(monkeypatch):
    for module in ("distributed", "denominator"):
        monkeypatch.setattr(f"saliency_losses.{module}.is_distributed", lambda: True)
    (finding,) = check(plain_net(), "cam").findings
    assert (finding.severity, finding.code) == ("error", "unsynchronised")
    guided, data = healthy(plain_net(), "cam", gradient_sync="manual")
    assert sl.preflight(guided, *data, time=False).findings == ()


def state(guided):
    """Everything of a loss and its model that a step can change."""
    modules = []
    for module in guided.modules():
        own = {key: repr(value) for key, value in vars(module).items() if key != "_modules"}
        modules.append((id(module), own, list(module._modules)))
    grads = [None if p.grad is None else p.grad.clone() for p in guided.parameters()]
    versions = [p._version for p in guided.parameters()]
    return repr((modules, grads, versions, torch.get_rng_state().sum(), random.getstate()[1][-1]))


@pytest.mark.parametrize(
    "guided",
    [
        lambda: sl.SaliencyGuidedLoss(Residual(), GradCAM(layer="conv1")),
        lambda: sl.SaliencyGuidedLoss(InplaceNet(), "cam"),
        lambda: sl.SaliencyGuidedLoss(hooked(InplaceNet(), "conv3"), "cam"),
        lambda: sl.SaliencyGuidedLoss(Breaking()),
        lambda: sl.SaliencyGuidedLoss(nn.utils.spectral_norm(nn.Conv2d(3, 3, 3)), "input_gradient"),
    ],
)
def test_nothing_changes(guided):
    guided = guided()
    optimizer = torch.optim.Adam(guided.parameters())
    for parameter in guided.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    images, human = IMAGES.clone(), HUMAN.clone()
    before, moments = state(guided), repr(optimizer.state_dict())
    sl.preflight(guided, images, LABELS, human)
    assert state(guided) == before
    assert repr(optimizer.state_dict()) == moments
    assert torch.equal(images, IMAGES)
    assert torch.equal(human, HUMAN)
    assert images._version == human._version == 0


def test_the_state_that_is_compared_tells_a_step():
    guided = sl.SaliencyGuidedLoss(Residual(), "cam")
    before = state(guided)
    guided(IMAGES, LABELS, HUMAN)
    assert state(guided) != before


def test_weights_cast_without_gradients_are_forgotten():
    guided, data = healthy(plain_net(), "cam")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = sl.preflight(guided, *data, time=False)
        guided(*data).loss.backward()
    assert report.reached.missed == ("6.bias",)
    assert all(parameter.grad is not None for parameter in guided.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda guided: sl.preflight(guided.model, IMAGES, LABELS, HUMAN), "guided must be a SaliencyGuidedLoss.*Sequ"),
        (lambda guided: sl.preflight(guided, IMAGES, LABELS, [HUMAN]), "human_saliency must be a tensor or None, got"),
        (lambda guided: sl.preflight(guided, IMAGES, LABELS, HUMAN, clases=LABELS), "Unknown option 'clases'. Did you"),
    ],
)
def test_wrong_types_are_raised(call, message):
    with pytest.raises(TypeError, match=message):
        call(sl.SaliencyGuidedLoss(plain_net(), CAM()))


def test_an_extractor_of_unknown_make():
    class Total(sl.SaliencyExtractor):
        def forward(self, model, inputs, classes, *, run=None):
            output = model(inputs)
            return sl.Explanation(output, (output[:, :1, None] * inputs.mean(1)).exp())

    report = check(plain_net(), Total())
    assert report.layer is None
    assert report.findings == ()


def test_an_input_gradient_below_a_relu_network():
    report = check(plain_net(), InputGradient(reduce="none"), human=HUMAN)
    assert report.findings[0].code == "human_maps"
