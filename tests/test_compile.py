"""Prepared and compiled steps: the same numbers as an eager step, in one graph."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torch._dynamo.testing
from conftest import DIVERGENCES, extractor, network, one_of
from models import InplaceNet, TwoInputs, batch, plain_net
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import saliency_losses as sl
from saliency_losses import human, task
from saliency_losses.extractors import activation_gradients, prepared_run, score
from saliency_losses.extractors.activations import ActivationExtractor
from saliency_losses.extractors.standing import Slot
from saliency_losses.testing import smooth_network

compiling = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13), reason="older compilers do not trace a step"
)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def without_dropout(net):
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net.float().train()


def class_maps():
    """The last convolution gives the class maps: the model is its own CAM."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.Conv2d(4, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class MeanOverPositions(nn.Module):
    """Pooling by a function, classifier with an adapter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(F.silu(self.norm(self.conv(x))).mean((2, 3)))


NETS = {
    "linear head": lambda: without_dropout(smooth_network()),
    "functional pooling, in-place ReLU": lambda: without_dropout(InplaceNet()),
    "functional mean": lambda: MeanOverPositions().train(),
    "convolutional class maps": lambda: class_maps().train(),
    "without BatchNorm": plain_net,
}


def same_step(first, second, *, exactly=False, tolerance=1e-4):
    """Losses, maps, every parameter's gradient and every buffer of two (guided, output) pairs agree."""
    (one, a), (other, b) = first, second
    rtol, atol = (0, 0) if exactly else (tolerance, tolerance * 1e-2)
    torch.testing.assert_close(a.loss, b.loss, rtol=rtol, atol=atol)
    torch.testing.assert_close(a.model_saliency, b.model_saliency, rtol=rtol, atol=atol)
    ones, others = (torch.autograd.grad(o.loss, list(m.parameters()), allow_unused=True) for m, o in (first, second))
    size = max(float(g.abs().amax()) for g in ones if g is not None)
    for g, h in zip(ones, others, strict=True):
        assert (g is None) == (h is None)
        if g is not None:
            torch.testing.assert_close(g, h, rtol=rtol, atol=rtol * size)
    for g, h in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(g, h, rtol=rtol, atol=atol)


def pair(name, net, divergence="mse", *, options=None, **guided):
    """An unprepared loss, and a prepared one of an equal model."""
    net = NETS[net]() if isinstance(net, str) else net
    eager = sl.SaliencyGuidedLoss(net, extractor(name, **(options or {})), divergence, **guided)
    prepared = copy.deepcopy(eager)
    images, labels, _ = batch()
    prepared.prepare(images, labels)
    return eager, prepared


def compiled(guided, backend="aot_eager"):
    return torch.compile(guided, backend=backend, fullgraph=True)


COMPILE = [name for name in sl.list_extractors() if extractor(name).compiles]


@pytest.mark.parametrize("name", sl.list_extractors())
def test_a_prepared_step_is_exactly_the_same(name):
    eager, prepared = pair(name, without_dropout(network(name).float()))
    for number in range(3):
        torch.manual_seed(number)
        expected = eager(*batch())
        torch.manual_seed(number)
        same_step((eager, expected), (prepared, prepared(*batch())), exactly=True)


@pytest.mark.parametrize("net", NETS)
def test_a_prepared_cam_step_is_exactly_the_same_for_every_head(net):
    eager, prepared = pair("cam", net)
    for _ in range(2):
        same_step((eager, eager(*batch())), (prepared, prepared(*batch())), exactly=True)


@compiling
@pytest.mark.parametrize("divergence", one_of(DIVERGENCES, "correlation"))
@pytest.mark.parametrize("name", one_of(COMPILE, "cam", "grad_cam", "eigen_cam", "layer_cam", "input_gradient"))
def test_what_declares_to_compile_compiles_into_one_graph(name, divergence):
    eager, prepared = pair(name, "linear head", divergence)
    same_step((eager, eager(*batch())), (prepared, compiled(prepared)(*batch())))


