"""Large batches, evaluated a few rows at a time: the numbers of the direct way, or the direct way itself."""

import pytest
import torch
from conftest import one_of
from torch import nn

import saliency_losses as sl
from saliency_losses.divergences import KL, MSE, Divergence, MinMax, Prior, evaluate, masked_mean
from saliency_losses.testing import check_divergence
from saliency_losses.testing.probes import draw, draw_human, other_sizes, probe_size

NAMES = sl.list_divergences()


class Spread(Prior):
    """A prior."""

    def measure(self, model):
        return model.square().mean(1)


class Learned(Divergence):
    """A divergence with a parameter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def compare(self, model, human, known):
        return masked_mean((self.scale * model - human).square(), known)


SUM = 0.7 * KL() + 0.3 * MSE() + 0.1 * Spread()


@pytest.fixture
def by_rows(monkeypatch):
    """Row by row, and a list that grows by one for each batch that went that way."""
    taken = []

    def spy(*args):
        found = chosen(*args)
        if found:
            taken.append(True)
        return found

    chosen = evaluate._by_rows
    monkeypatch.setattr(evaluate, "_by_rows", spy)
    monkeypatch.setattr(evaluate, "_CHUNK", 1)
    return taken


def both_ways(monkeypatch, function):
    """What a function gives in the direct way and row by row."""
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "_CHUNK", 10**9)
        direct = function()
    monkeypatch.setattr(evaluate, "_CHUNK", 90)  # two maps of 6 by 7 at once
    return direct, function()


DIVERGENCES = {
    **{name: sl.create_divergence(name) for name in NAMES},
    "sum": SUM,
    "batch": MSE(normalize=MinMax(scope="batch"), human_normalize=MinMax(scope="batch")),
}


@pytest.mark.parametrize("name", one_of(DIVERGENCES, "mse", "kl", "batch"))
def test_keeps_the_contract_row_by_row(name, by_rows):
    divergence = DIVERGENCES[name]
    check_divergence(divergence)
    assert bool(by_rows) == (divergence.scope == "sample")


@pytest.mark.parametrize("name", one_of(DIVERGENCES, "mse", "kl", "right_reasons", "sum", "batch"))
@pytest.mark.parametrize("what", ["whole", "known", "share", "larger", "smaller", "larger known"])  # of the human map
def test_gives_the_same_value_and_gradient(name, what, monkeypatch):
    divergence = DIVERGENCES[name]
    size = probe_size(divergence)
    probe = draw(divergence, size)
    human, known = probe.human, None
    what = "whole" if human is None else what
    if "er" in what:
        human = draw_human(divergence, other_sizes(size)["smaller" in what])
    if "known" in what or what == "share":
        known = torch.rand_like(human)
        known = known if what == "share" else known.round()
        known[2] = 0.0
        human = torch.where(known > 0, human, float("nan"))
    weights = torch.rand(5, dtype=torch.float64)

    def step():
        leaf = probe.model.clone().requires_grad_()
        value = divergence(leaf, human, known)
        return value, torch.autograd.grad((value * weights).sum(), leaf)[0]

    (value, gradient), (other, same) = both_ways(monkeypatch, step)
    torch.testing.assert_close(other, value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(same, gradient, rtol=1e-10, atol=1e-12)


def test_second_derivatives_are_those_of_the_direct_way(monkeypatch):
    model, human = torch.randn(5, 6, 7, dtype=torch.float64), torch.rand(5, 6, 7, dtype=torch.float64)

    def step():
        leaf = model.clone().requires_grad_()
        maps = leaf.exp()  # not a leaf itself
        (first,) = torch.autograd.grad(SUM(maps, human).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        return first.detach(), second

    for one, other in zip(*both_ways(monkeypatch, step), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)


def test_second_derivatives_do_not_follow_autocast(by_rows):
    model, human = torch.randn(5, 42), torch.rand(5, 42)
    leaf = model.requires_grad_()

    class Product(Divergence):
        """Computed by a matrix product, which autocast takes to bfloat16."""

        def compare(self, model, human, known):
            return (model.square() @ human.T).diagonal()

    value = Product()(leaf, human).sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (first,) = torch.autograd.grad(value, leaf, create_graph=True)
    assert by_rows
    torch.testing.assert_close(first.detach(), (2 * model * human).detach(), rtol=1e-6, atol=1e-6)


def test_a_graph_that_is_kept_gives_its_gradient_again(by_rows):
    leaf = torch.randn(5, 42, requires_grad=True)
    value = SUM(leaf, torch.rand(5, 42)).sum()
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (second,) = torch.autograd.grad(2.0 * value, leaf)
    assert by_rows
    torch.testing.assert_close(second, 2.0 * first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_gradients_of_half_precision_maps_survive_until_they_are_scaled(dtype, monkeypatch):
    """As a gradient scaler needs it: in half precision the gradient itself would vanish."""
    model, human = torch.randn(5, 100).to(dtype), torch.rand(5, 100)

    def step():
        leaf = model.clone().requires_grad_()
        value = (1e-6 * MSE())(leaf, human).sum()
        return torch.autograd.grad(2.0**16 * value, leaf)[0]

    direct, rows = both_ways(monkeypatch, step)
    assert rows.dtype == dtype
    assert direct.any()
    torch.testing.assert_close(rows, direct)


def test_no_gradient_is_computed_that_nobody_asked_for(by_rows, monkeypatch):
    taken = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: taken.append(1) or grad(*a, **k))
    human = torch.rand(5, 42)
    assert not MSE()(torch.randn(5, 42), human).requires_grad
    with torch.no_grad():
        assert not MSE()(torch.randn(5, 42, requires_grad=True), human).requires_grad
    with torch.inference_mode():
        MSE()(torch.randn(5, 42), human)
    assert len(by_rows) == 3
    assert not taken
    MSE()(torch.randn(5, 42, requires_grad=True), human)
    assert taken


def test_what_else_asks_for_a_gradient_gets_it(by_rows):
    model, human = torch.randn(5, 42, dtype=torch.float64), torch.rand(5, 42, dtype=torch.float64)
    known = torch.rand(5, 42, dtype=torch.float64)
    learned, weights = Learned(), torch.rand(1, 5, dtype=torch.float64)
    held = Learned()
    del held.scale
    held.scale = torch.tensor(2.0, dtype=torch.float64)
    for leaf, step in (
        (weights.clone(), lambda leaf: evaluate.evaluate([MSE()], leaf, model, human, None)[0]),
        (human.clone(), lambda leaf: MSE()(model, leaf)),
        (known.clone(), lambda leaf: MSE()(model, human, leaf)),
        (learned.scale, lambda leaf: learned(model, human)),
        (held.scale, lambda leaf: held(model, human)),
    ):
        leaf.requires_grad_()
        (gradient,) = torch.autograd.grad(step(leaf).sum(), leaf)
        assert gradient.any()
        both = model.clone().requires_grad_()
        assert torch.autograd.grad(step(leaf).sum() + both.sum(), leaf)[0].any()


@pytest.mark.parametrize("maps_learn", [True, False])
def test_what_is_learned_in_a_closure_is_found_behind_the_values(maps_learn, monkeypatch):
    """In no module's state, so that only the graph tells."""
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    doubled = 2.0 * factor

    class Closure(Divergence):
        def compare(self, model, human, known):
            return masked_mean((doubled * model - human).square(), known)

    def step():
        model, human = torch.arange(210, dtype=torch.float64).view(5, 42), torch.ones(5, 42, dtype=torch.float64)
        value = Closure()(model.requires_grad_(maps_learn), human)
        return value, torch.autograd.grad(value.sum(), factor, retain_graph=True)[0]

    (value, gradient), (other, same) = both_ways(monkeypatch, step)
    torch.testing.assert_close(value, other)
    torch.testing.assert_close(gradient, same)
    assert gradient


