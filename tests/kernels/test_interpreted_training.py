"""Training through interpreted kernels: whole steps, compiled ones, and derivatives that kernels do not have."""

import copy
import importlib

import pytest
import torch
from kernel_cases import require_interpreter
from torch import nn

import saliency_losses as sl
from saliency_losses.divergences import KL, MSE, base
from saliency_losses.divergences import evaluate as evaluation
from saliency_losses.divergences.evaluate import evaluate
from saliency_losses.kernels import select

pytestmark = [pytest.mark.interpreter, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture(scope="module", autouse=True)
def _interpreted():
    require_interpreter()


@pytest.fixture
def automatic(monkeypatch):
    """``"auto"`` takes the kernel, as on a GPU."""
    monkeypatch.setattr(select, "slow_reasons", lambda model: [])
    taken = []

    def by_kernels(parts, weights, model, human, known):
        taken.append(select.select(parts, weights, model, human, known))
        return evaluation._by_kernels(parts, weights, model, human, known)

    monkeypatch.setattr(base, "evaluate", by_kernels)
    return taken


def net():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.GELU(),
        nn.Conv2d(6, 8, 3),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def batch():
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(5, 3, 12, 12, generator=generator)
    return images, torch.tensor([0, 1, 2, 1, 0]), torch.rand(5, 24, 24, generator=generator)


def divergence(backend):
    return 0.6 * sl.create_divergence("kl", backend=backend) + 0.4 * sl.create_divergence("mse", backend=backend)


def step(backend, extractor="cam", autocast=False, **options):
    guided = sl.SaliencyGuidedLoss(net(), extractor, divergence(backend), alpha=0.3)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = guided(*batch(), **options)
    out.loss.backward()
    return [out.loss.detach(), out.model_saliency.detach(), *(parameter.grad for parameter in guided.parameters())]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"extractor": "grad_cam"},
        {"extractor": "input_gradient"},
        {"autocast": True},
        {"annotated": torch.tensor([True, False, True, True, False])},
        {"sample_weight": torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])},
    ],
)
def test_a_guided_step(options):
    rounding = 2.0**-8 if options.get("autocast") else 1e-5  # gradients are rounded to what layers compute in
    for kernel, eager in zip(step("triton", **options), step("eager", **options), strict=True):
        torch.testing.assert_close(kernel, eager, rtol=1e-4, atol=rounding * float(eager.abs().amax()) + 1e-9)


@pytest.fixture
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_divergence(backend):
    parts = [KL(backend="triton"), MSE(backend="triton")]
    weights, human = torch.rand(2, 4), torch.rand(4, 9, 8)

    def function(model):
        total, values = evaluate(parts, weights, 2.0 * model, human, None)
        return total.square(), values

    model = torch.randn(4, 9, 8, requires_grad=True)
    compiled = torch.compile(function, backend=backend, fullgraph=True)
    for maps in (model, model.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()):
        (total, values), (expected, others) = compiled(maps), function(maps)
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(values, others)
        assert not values.requires_grad
        one, other = (torch.autograd.grad(result.sum(), maps)[0] for result in (total, expected))
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_guided_step(backend):
    images, labels, human = batch()
    plain = sl.SaliencyGuidedLoss(net(), "cam", divergence("triton"))
    prepared = copy.deepcopy(plain)
    prepared.prepare(images, labels)
    out = torch.compile(prepared, backend=backend, fullgraph=True)(images, labels, human)
    expected = plain(images, labels, human)
    out.loss.backward()
    expected.loss.backward()
    torch.testing.assert_close(out.loss, expected.loss)
    for one, other in zip(prepared.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_operators_are_described_rightly():
    importlib.import_module("saliency_losses.kernels.autograd")  # registers them
    from saliency_losses.kernels.plan import plan_of

    part = plan_of(MSE())[0]
    assert part is not None
    plan = ",".join(map(str, part)), []
    for count in (49, 4097):
        model, human = torch.randn(2, count, requires_grad=True), torch.rand(2, count)
        weights, upstream = torch.ones(1, 2), torch.rand(2)
        forward, backward = torch.ops.saliency_losses.fused.default, torch.ops.saliency_losses.fused_backward.default
        *_, kept = forward(model, human, weights, *plan)
        torch.library.opcheck(forward, (model, human, weights, *plan), test_utils=("test_schema", "test_faketensor"))
        torch.library.opcheck(backward, (model.detach(), human, weights, kept.detach(), upstream, *plan))


MAPS = torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(0))
HUMAN = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(1))
DIFFERENTIATIONS = {
    "grad": lambda value, leaf: torch.autograd.grad(value.sum(), leaf, create_graph=True),
    "backward": lambda value, leaf: value.sum().backward(create_graph=True),
    "batched": lambda value, leaf: torch.autograd.grad(value, leaf, torch.eye(3), is_grads_batched=True),
}


@pytest.mark.parametrize("how", DIFFERENTIATIONS)
def test_what_kernels_cannot_differentiate_raises_with_the_remedy(how):
    leaf = MAPS.clone().requires_grad_()
    value = MSE(backend="triton")(leaf, HUMAN)
    with pytest.raises(RuntimeError, match=r"kernels of mse give no second derivative.*Use backend='eager', or 'auto'"):
        DIFFERENTIATIONS[how](value, leaf)


def second(part):
    leaf = MAPS.clone().requires_grad_()
    (first,) = torch.autograd.grad(part(leaf, HUMAN).sum(), leaf, create_graph=True)
    return torch.autograd.grad(first.square().sum(), leaf)[0]


@pytest.mark.parametrize("make", [KL, MSE])
def test_auto_takes_pytorch_for_a_second_derivative(make, automatic):
    torch.testing.assert_close(second(make()), second(make(backend="eager")), rtol=1e-4, atol=1e-6)
    assert automatic == [[[0]], []]


def test_auto_takes_pytorch_for_several_gradients_at_once(automatic):
    results = []
    for backend in ("auto", "eager"):
        leaf = MAPS.clone().requires_grad_()
        value = KL(backend=backend)(leaf, HUMAN)
        results.append(torch.autograd.grad(value, leaf, torch.eye(3), is_grads_batched=True)[0])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-7)
    assert automatic == [[[0]], []]


class Unguarded:
    """PyTorch, except that no backward pass is ever differentiated."""

    def __getattr__(self, name):
        return (lambda: False) if name == "is_grad_enabled" else getattr(torch, name)


def test_without_the_guard_a_second_derivative_is_silently_wrong(monkeypatch):
    from saliency_losses.kernels import autograd

    def curvature(backend):
        leaf = MAPS.clone().requires_grad_()
        value = MSE(backend=backend)(leaf.square(), HUMAN)
        (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), leaf)[0]

    expected = curvature("eager")
    with pytest.raises(RuntimeError, match="give no second derivative"):
        curvature("triton")
    monkeypatch.setattr(autograd, "torch", Unguarded())
    assert not torch.allclose(curvature("triton"), expected, rtol=0.1)