@compiling
@pytest.mark.parametrize("net", one_of(NETS, "functional pooling, in-place ReLU", "convolutional class maps"))
@pytest.mark.parametrize("name", one_of(["cam", "grad_cam", "input_gradient"], "grad_cam"))
def test_every_kind_of_network_compiles(name, net):
    eager, prepared = pair(name, net)
    same_step((eager, eager(*batch())), (prepared, compiled(prepared)(*batch())))


@compiling
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"layer": "1"}, marks=pytest.mark.slow),
        {"layer": "0", "batch_statistics": "coupled"},
        pytest.param({"layer": "2", "relu": True, "score": "contrast"}, marks=pytest.mark.slow),
        pytest.param({"layer": "2", "score": "cross_entropy"}, marks=pytest.mark.slow),
    ],
)
def test_options_of_gradient_maps_compile(options):
    eager, prepared = pair("grad_cam", "linear head", options=options)
    same_step((eager, eager(*batch())), (prepared, compiled(prepared)(*batch())))


class _ChannelMean(ActivationExtractor):
    def read(self, activation):
        return activation.square().mean(1)


@compiling
@pytest.mark.parametrize("options", [{}, {"layer": "2"}])
def test_maps_read_off_an_activation_compile(options):
    eager, prepared = pair_of(_ChannelMean(**options))
    same_step((eager, eager(*batch())), (prepared, compiled(prepared)(*batch())))


def pair_of(part, **options):
    eager = sl.SaliencyGuidedLoss(NETS["linear head"](), part, **options)
    prepared = copy.deepcopy(eager)
    prepared.prepare(batch()[0], batch()[1])
    return eager, prepared


@compiling
def test_a_whole_training_step_compiles_and_hardly_recompiles():
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    eager, prepared = pair("grad_cam", "linear head")
    step = torch.compile(lambda *args: prepared(*args).loss, backend=counter, fullgraph=True)
    optimizers = [torch.optim.SGD(guided.parameters(), lr=0.1) for guided in (eager, prepared)]
    for number in range(5):
        torch.manual_seed(number)
        images, labels, human = (torch.rand(4, 3, 9, 9), torch.randint(3, (4,)), torch.rand(4, 9, 9))
        for optimizer, loss in zip(optimizers, (lambda *a: eager(*a).loss, step), strict=True):
            optimizer.zero_grad()
            loss(images, labels, human).backward()
            optimizer.step()
    assert counter.frame_count <= 2
    for p, q in zip(eager.parameters(), prepared.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)
    for p, q in zip(eager.buffers(), prepared.buffers(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)


@compiling
@pytest.mark.parametrize("name", one_of(["cam", "grad_cam"], "grad_cam"))
def test_what_a_batch_may_hold_compiles(name):
    images, labels, human = batch()
    classes = torch.tensor([[0, 1], [2, 1], [1, 0], [0, 2]])
    ignored = torch.where(torch.arange(4) == 1, -100, labels)
    for targets, maps, options in [
        (ignored, human, {"annotated": torch.tensor([True, True, False, True])}),
        (labels, human, {"sample_weight": torch.tensor([1.0, 0.5, 2.0, 0.0])}),
        (labels, torch.rand(4, 2, 9, 9), {"classes": classes}),
    ]:
        eager, prepared = pair(name, "linear head", "kl")
        step = compiled(prepared)
        same_step((eager, eager(images, targets, maps, **options)), (prepared, step(images, targets, maps, **options)))


@compiling
def test_evaluation_compiles_once_prepared_for_it():
    eager, prepared = pair("grad_cam", "linear head")
    eager.eval(), prepared.eval()
    with pytest.raises(Exception, match=r"only after guided.prepare"):
        compiled(prepared)(*batch())
    prepared.prepare(batch()[0])
    same_step((eager, eager(*batch())), (prepared, compiled(prepared)(*batch())))


@compiling
@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILE)
def test_the_default_compiler_agrees(name):
    eager, prepared = pair(name, "linear head")
    same_step((eager, eager(*batch())), (prepared, compiled(prepared, "inductor")(*batch())))


