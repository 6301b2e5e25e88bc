"""The kernels on a GPU: what they compute, that graphs, compilers and streams take them, and what they cost."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from models import batch, plain_net
from torch import Tensor

import saliency_losses as sl
from saliency_losses.divergences import KL, MSE, Correlation, Dice, Divergence
from saliency_losses.kernels.plan import KINDS

# PyTorch warns that its modes that these tests need are prototypes, and of faster matrix products.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

DEVICE = "cuda"
SIZES = [(1,), (7, 7), (197,), (64, 64), (4097,), (224, 224), (1024, 1024)]
HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture(scope="module", autouse=True)
def _on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.fail("These tests need a GPU that PyTorch can use, and torch.cuda.is_available() says there is none.")


def maps(rows: int, *size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    model = torch.randn(rows, *size, device=DEVICE).to(dtype)
    return model.requires_grad_(), torch.rand(rows, *size, device=DEVICE).to(dtype)


def by(backend: str, name: str, **options: Any) -> Divergence:
    return sl.create_divergence(name, backend=backend, **options)


def values_and_gradient(
    divergence: Divergence, model: Tensor, human: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The values and the gradient of their sum, each map with a weight of its own."""
    leaf = model.detach().to(dtype or model.dtype).requires_grad_()
    values = divergence(leaf, human.to(dtype or human.dtype))
    upstream = torch.linspace(0.5, 1.5, len(values), dtype=values.dtype, device=values.device)
    return values.detach(), torch.autograd.grad(values, leaf, upstream)[0]


def magnitude(exact: Tensor) -> Tensor:
    """The mean magnitude of each row, (B,), or what counts as nothing."""
    rows = exact.abs().flatten(1) if exact.ndim > 1 else exact.abs()[:, None]
    return rows.mean(1).clamp_min(0.1 / rows.shape[1])


def error(found: Tensor, exact: Tensor) -> float:
    """The mean error in shares of the mean magnitude: one cell on the other side of a kink is nothing in many."""
    return float((found.double() - exact).abs().mean() / magnitude(exact).mean())


def share_off(found: Tensor, exact: Tensor, tolerance: float) -> float:
    """The share of cells that are off by more than the tolerance."""
    scale = magnitude(exact).view(-1, *[1] * (exact.ndim - 1))
    return float(((found.double() - exact).abs() > tolerance * (scale + exact.abs())).double().mean())


def check_parity(make: Callable[[str], Divergence], model: Tensor, human: Tensor) -> None:
    """The kernel is as near as eager to what float64 gives, in the mean and in all but a few cells on kinks."""
    exact = values_and_gradient(make("eager"), model, human, torch.float64)
    eager = values_and_gradient(make("eager"), model, human)
    found = values_and_gradient(make("triton"), model, human)
    assert found[1].dtype == model.dtype
    for own, other, true in zip(found, eager, exact, strict=True):
        assert error(own, true) <= 2 * error(other, true) + 2e-6
    tolerance = 1e-3 if model.dtype == torch.float32 else 2e-2
    assert share_off(found[1], exact[1], tolerance) <= 1e-5


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_values_and_gradients(name: str, size: tuple[int, ...]) -> None:
    check_parity(lambda backend: by(backend, name), *maps(3, *size))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [(7, 7), (64, 64), (224, 224)], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_values_and_gradients_in_half_precision(name: str, size: tuple[int, ...], dtype: torch.dtype) -> None:
    check_parity(lambda backend: by(backend, name), *maps(3, *size, dtype=dtype))


@pytest.mark.parametrize("rows", [1, 2, 31, 33, 4096])
@pytest.mark.parametrize("name", ["mse", "kl", "correlation"])
def test_batches(name: str, rows: int) -> None:
    check_parity(lambda backend: by(backend, name), *maps(rows, 7, 7))
    check_parity(lambda backend: by(backend, name), *maps(min(rows, 1031), 67, 65))


@pytest.mark.parametrize("name", sl.divergences.list_normalizers())
@pytest.mark.parametrize("size", [(7, 7), (71, 67)], ids=str)
def test_normalizers(name: str, size: tuple[int, ...]) -> None:
    check_parity(lambda backend: by(backend, "mae", normalize=name, human_normalize=name), *maps(5, *size))


@pytest.mark.parametrize("size", [(7, 7), (71, 67), (224, 224)], ids=str)
def test_sums(size: tuple[int, ...]) -> None:
    def make(backend: str) -> Divergence:
        parts = [part(backend=backend) for part in (MSE, KL, Correlation, Dice)]
        return 0.1 * parts[0] + 0.2 * parts[1] + 0.3 * parts[2] + 0.4 * parts[3]

    check_parity(make, *maps(5, *size))


@pytest.mark.parametrize("sizing", ["enlarge", "enlarge_aligned", "area"])
@pytest.mark.parametrize("name", ["mse", "kl", "correlation", "dice"])
def test_maps_of_different_sizes(name: str, sizing: str) -> None:
    model, _ = maps(5, 7, 7)
    check_parity(lambda backend: by(backend, name, sizing=sizing), model, maps(5, 224, 224)[1])


