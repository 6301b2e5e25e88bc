"""Priors: what is asked of a model's map alone."""

import math

import pytest
import torch

import saliency_losses as sl
from saliency_losses.divergences import MSE, Area, Entropy, Gini, Softmax, TotalVariation, gini_index
from saliency_losses.testing import check_gradients

PRIORS = ("entropy", "total_variation", "gini", "area")
each = pytest.mark.parametrize("name", PRIORS)


@each
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 15), (224, 224), (5,), (3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_size_and_dtype(name, size, dtype):
    model = torch.randn(2, *size).to(dtype).requires_grad_()
    value = sl.create_divergence(name)(model)
    (grad,) = torch.autograd.grad(value.sum(), model)
    assert value.shape == (2,)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert grad.isfinite().all()
    assert bool(grad.any()) == (max(size) > 1)


@each
def test_needs_no_human_map_and_reads_none(name):
    prior, model = sl.create_divergence(name), torch.randn(3, 6, 6)
    assert prior.reads == "nothing"
    human, known = torch.rand(3, 6, 6), torch.zeros(3, 6, 6)
    assert torch.equal(prior(model), prior(model, human, known))


@pytest.mark.parametrize(
    "prior",
    [
        Entropy(),
        Entropy(normalize="sum"),
        Entropy(normalize=Softmax(temperature=0.3)),
        TotalVariation(),
        TotalVariation(normalize="minmax"),
        Gini(),
        Gini(normalize="minmax"),
        Gini(magnitudes="batch"),
        Area(),
        Area(power=1.0),
    ],
    ids=repr,
)
def test_gradients(prior):
    leaf = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    check_gradients(lambda: prior(leaf).sum(), {"the map": leaf})


@each
@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e6, 1e30])
def test_scale_of_the_map_does_not_matter(name, factor):
    model, prior = torch.randn(3, 7, 7), sl.create_divergence(name)
    leaf, same = (model * factor).requires_grad_(), model.clone().requires_grad_()
    value, expected = prior(leaf), prior(same)
    torch.testing.assert_close(value, expected)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(grad * factor, torch.autograd.grad(expected.sum(), same)[0], rtol=1e-3, atol=1e-6)


@each
def test_extreme_maps_are_finite(name):
    prior, one_hot = sl.create_divergence(name), torch.zeros(1, 6, 6)
    one_hot[0, 2, 3] = 1.0
    noise = torch.randn(1, 6, 6)
    spots = [factor * one_hot for factor in (1.0, -1.0, 3e38, 2e-38)]
    for model in (*spots, 1e38 * noise.clamp(-3.0, 3.0), noise.relu()):
        leaf = model.clone().requires_grad_()
        value = prior(leaf)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), leaf)[0].isfinite().all()


def test_positions_whose_share_vanishes_send_no_gradient():
    leaf = torch.randn(1, 6, 6).requires_grad_()
    value = Entropy(normalize=Softmax(temperature=1e-38))(leaf)
    (grad,) = torch.autograd.grad(1e3 * value.sum(), leaf)
    assert float(value.detach()) == 0.0
    assert not grad.any()


@pytest.mark.parametrize(
    ("name", "expected"), [("entropy", 1.0), ("total_variation", 0.0), ("gini", 1.0), ("area", 0.0)]
)
@pytest.mark.parametrize("level", [0.0, 0.7, -3.0, 1e30])
def test_flat_maps_send_no_gradient(name, expected, level):
    prior = sl.create_divergence(name)
    for noise in (0.0, 1e-8):
        leaf = (level * (1.0 + noise * torch.randn(2, 6, 6))).requires_grad_()
        value = prior(leaf)
        torch.testing.assert_close(value, torch.full((2,), expected))
        assert not torch.autograd.grad(value.sum(), leaf)[0].any()


def test_values_of_maps_that_one_can_do_by_hand():
    spot, half = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    spot[0, 1, 1] = half[0, :2] = 1.0
    sums = Entropy(normalize="sum")
    assert float(sums(spot)) == pytest.approx(0.0, abs=1e-5)
    assert float(sums(half)) == pytest.approx(math.log(8) / math.log(16), abs=1e-5)
    assert float(Gini()(spot)) == 1 / 16
    assert float(Gini()(half)) == float(Gini()(-half)) == 0.5
    assert float(Area()(half)) == 0.25
    assert float(Area(power=1.0)(half)) == 0.5
    assert float(Area(power=1.0, normalize="none")(half - 0.5)) == 0.25
    raw = TotalVariation(normalize="none")
    assert float(raw(spot)) == pytest.approx(4 / 24)
    assert float(raw(half)) == pytest.approx(4 / 24)
    assert float(raw(half[:, :1])) == 0.0
    assert float(Entropy()(torch.ones(1, 1, 1))) == 0.0


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e38])
def test_the_index_of_the_mean_over_the_batch(factor):
    prior = Gini(magnitudes="batch")
    model = torch.rand(4, 300, 300) - 0.5  # more than is worked on at once
    expected = Gini()(model.abs().mean(0, keepdim=True)).expand(4)
    assert prior.scope == "batch"
    torch.testing.assert_close(prior(model * factor), expected)
    empty = torch.zeros(2, 5, requires_grad=True)
    assert torch.equal(prior(empty), torch.ones(2))
    assert not torch.autograd.grad(prior(empty).sum(), empty)[0].any()


@pytest.mark.parametrize("name", ["entropy", "gini", "area"])
def test_positions_are_all_alike(name):
    model, prior = torch.randn(2, 6, 6), sl.create_divergence(name)
    torch.testing.assert_close(prior(model.flatten(1)[:, torch.randperm(36)]), prior(model))


@pytest.mark.parametrize("prior", [Entropy(), TotalVariation(normalize="minmax"), Gini(), Area()], ids=repr)
def test_a_step_against_the_gradient_narrows_the_map(prior):
    model = torch.rand(1, 6, 6, dtype=torch.float64)
    for _ in range(300):
        leaf = model.requires_grad_()
        value = prior(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        model = (leaf - 0.002 * grad / grad.norm()).detach()
    assert float(prior(model)) < float(prior(torch.rand(1, 6, 6, dtype=torch.float64)))
    assert float(gini_index(model.flatten(1))) > 0.0


def test_a_sum_with_a_comparison():
    model, human = torch.randn(3, 6, 6), torch.rand(3, 6, 6)
    total = MSE() + 0.1 * Entropy() + 0.2 * TotalVariation()
    expected = MSE()(model, human) + 0.1 * Entropy()(model) + 0.2 * TotalVariation()(model)
    torch.testing.assert_close(total(model, human), expected)
    assert repr(total) == "MSE() + 0.1 * Entropy() + 0.2 * TotalVariation()"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Area(power=0.5), "power must be finite and at least 1, got 0.5"),
        (lambda: Area(power=float("inf")), "power must be finite and at least 1, got inf"),
        (lambda: Entropy(normalize="minmax"), r"normalize of Entropy must make a distribution over positions"),
        (lambda: Gini(normalize="ginny"), "Unknown normalizer 'ginny'"),
        (lambda: Gini(magnitudes="all"), "magnitudes must be 'sample' or 'batch', got 'all'"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