@pytest.mark.parametrize("name", ["cam", "grad_cam", "input_gradient", "captum_saliency"])
def test_preparing_leaves_no_trace_but_hooks_that_go(name):
    net = smooth_network().float()
    guided = sl.SaliencyGuidedLoss(net, extractor(name))
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    guided.prepare(*batch()[:2])
    guided.prepare(*batch()[:2])
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in net.parameters())
    hooks = [hook for m in net.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    assert len(hooks) == {"cam": 2, "grad_cam": 1}.get(name, 0)
    guided(*batch())
    assert all(slot.captured is None and slot.shift is None for slot in slots(hooks))
    guided.unprepare()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def slots(hooks):
    return [hook.slot for hook in hooks if isinstance(hook.slot, Slot)]


def test_hooks_do_nothing_outside_a_step():
    _, guided = pair("grad_cam", "functional pooling, in-place ReLU")
    net, fresh = guided.model.eval(), copy.deepcopy(guided.model).eval()
    torch.testing.assert_close(net(batch()[0]), fresh(batch()[0]), rtol=0, atol=0)
    assert all(slot.captured is None for slot in guided._prepared[True].slots)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda guided: pickle.loads(pickle.dumps(guided))])
@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_copies_are_prepared_and_apart(name, copied):
    eager, prepared = pair(name, "linear head")
    other = copied(prepared)
    prepared.unprepare()
    assert other._prepared[True].fits(other.model, other.extractor)
    assert other._prepared[True].slots[0] is not None
    same_step((eager, eager(*batch())), (other, other(*batch())), exactly=True)
    other.unprepare()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in other.modules())


@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_replaced_modules_are_prepared_anew(name):
    eager, prepared = pair(name, "linear head")
    torch.manual_seed(1)
    for guided in (eager, prepared):
        guided.model[6] = nn.AdaptiveAvgPool2d(1)
        guided.model[9] = nn.Linear(5, 4)
    prepared.model[9].load_state_dict(eager.model[9].state_dict())
    same_step((eager, eager(*batch())), (prepared, prepared(*batch())), exactly=True)
    assert len(prepared.model[6]._forward_pre_hooks) == 1


@compiling
def test_a_compiled_step_refuses_replaced_modules():
    _, prepared = pair("cam", "linear head")
    prepared.model[6] = nn.AdaptiveAvgPool2d(1)
    with pytest.raises(Exception, match=r"anew when modules, model or extractor were replaced"):
        compiled(prepared)(*batch())


@compiling
@pytest.mark.parametrize(("name", "options"), [("captum_saliency", {}), ("cam", {"score": "log_probability"})])
def test_what_does_not_compile_says_so(name, options):
    _, prepared = pair(name, "linear head", options=options)
    with pytest.raises(Exception, match=r"cannot be compiled: .* cannot be traced into one graph"):
        compiled(prepared)(*batch())


@compiling
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler itself
@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize(
    "name", one_of(["cam", "grad_cam", "input_gradient", "captum_saliency"], "grad_cam", "captum_saliency")
)
def test_where_breaks_are_allowed_what_does_not_compile_stays_eager(name, prepare):
    eager = sl.SaliencyGuidedLoss(NETS["linear head"](), extractor(name))
    other = copy.deepcopy(eager)
    if prepare:
        other.prepare(*batch()[:2])
    step = torch.compile(other, backend="aot_eager")
    for _ in range(2):
        same_step((eager, eager(*batch())), (other, step(*batch())))


@compiling
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler itself
@pytest.mark.parametrize("layer", [None, "4"])
def test_modules_compiled_below_the_layer_run_their_own_batchnorm(layer):
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    eager = sl.SaliencyGuidedLoss(NETS["linear head"](), sl.create_extractor("grad_cam", layer=layer))
    other = copy.deepcopy(eager)
    other.model[1].compile(backend=counter)
    for _ in range(3):
        same_step((eager, eager(*batch())), (other, other(*batch())))
    assert F.batch_norm in [node.target for node in counter.graphs[-1].graph.nodes]
    assert counter.frame_count <= 2


