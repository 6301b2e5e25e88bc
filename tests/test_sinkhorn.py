"""Optimal transport between maps: against exact transport, closed forms, and itself written out."""

import numpy as np
import ot
import pytest
import torch
from scipy.spatial.distance import cdist

from saliency_losses.divergences import Sinkhorn, sinkhorn_divergence
from saliency_losses.divergences.transport import grid_cost, softmin, transport_potentials
from saliency_losses.testing import check_divergence


def places_of(size):
    axes = [(np.arange(side) + 0.5) / side for side in size]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def one_hot(size, *index):
    maps = torch.zeros(1, *size, dtype=torch.float64)
    maps[(0, *index)] = 1.0
    return maps


@pytest.mark.slow
@pytest.mark.parametrize("divergence", [Sinkhorn(p=1.0), Sinkhorn(blur=0.07)], ids=repr)
def test_contract_with_options(divergence):
    check_divergence(divergence)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("blur", [0.01, 0.1, 2.0])
def test_between_two_positions_it_is_their_cost(p, blur):
    cost = (4 / 6) ** p / p + (3 / 7) ** p / p
    value = sinkhorn_divergence(one_hot((6, 7), 0, 5), one_hot((6, 7), 4, 2), blur=blur, p=p)
    assert float(value) == pytest.approx(cost, rel=1e-9)
    assert float(sinkhorn_divergence(one_hot((8,), 1), one_hot((8,), 6), blur=blur, p=p)) == pytest.approx(
        (5 / 8) ** p / p, rel=1e-9
    )


@pytest.mark.parametrize(("size", "p", "blur"), [((64,), 2.0, 0.02), ((64,), 1.0, 0.004), ((6, 8), 1.0, 0.015)])
def test_without_blur_it_is_exact_transport(size, p, blur):
    fall = torch.linspace(0.0, -6.0, size[-1], dtype=torch.float64).exp()
    a, b = (torch.rand(3, *size, dtype=torch.float64) * side for side in (fall, fall.flip(0)))
    cost = cdist(places_of(size), places_of(size), "minkowski", p=p) ** p / p
    values = sinkhorn_divergence(a, b, blur=blur, p=p, iterations=20000)
    for x, y, value in zip(a.flatten(1).numpy(), b.flatten(1).numpy(), values, strict=True):
        assert float(value) == pytest.approx(ot.emd2(x / x.sum(), y / y.sum(), cost), rel=0.05)


@pytest.mark.parametrize("epsilon", [0.0005, 0.01, 1.0])
def test_axes_are_summed_over_one_by_one(epsilon):
    size = (3, 4, 2)
    logs, cost = torch.randn(2, *size, dtype=torch.float64) / epsilon, grid_cost(size, 2.0, torch.device("cpu"))
    pairs = torch.from_numpy(cdist(places_of(size), places_of(size), "sqeuclidean") / 2)
    expected = -epsilon * (logs.flatten(1).unsqueeze(1) - pairs / epsilon).logsumexp(2)
    torch.testing.assert_close(softmin(logs, cost, epsilon).flatten(1), expected, rtol=1e-12, atol=1e-12)


def test_the_plan_moves_all_mass_where_it_belongs():
    size, epsilon = (7, 8), 0.05**2
    a, b = (torch.randn(3, *size, dtype=torch.float64).flatten(1).softmax(1).view(3, *size) for _ in range(2))
    a[:, 0] = 0.0
    a = a / a.sum((1, 2), keepdim=True)
    f, g = transport_potentials(
        a, b, grid_cost(size, 2.0, torch.device("cpu")), epsilon, tolerance=1e-10, iterations=2000
    )
    pairs = torch.from_numpy(cdist(places_of(size), places_of(size), "sqeuclidean") / 2)
    plan = ((f.flatten(1)[:, :, None] + g.flatten(1)[:, None] - pairs) / epsilon).exp()
    plan = plan * a.flatten(1)[:, :, None] * b.flatten(1)[:, None]
    torch.testing.assert_close(plan.sum(2), a.flatten(1), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(plan.sum(1), b.flatten(1), rtol=0.0, atol=1e-9)


def test_a_map_stops_when_it_is_done_whatever_the_others_need():
    cost, options = grid_cost((40,), 2.0, torch.device("cpu")), {"tolerance": 1e-3, "iterations": 2000}
    a, b = (torch.randn(2, 40, dtype=torch.float64) for _ in range(2))
    a, b = (torch.stack([maps[0], 6.0 * maps[1]]).softmax(1) for maps in (a, b))
    together = transport_potentials(a, b, cost, 0.03**2, **options)
    alone = transport_potentials(a[:1], b[:1], cost, 0.03**2, **options)
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[:1], one, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"p": 1.0}, {"blur": 0.07}])
def test_zero_where_the_distributions_agree(options):
    divergence = Sinkhorn(normalize="sum", **options)
    human = torch.rand(3, 6, 6, dtype=torch.float64)
    leaf = (3.0 * human).requires_grad_()
    value = divergence(leaf, human)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0.0, atol=1e-13)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0.0, atol=1e-8)
    other = torch.rand(3, 6, 6, dtype=torch.float64)
    assert (divergence(other, human) > 1e-6).all()
    torch.testing.assert_close(divergence(other, human), divergence(human, other))


