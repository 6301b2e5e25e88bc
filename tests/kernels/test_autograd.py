"""What kernels are to autograd and to compilers, in Triton's interpreter."""

import os
import weakref

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from saliency_losses.divergences import KL, MSE, Energy, Softmax
from saliency_losses.divergences.evaluate import _by_kernel

pytestmark = [pytest.mark.interpreter, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture(scope="module", autouse=True)
def _interpreted():
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.fail("Kernels are interpreted here: set TRITON_INTERPRET=1 before Python starts.")


def maps(*size):
    return torch.rand(*size, requires_grad=True)


SUM = 0.5 * MSE(backend="triton") + 0.5 * KL(backend="triton")
ENLARGED = MSE(backend="triton", sizing="enlarge")


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize(
    ("divergence", "sizes"),
    [
        (SUM, [((rows, 3, 3), (rows, 3, 3)) for rows in (2, 3, 4, 5)]),
        (ENLARGED, [((2, 3, 3), (2, side, side)) for side in (5, 6, 7, 8)]),
    ],
)
def test_one_compilation_serves_all_sizes(divergence, sizes, dynamic):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(
        lambda model, human: divergence(model, human).sum(), backend=counter, fullgraph=True, dynamic=dynamic
    )
    for small, large in sizes:
        model, human = maps(*small), torch.rand(*large)
        value, eager = compiled(model, human), divergence(model, human).sum()
        torch.testing.assert_close(value, eager)
        torch.testing.assert_close(torch.autograd.grad(value, model), torch.autograd.grad(eager, model))
    assert counter.frame_count <= 2


def test_backward_fills_nothing_with_zeros():
    model = maps(4, 3, 3)
    values = MSE(backend="triton")(model, torch.rand(4, 3, 3))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(values, model, torch.ones(4))
    assert not {event.name for event in profile.events()} & {"aten::zeros", "aten::zero_"}


def test_human_maps_are_let_go_after_backward():
    model, human = maps(4, 3, 3), torch.rand(4, 3, 3)
    gone = weakref.ref(human)
    total, _ = _by_kernel([MSE()], torch.ones(1, 4), model, human)
    total.sum().backward()
    del human
    assert gone() is None


def test_what_is_empty_of_a_softmax_is_told_by_its_largest_share():
    model, human = maps(4, 3, 3), torch.rand(4, 3, 3)
    norm = Softmax(temperature=0.5)
    for eps in (0.5, 2.0, 8.0):
        kernel, eager = (
            Energy(normalize=norm, eps=eps, backend=backend)(model, human) for backend in ("triton", "eager")
        )
        torch.testing.assert_close(kernel, eager)