@compiling
def test_a_compiled_step_refuses_images_of_another_size():
    _, prepared = pair("grad_cam", "linear head")
    images, labels, human = batch(pixels=11)
    with pytest.raises(Exception, match=r"prepare with images of this size"):
        compiled(prepared)(images, labels, human)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler itself
def test_a_backbone_compiles_below_the_layer_and_nothing_else():
    for net, layer, below in [
        ("linear head", "5", {"0", "1", "3", "4"}),
        ("linear head", "1", {"0"}),
        ("functional pooling, in-place ReLU", None, {"conv1", "bn1", "conv2", "bn2"}),
    ]:
        eager = sl.SaliencyGuidedLoss(NETS[net](), sl.create_extractor("grad_cam", layer=layer))
        prepared = copy.deepcopy(eager)
        prepared.prepare(*batch()[:2], compile="backbone", backend="aot_eager")
        names = {name for name, m in prepared.model.named_modules() if m._compiled_call_impl is not None}
        assert names == below
        for _ in range(2):
            same_step((eager, eager(*batch())), (prepared, prepared(*batch())))
        prepared.unprepare()
        assert not any(m._compiled_call_impl for m in prepared.modules())


def test_a_backbone_needs_something_below_a_layer():
    net = NETS["linear head"]()
    for name, options, why in [
        ("input_gradient", {}, "taps no layer"),
        ("grad_cam", {"layer": "0"}, "nothing finishes"),
    ]:
        guided = sl.SaliencyGuidedLoss(net, sl.create_extractor(name, **options))
        with pytest.raises(ValueError, match=why):
            guided.prepare(*batch()[:2], compile="backbone")
        assert not any(m._forward_hooks for m in net.modules())
    with pytest.raises(ValueError, match=r"compile must be 'backbone' or None"):
        guided.prepare(batch()[0], compile="everything")


class _NoLooks(TorchDispatchMode):
    """Refuses what makes a device wait: numbers that leave it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "equal", "is_nonzero", "nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["cam", "grad_cam", "input_gradient"])
def test_a_prepared_step_never_waits_for_the_device(name, monkeypatch):
    guided = sl.SaliencyGuidedLoss(NETS["linear head"](), extractor(name), check_values=False)
    guided.prepare(*batch()[:2])
    with pytest.raises(AssertionError), _NoLooks():
        guided(*batch())  # on the CPU, where checks cost nothing, it looks
    for module in (task, human, score, prepared_run, activation_gradients):
        monkeypatch.setattr(module, "looks_at_values", lambda tensor: False)
    with _NoLooks():
        guided(*batch(), annotated=torch.tensor([1, 1, 0, 1])).loss.backward()


def test_models_with_several_inputs_and_a_dict_as_output():
    images, labels, human = batch(classes=2)
    eager = sl.SaliencyGuidedLoss(TwoInputs(), sl.create_extractor("grad_cam", layer="stem"))
    prepared = copy.deepcopy(eager)
    inputs = images, torch.rand(4, 1)
    prepared.prepare(inputs, labels)
    same_step((eager, eager(inputs, labels, human)), (prepared, prepared(inputs, labels, human)), exactly=True)
    if prepared._prepared[True].obstacle is None:
        step = compiled(prepared)
        same_step((eager, eager(inputs, labels, human)), (prepared, step(inputs, labels, human)))


def test_the_page_says_of_each_extractor_what_it_declares():
    rows = {}
    for line in (Path(__file__).parent.parent / "docs/compile.md").read_text().splitlines():
        if line.startswith("| `"):
            name, how, *_ = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`")] = how == "one graph"
    assert {name: extractor(name).compiles for name in sl.list_extractors()} == {
        name: rows.get(name) for name in sl.list_extractors()
    }