def test_weights_of_samples_can_be_learned_whatever_the_size_of_the_batch(by_rows):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).double()
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    guided = sl.SaliencyGuidedLoss(net, reduction="none")
    images, human = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.rand(4, 8, 8, dtype=torch.float64)
    out = guided(images, torch.tensor([0, 1, 1, 0]), human, saliency_sample_weight=weight)
    (gradient,) = torch.autograd.grad(out.saliency_loss.sum(), weight)
    torch.testing.assert_close(gradient, out.saliency_loss.detach())
    assert not by_rows


@pytest.mark.parametrize("chunk", [1, 10**9])
def test_a_part_that_trains_nothing_is_named(chunk, monkeypatch):
    class Detached(Divergence):
        def compare(self, model, human, known):
            return masked_mean((model.detach() - human).square(), known)

    monkeypatch.setattr(evaluate, "_CHUNK", chunk)
    for divergence in (Detached(), MSE() + Detached()):
        with pytest.raises(RuntimeError, match=r"^Detached\(\) gives values that do not depend on the model's map"):
            divergence(torch.randn(5, 42, requires_grad=True), torch.rand(5, 42))
        assert divergence(torch.randn(5, 42), torch.rand(5, 42)).shape == (5,)


def test_forward_mode_takes_the_direct_way(by_rows):
    model, human = torch.randn(5, 42, dtype=torch.float64), torch.rand(5, 42, dtype=torch.float64)
    direction = torch.randn_like(model)
    leaf = model.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(MSE()(leaf, human).sum(), leaf)
    by_rows.clear()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(model, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(MSE()(dual, human)).tangent
    torch.testing.assert_close(tangent, (gradient * direction).sum(1))
    assert not by_rows


def test_only_what_fits_no_core_is_cut(monkeypatch):
    rows = []
    monkeypatch.setattr(evaluate, "_CHUNK", 100)
    apply = evaluate._Rows.apply
    monkeypatch.setattr(evaluate._Rows, "apply", lambda *args: rows.append(args[-1]) or apply(*args))
    MSE()(torch.rand(2, 50), torch.rand(2, 50))
    assert rows == []
    MSE()(torch.rand(3, 50), torch.rand(3, 50))
    MSE()(torch.rand(3, 5), torch.rand(3, 50))
    MSE()(torch.rand(3, 1000), torch.rand(3, 1000))
    assert rows == [2, 2, 1]