@pytest.mark.parametrize("size", [(49,), (5000,)], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_extreme_rows(name: str, size: tuple[int, ...]) -> None:
    model, human = (side.detach() for side in maps(8, *size))
    model[0], model[1], model[2], human[3] = 3.0, 0.0, 0.0, 0.0
    model[2, 5] = 1.0
    model[4] *= 1e15
    model[5] *= 1e-15
    human[6] *= 1e10
    human[7, 1:] = 0.0
    exact = values_and_gradient(by("eager", name), model, human, torch.float64)
    found = values_and_gradient(by("triton", name), model, human)
    torch.testing.assert_close(found[0].double(), exact[0], rtol=1e-4, atol=1e-5)
    for own, true in zip(found[1], exact[1], strict=True):
        torch.testing.assert_close(own.double(), true, rtol=1e-2, atol=1e-3 * float(true.abs().mean()) + 1e-14)


@pytest.mark.parametrize("size", [(49,), (5000,)], ids=str)
def test_what_is_not_a_number_stays_in_its_row(size: tuple[int, ...]) -> None:
    model, human = (side.detach() for side in maps(3, *size))
    whole = values_and_gradient(by("triton", "mse"), model, human)
    model[1, 7] = torch.nan
    values, gradient = values_and_gradient(by("triton", "mse"), model, human)
    assert values.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(gradient[::2], whole[1][::2], rtol=0, atol=0)


def test_rows_that_are_not_dense() -> None:
    wide, human = maps(6, 100)
    model = wide.detach()[:, 20:69]
    dense = values_and_gradient(by("triton", "kl"), model.contiguous(), human[:, :49].contiguous())
    strided = values_and_gradient(by("triton", "kl"), model, human[:, :49])
    torch.testing.assert_close(strided, dense, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(7, 7), (71, 67)], ids=str)
def test_a_captured_graph_replays_with_new_maps(size: tuple[int, ...]) -> None:
    divergence = 0.7 * by("triton", "mse") + 0.3 * by("triton", "kl")
    model, human = (side.detach() for side in maps(32, *size))
    for _ in range(2):
        values_and_gradient(divergence, model, human)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = values_and_gradient(divergence, model, human)
    for _ in range(2):
        for static, new in zip((model, human), maps(32, *size), strict=True):
            static.copy_(new.detach())
        graph.replay()
        torch.testing.assert_close(captured, values_and_gradient(divergence, model, human), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("size", [(7, 7), (71, 67)], ids=str)
def test_compiled_whole(mode: str, size: tuple[int, ...]) -> None:
    divergence = by("triton", "mse")
    compiled = torch.compile(lambda model, human: divergence(model, human).sum(), fullgraph=True, mode=mode)
    for _ in range(4):
        model, human = maps(16, *size)
        torch.compiler.cudagraph_mark_step_begin()
        value = compiled(model, human)
        (gradient,) = torch.autograd.grad(value, model)
        eager = divergence(model, human).sum()
        torch.testing.assert_close(value, eager)
        torch.testing.assert_close(gradient, torch.autograd.grad(eager, model)[0])


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    model, human = maps(16, 7, 7)
    plain = values_and_gradient(by("triton", "kl"), model, human)
    with torch.autocast(DEVICE, dtype):
        torch.testing.assert_close(values_and_gradient(by("triton", "kl"), model, human), plain, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(7, 7), (71, 67)], ids=str)
def test_maps_on_another_device_than_the_current_one(size: tuple[int, ...]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("There is one GPU.")
    model, human = (side.detach() for side in maps(16, *size))
    here = values_and_gradient(by("triton", "mse"), model, human)
    there = values_and_gradient(by("triton", "mse"), model.to("cuda:1"), human.to("cuda:1"))
    torch.testing.assert_close([side.to("cuda:0") for side in there], list(here), rtol=0, atol=0)


def test_a_stream_of_its_own() -> None:
    model, human = (side.detach() for side in maps(2048, 64, 64))
    expected = values_and_gradient(by("triton", "mse"), model, human)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = model.clone()
        for _ in range(50):
            late = -late
        found = values_and_gradient(by("triton", "mse"), late, human)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(64, 64), (224, 224)], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_memory_for_one_map_and_statistics_of_rows(name: str, size: tuple[int, ...]) -> None:
    model, human = maps(256, *size)
    values_and_gradient(by("triton", name), model, human)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    values = by("triton", name)(model, human)
    torch.autograd.grad(values.sum(), model)
    per_row = 256 * len(model) + 16 * 512  # bytes, and what allocations are rounded up to
    assert torch.cuda.max_memory_allocated() - before <= model.nbytes + per_row


def launches_of(step: Callable[[], Any]) -> list[str]:
    """The names of what a step runs on the GPU, copies and fills included."""
    step()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    return [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]


@pytest.mark.parametrize("name", KINDS)
def test_three_launches_for_small_maps(name: str) -> None:
    model, human = maps(256, 7, 7)
    upstream = torch.ones(256, device=DEVICE)
    divergence = by("auto", name)
    launched = launches_of(lambda: torch.autograd.grad(divergence(model, human), model, upstream))
    assert sum("short_rows" in kernel for kernel in launched) == 2
    assert len(launched) <= 3, launched


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("size", [(7, 7), (71, 67)], ids=str)
def test_the_host_waits_for_nothing(size: tuple[int, ...]) -> None:
    divergence = 0.7 * by("triton", "mse") + 0.3 * by("triton", "kl")
    model, human = maps(32, *size)
    values_and_gradient(divergence, model, human)
    torch.cuda.synchronize()
    with no_waiting():
        torch.autograd.grad(divergence(model, human).sum(), model)


@pytest.mark.parametrize("name", ["cam", "grad_cam", "input_gradient"])
def test_a_guided_step_is_that_of_eager(name: str) -> None:
    images, labels, human = (tensor.to(DEVICE) for tensor in batch())
    network = plain_net().to(DEVICE)
    results = []
    for backend in ("eager", "triton"):
        net = copy.deepcopy(network)
        with torch.backends.cudnn.flags(allow_tf32=False, deterministic=True):
            loss = sl.SaliencyGuidedLoss(net, name, by(backend, "mse"))(images, labels, human).loss
            results.append((loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))))
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-6)