def test_a_near_miss_costs_less_than_a_far_one():
    human = one_hot((7, 7), 1, 1)
    misses = torch.cat([one_hot((7, 7), step, 1) for step in range(1, 7)])
    values = Sinkhorn()(misses, human.expand(6, -1, -1))
    assert (values.diff() > 0.0).all()


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_scale_of_the_models_map_does_not_matter(factor):
    model, human = torch.randn(3, 7, 7), torch.rand(3, 7, 7)
    torch.testing.assert_close(Sinkhorn()(model * factor, human), Sinkhorn()(model, human), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("size", [(1, 1), (5,), (14, 15), (3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_size_and_dtype(size, dtype):
    model, human = torch.randn(2, *size).to(dtype).requires_grad_(), torch.rand(2, *size).to(dtype)
    value = Sinkhorn()(model, human)
    (grad,) = torch.autograd.grad(value.sum(), model)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert grad.isfinite().all()
    assert bool(grad.any()) == (max(size) > 1)
    torch.testing.assert_close(value, Sinkhorn()(model.double(), human.double()).float(), rtol=1e-4, atol=1e-6)


def test_large_maps():
    model, human = torch.randn(1, 224, 224, requires_grad=True), torch.rand(1, 224, 224)
    value = Sinkhorn(blur=0.3)(model, human)
    (grad,) = torch.autograd.grad(value.sum(), model)
    assert grad.isfinite().all()
    assert grad.any()


def test_flat_and_empty_maps():
    human = torch.rand(2, 6, 6)
    leaf = torch.ones(2, 6, 6, requires_grad=True)
    value = Sinkhorn()(leaf, human)
    assert (value > 0.0).all()
    assert not torch.autograd.grad(value.sum(), leaf)[0].any()
    flat = Sinkhorn()(torch.ones(2, 6, 6), torch.zeros(2, 6, 6))
    torch.testing.assert_close(flat, torch.zeros(2), rtol=0.0, atol=1e-7)


def test_a_second_derivative_raises():
    leaf = torch.randn(1, 4, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(Sinkhorn()(leaf, torch.rand(1, 4, 4)).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="Sinkhorn has no second derivative: take its gradient once"):
        grad.square().sum().backward()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of PyTorch at graph breaks
def test_compiled_steps_run_it_as_it_is():
    model, human = torch.randn(2, 4, 4), torch.rand(2, 4, 4)
    results = []
    for compare in (Sinkhorn(), torch.compile(Sinkhorn(), backend="aot_eager")):
        leaf = model.clone().requires_grad_()
        value = compare(leaf, human)
        results.append((value, *torch.autograd.grad(value.sum(), leaf)))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_warns_where_the_plan_is_not_exact():
    model, human = torch.randn(2, 6, 6), torch.rand(2, 6, 6)
    with pytest.warns(UserWarning, match=r"not exact for 2 map\(s\) after 3 iterations.*Use a larger blur"):
        Sinkhorn(iterations=3)(model, human)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur": 0.0}, "blur must be positive and finite, got 0.0"),
        ({"blur": float("inf")}, "blur must be positive and finite, got inf"),
        ({"p": 3.0}, "p must lie between 1 and 2, got 3.0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"normalize": "minmax"}, r"^normalize of Sinkhorn must make a distribution.*got MinMax\(\)"),
        ({"human_normalize": "zscore"}, r"^human_normalize of Sinkhorn must make a distribution.*got ZScore\(\)"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Sinkhorn(**options)
