"""How two terms become one loss: every registered weighting, and what each of them promises."""

import copy
import io
import math
import pickle
import re
import warnings

import pytest
import torch
import torch._dynamo.testing
from conftest import one_of
from models import batch, plain_net
from test_compile import _NoLooks, compiling, same_step
from torch import nn
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.diagnosis.advice import USUAL
from saliency_losses.diagnosis.gradients import shares
from saliency_losses.divergences import MSE
from saliency_losses.weighting import (
    Additive,
    Balanced,
    ConstantUntil,
    Convex,
    Cosine,
    Dynamic,
    Linear,
    Normalised,
    OffUntil,
    Uncertainty,
    Weighting,
    dynamic,
    dynamic_shares,
    relative_weights,
    uncertainty,
)


def curve(epoch):
    """A schedule of a user's own."""
    return 0.3 + 0.1 * epoch


MAKE = {
    "additive": lambda: Additive(2.0),
    "additive, scheduled": lambda: Additive(2.0, schedule=curve),
    "balanced": lambda: Balanced(layer="2", ratio=0.5),
    "convex": lambda: Convex(0.3),
    "convex, scheduled": lambda: Convex(0.3, schedule=Cosine(0.2, 1.0, epochs=3)),
    "dynamic": Dynamic,
    "dynamic, undetached": lambda: Dynamic(detach=False),
    "normalised": lambda: Normalised(batches=3, weight=0.5),
    "uncertainty": Uncertainty,
    "uncertainty, gg_cam": lambda: Uncertainty(form="gg_cam", initial=(0.5, -1.0)),
}
every = pytest.mark.parametrize("name", MAKE)
LEARNING = [name for name in MAKE if name.split(",")[0] in ("balanced", "normalised", "uncertainty")]


def guided_by(weighting, net=None, **options):
    return sl.SaliencyGuidedLoss(plain_net() if net is None else net, weighting=weighting, **options)


def batches(count, size=4):
    for number in range(count):
        images, labels, human = batch(size)
        yield images + number / 3, labels, human.roll(number, 0)


def train(guided, optimizer, steps):
    for number, data in steps:
        optimizer.zero_grad()
        guided(*data).loss.backward()
        optimizer.step()
        if number % 2:
            guided.weighting.step()


def state_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same_state(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_every_registered_name_is_tested():
    assert {name.split(",")[0] for name in MAKE} == set(sl.list_weightings())
    for name in MAKE:
        assert isinstance(MAKE[name](), type(sl.create_weighting(name.split(",")[0], **needed(name))))


def needed(name):
    return {"layer": "2"} if name == "balanced" else {}


@every
def test_a_training_resumes_bit_for_bit(name):
    torch.manual_seed(0)
    steps = list(enumerate(batches(8)))
    whole = guided_by(MAKE[name]())
    begun = copy.deepcopy(whole)
    optimizer = torch.optim.Adam(whole.parameters(), lr=0.01)
    train(whole, optimizer, steps)

    optimizer = torch.optim.Adam(begun.parameters(), lr=0.01)
    train(begun, optimizer, steps[:4])
    file = io.BytesIO()
    torch.save({"guided": begun.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = guided_by(MAKE[name]())
    resumed.load_state_dict(saved["guided"])
    optimizer = torch.optim.Adam(resumed.parameters(), lr=0.01)
    optimizer.load_state_dict(saved["optimizer"])
    train(resumed, optimizer, steps[4:])
    same_state(whole.state_dict(), resumed.state_dict())
    for expected, found in zip(whole.weighting.buffers(), resumed.weighting.buffers(), strict=True):
        assert torch.equal(expected, found)


@every
def test_the_gradient_is_that_of_finite_differences(name, monkeypatch):
    weighting = MAKE[name]().double()
    task, saliency = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.7, 0.2))
    fixed = torch.tensor([0.7, 0.2], dtype=torch.float64)
    monkeypatch.setattr(dynamic, "levels", lambda *_, **__: fixed)  # what is detached is held

    def loss(task, saliency, *_):
        return weighting(task, saliency)

    parameters = tuple(weighting.parameters())
    assert torch.autograd.gradcheck(loss, (task, saliency, *parameters))
    rows = [torch.rand(3, dtype=torch.float64).add(0.1).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(loss, (*rows, *parameters))


@every
@pytest.mark.parametrize("known", ["1111", "0110", "0000", None])
def test_losses_by_sample_have_the_loss_as_their_mean(name, known):
    images, labels, human = batch()
    annotated = None if known is None else torch.tensor([flag == "1" for flag in known])
    options = {"annotated": annotated} if known else {}
    found = []
    for reduction in ("mean", "none"):
        torch.manual_seed(0)
        guided = guided_by(MAKE[name](), reduction=reduction)
        out = guided(images, labels, human if known else None, **options)
        found.append((out.loss, torch.autograd.grad(out.loss.sum(), guided.model[0].weight)[0]))
    (mean, _), (each, gradient) = found
    assert each.shape == (4,)
    assert bool(gradient.isfinite().all())
    if known == "1111":
        torch.testing.assert_close(each.mean(), mean)


@pytest.mark.parametrize("name", ["balanced", "normalised"])
def test_statistics_by_sample_are_those_of_the_samples_with_a_map(name):
    images, labels, human = batch()
    net, states = plain_net(), []
    for reduction in ("mean", "none"):
        guided = guided_by(MAKE[name](), net, reduction=reduction)
        guided(images, labels, human, annotated=torch.tensor([True, False, False, True]))
        states.append(guided.weighting.state_dict())
    torch.testing.assert_close(*states)


@every
def test_evaluation_changes_nothing_and_uses_what_was_learned(name):
    guided = guided_by(MAKE[name]())
    optimizer = torch.optim.SGD(guided.parameters(), lr=0.1)
    train(guided, optimizer, enumerate(batches(2)))
    before, data = state_of(guided), batch()
    with torch.no_grad():
        quiet = guided(*data)
    alone = guided.weighting(quiet.task_loss, quiet.saliency_loss)
    same_state(before, guided.state_dict())
    torch.testing.assert_close(quiet.loss, alone, rtol=0, atol=0)
    guided.eval()
    guided(*data).loss.backward()
    same_state(before, guided.state_dict())


@every
def test_looking_at_a_training_leaves_its_weighting_alone(name):
    guided = guided_by(MAKE[name]())
    train(guided, torch.optim.SGD(guided.parameters(), lr=0.1), enumerate(batches(2)))
    before, attributes = state_of(guided), dict(vars(guided.weighting))
    report = sl.preflight(guided, *batch(), time=False)
    assert {finding.code for finding in report.findings} == ({"reversed_saliency"} if "undetached" in name else set())
    assert 0 < report.gradients.ratio < math.inf
    found = sl.diagnose(guided, [batch(8)], gradient_batches=1)
    assert 0 < abs(found.gradients.weighted_ratio.median) < math.inf
    assert ("reverses the saliency term's gradient" in " ".join(found.reading)) == ("undetached" in name)
    same_state(before, guided.state_dict())
    assert vars(guided.weighting) == attributes


@every
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_are_equal_and_apart(name, copied):
    guided = guided_by(MAKE[name]())
    train(guided, torch.optim.SGD(guided.parameters(), lr=0.1), enumerate(batches(2)))
    other = copied(guided)
    same_state(guided.state_dict(), other.state_dict())
    before = state_of(guided)
    other.weighting.step()
    other(*batch()).loss.backward()
    same_state(before, guided.state_dict())
    assert repr(other.weighting) == repr(guided.weighting)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_terms_of_any_precision_are_finite_also_at_zero(name, dtype):
    weighting, net = MAKE[name](), nn.ModuleDict({"2": nn.Linear(1, 3, bias=False)}).to(dtype)
    for task, saliency in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (3.0, 1e-3), (1e-3, 3.0)]:
        for shape in ((), (3,)):
            leaf = net["2"].weight[0, 0]
            terms = [torch.full(shape, value, dtype=dtype) * (1 + leaf - leaf.detach()) for value in (task, saliency)]
            loss = weighting(*terms, net)
            assert loss.shape == shape
            gradient = torch.autograd.grad(loss.sum(), [net["2"].weight, *weighting.parameters()])
            assert bool(loss.isfinite().all())
            assert all(bool(g.isfinite().all()) for g in gradient)
        assert all(bool(value.isfinite().all()) for value in weighting.state_dict().values())


@every
def test_state_keeps_its_precision(name):
    guided = guided_by(MAKE[name](), plain_net())
    half = copy.deepcopy(guided).to(torch.bfloat16)
    assert all(b.dtype in (torch.float32, torch.long) for b in half.weighting.buffers())
    double = copy.deepcopy(guided).double()
    images, labels, human = batch(dtype=torch.float64)
    assert double(images, labels, human).loss.dtype == torch.float64


@pytest.mark.parametrize("name", [name for name in MAKE if MAKE[name]().state_dict()])
def test_state_is_where_the_terms_are(name):
    weighting, moved = MAKE[name](), []
    weighting.to = moved.append
    guided_by(weighting)
    assert moved == [torch.device("cpu")]
    terms = torch.ones((), device="meta"), torch.ones((), device="meta")
    with pytest.raises(
        RuntimeError, match=r"terms are on meta, but the state of .* is on cpu: move the loss, guided\.to"
    ):
        MAKE[name]()(*terms)


@every
def test_the_next_step_may_come_before_backward(name):
    guided, data = guided_by(MAKE[name]()), batch()
    losses = []
    for _ in range(3):
        losses.append(guided(*data).loss)
        guided.weighting.step()
    sum(losses).backward()


@every
def test_a_step_never_waits_for_the_device(name, monkeypatch):
    monkeypatch.setattr(uncertainty, "looks_at_values", lambda term: False)
    net, weighting = plain_net(), MAKE[name]()
    terms = net(batch()[0]).square().mean(0)[:2]
    with _NoLooks():
        for _ in range(2):
            weighting(*terms, net).backward(retain_graph=True)


@compiling
@pytest.mark.parametrize("name", one_of([name for name in MAKE if name != "balanced"], "convex, scheduled"))
def test_a_compiled_step_reads_the_weight_anew(name):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    eager = guided_by(MAKE[name]())
    other = copy.deepcopy(eager)
    other.prepare(*batch()[:2])
    step = torch.compile(other, backend=counter, fullgraph=True)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (eager, other)]
    for data in batches(4):
        outs = eager(*data), step(*data)
        torch.testing.assert_close(outs[0].loss, outs[1].loss)
        for out, optimizer in zip(outs, optimizers, strict=True):
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
        eager.weighting.step(), other.weighting.step()
    assert counter.frame_count == 1
    for expected, found in zip(eager.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(expected, found, rtol=1e-3, atol=1e-5)


@compiling
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler itself
def test_balanced_says_that_it_does_not_compile_into_one_graph():
    torch._dynamo.reset()
    eager = guided_by(MAKE["balanced"]())
    other = copy.deepcopy(eager)
    other.prepare(*batch()[:2])
    with pytest.raises(Exception, match=r"Balanced takes the gradient of both terms.*compile='backbone'"):
        torch.compile(other, backend="aot_eager", fullgraph=True)(*batch())
    torch._dynamo.reset()
    step = torch.compile(other, backend="aot_eager")
    for data in batches(2):
        same_step((eager, eager(*data)), (other, step(*data)))
    torch._dynamo.reset()


# Schedules


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (OffUntil(2), [0, 0, 1, 1]),
        (OffUntil(0), [1, 1]),
        (ConstantUntil(2), [1, 1, 0, 0]),
        (Linear(0.5, 1.5, 4, first=1), [0.5, 0.5, 0.75, 1.0, 1.25, 1.5, 1.5]),
        (Cosine(1.0, 0.0, 2, first=1), [1.0, 1.0, 0.5, 0.0, 0.0]),
    ],
)
def test_a_schedule_scales_the_share_of_the_saliency(schedule, factors):
    task, saliency = torch.tensor(2.0), torch.tensor(3.0)
    convex, additive = Convex(0.4, schedule=schedule), Additive(0.7, schedule=schedule)
    for factor in factors:
        share = 0.6 * factor
        torch.testing.assert_close(convex(task, saliency), (1 - share) * task + share * saliency)
        torch.testing.assert_close(additive(task, saliency), task + 0.7 * factor * saliency)
        assert convex.needs_saliency == additive.needs_saliency == (factor > 0)
        assert convex.scheduled_off == (factor == 0)
        convex.step(), additive.step()


@pytest.mark.parametrize("make", [Convex, Additive])
def test_while_the_schedule_is_off_a_step_is_a_plain_step(make):
    class Never(sl.SaliencyExtractor):
        order = 2

        def forward(self, model, inputs, classes, *, run=None):
            raise AssertionError("the extractor was called")

    guided, (images, labels, human) = guided_by(make(0.5, schedule=OffUntil(1)), extractor=Never()), batch()
    out = guided(images, labels, human)
    torch.testing.assert_close(out.loss, F.cross_entropy(guided.model(images), labels))
    guided.weighting.step()
    with pytest.raises(AssertionError, match="the extractor was called"):
        guided(images, labels, human)


def test_without_a_schedule_nothing_is_added_to_the_state():
    assert not any(key.startswith("weighting") for key in sl.SaliencyGuidedLoss(plain_net()).state_dict())
    weighting = Convex(0.3)
    weighting.step()
    assert weighting(torch.tensor(1.0), torch.tensor(2.0)) == torch.tensor(1.7)
    assert "schedule" not in repr(weighting)
    assert repr(Convex(schedule=OffUntil(3))) == "Convex(alpha=0.5, schedule=OffUntil(epochs=3))"


def test_a_clock_that_stands_still_is_told_once():
    guided = guided_by(Convex(schedule=OffUntil(5)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            guided.eval(), guided.train(), guided.train()
    with pytest.warns(UserWarning, match=r"still stands at epoch 0: call guided\.weighting\.step\(\) once per epoch"):
        guided.eval(), guided.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guided.eval(), guided.train()
        stepped = guided_by(Convex(schedule=OffUntil(5)))
        plain = sl.SaliencyGuidedLoss(plain_net())
        for _ in range(4):
            stepped.weighting.step()
            stepped.eval(), stepped.train(), plain.eval(), plain.train()


@compiling
@pytest.mark.slow
def test_a_compiled_step_begins_to_take_maps_when_the_schedule_does():
    torch._dynamo.reset()
    eager = guided_by(Convex(0.3, schedule=OffUntil(1)))
    other = copy.deepcopy(eager)
    other.prepare(*batch()[:2])
    step = torch.compile(other, backend="aot_eager", fullgraph=True)
    for _ in range(3):
        torch.testing.assert_close(eager(*batch()).loss, step(*batch()).loss)
        eager.weighting.step(), other.weighting.step()
    torch._dynamo.reset()


def test_what_a_schedule_has_off_is_examined_and_diagnosed():
    guided = guided_by(Convex(0.3, schedule=OffUntil(2)))
    report = sl.preflight(guided, *batch(), time=False)
    assert not report.findings
    assert report.gradients.ratio > 0
    said = " ".join(sl.diagnose(guided, [batch(8)]).reading)
    assert "The schedule of Convex(alpha=0.3, schedule=OffUntil(epochs=2)) switches the saliency term off" in said
    assert "Guidance does not work" in said
    assert guided.weighting.scheduled_off


# Dynamic


def test_dynamic_shares_are_those_of_the_published_code():
    task, saliency = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.05, dtype=torch.float64)
    assert float(dynamic_shares(task, saliency)[0]) == pytest.approx(0.933333320889, abs=1e-12)
    alpha = 0.7 / (0.7 + 0.05 + 1e-8)
    for detach in (True, False):
        assert float(Dynamic(detach=detach)(task, saliency)) == pytest.approx(alpha * 0.7 + (1 - alpha) * 0.05)


def test_only_the_undetached_form_reverses_the_gradient_of_the_saliency():
    for ratio in (0.05 / 0.7, 0.2, 0.40, 0.43, 1.0, 5.0):
        task, saliency = torch.tensor(0.7), torch.tensor(0.7 * ratio)
        assert shares(Dynamic(), task, saliency)[1] > 0
        assert (shares(Dynamic(detach=False), task, saliency)[1] < 0) == (ratio < math.sqrt(2) - 1)
    task, saliency = torch.tensor(0.7), torch.tensor(0.05)
    assert shares(Dynamic(), task, saliency)[1] == pytest.approx(0.067, abs=1e-3)
    assert shares(Dynamic(detach=False), task, saliency)[1] == pytest.approx(-0.742, abs=1e-3)


def test_training_by_the_undetached_form_makes_maps_worse():
    changes = []
    for detach in (True, False):
        torch.manual_seed(0)
        net, (images, labels, human) = plain_net(), batch()
        guided = guided_by(Dynamic(detach=detach), net, task_loss=lambda output, _: 0 * output.sum() + 5.0)
        first = guided(images, labels, human)
        first.loss.backward()
        torch.optim.SGD(net.parameters(), lr=0.05).step()
        changes.append(float((guided(images, labels, human).saliency_loss - first.saliency_loss).detach()))
    assert changes[0] < 0 < changes[1]


@pytest.mark.parametrize("task", [-0.7, 0.7, 0.0])
@pytest.mark.parametrize("saliency", [-2.0, 0.3, 0.0])
def test_dynamic_shares_stay_in_range_for_negative_terms(task, saliency):
    first, second = shares(Dynamic(), torch.tensor(task), torch.tensor(saliency))
    assert 0.0 <= first <= 1.0
    assert first + second == pytest.approx(1.0)


def test_terms_of_any_size_are_weighed():
    huge, tiny = torch.tensor(3e38), torch.tensor(1e-38)
    assert [float(share) for share in dynamic_shares(huge, huge)] == [0.5, 0.5]
    for task, saliency in ((huge, huge), (huge, tiny), (tiny, huge), (tiny, tiny)):
        weighting = Normalised(batches=3)
        for _ in range(3):
            weighting(task, saliency, plain_net())
        assert bool(weighting.rate().isfinite())
        for detach in (True, False):
            first, second = shares(Dynamic(detach=detach), task, saliency)
            assert math.isfinite(first)
            assert math.isfinite(second)


# Uncertainty


@pytest.mark.parametrize("form", ["kendall", "gg_cam"])
def test_uncertainty_is_the_published_formula(form):
    a, b, task, saliency = 0.4, -1.2, 0.9, 0.3
    s1, s2 = math.exp(a), math.exp(b)
    penalty = (lambda s: math.log(s)) if form == "kendall" else (lambda s: math.log(s + 1))
    expected = task / s1**2 + penalty(s1) + saliency / (2 * s2**2) + penalty(s2)
    weighting = Uncertainty(form=form, initial=(a, b)).double()
    terms = (torch.tensor(value, dtype=torch.float64) for value in (task, saliency))
    assert float(weighting(*terms).detach()) == pytest.approx(expected, rel=1e-6)


def test_the_best_sigmas_are_those_of_the_terms():
    weighting = Uncertainty()
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        weighting(torch.tensor(0.5), torch.tensor(0.09)).backward()
        optimizer.step()
    variances = weighting.log_sigma.detach().mul(2).exp()
    torch.testing.assert_close(variances, torch.tensor([2 * 0.5, 0.09]), rtol=1e-3, atol=1e-4)


def test_absent_maps_do_not_move_the_sigmas():
    guided, (images, labels, human) = guided_by("uncertainty"), batch()
    for maps, options in ((None, {}), (human, {"annotated": torch.zeros(4, dtype=torch.bool)})):
        (gradient,) = torch.autograd.grad(guided(images, labels, maps, **options).loss, guided.weighting.log_sigma)
        assert gradient[0] != 0
        assert gradient[1] == 0


def test_sigmas_that_no_optimizer_holds_are_told_once():
    for held in (True, False):
        net, weighting = nn.Linear(1, 2), Uncertainty()
        optimizer = torch.optim.SGD([*net.parameters(), *weighting.parameters()] if held else net.parameters(), lr=0.0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(205):
                loss = weighting(*net(torch.ones(1)).square(), net)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        assert [str(one.message) for one in told if "sigmas" in str(one.message)] == ([] if held else [SIGMAS])


SIGMAS = (
    "In 100 steps nothing has changed the sigmas of Uncertainty: the optimizer does not hold them. Give it "
    "guided.parameters() instead of model.parameters()."
)


# Balanced


def norms(out, net, layer="2"):
    module = net.get_submodule(layer)
    return [
        torch.cat([g.flatten() for g in torch.autograd.grad(t, module.parameters(), retain_graph=True)]).norm()
        for t in (out.task_loss, out.saliency_loss)
    ]


def test_balanced_keeps_the_ratio_of_gradients():
    net = plain_net()
    guided = guided_by(Balanced(layer="2", ratio=0.25, momentum=0.0), net)
    for data in batches(3):
        out = guided(*data)
        task, saliency = norms(out, net)
        torch.testing.assert_close(guided.weighting.weight * saliency, 0.25 * task)
        torch.testing.assert_close(out.loss, out.task_loss + guided.weighting.weight * out.saliency_loss)
        assert all(p.grad is None for p in net.parameters())


def test_balanced_smooths_from_its_second_measurement_on():
    net = plain_net()
    guided, expected = guided_by(Balanced(layer="2", momentum=0.8), net), None
    for data in batches(3):
        task, saliency = norms(guided(*data), net)
        found = float(task / saliency)
        expected = found if expected is None else 0.8 * expected + 0.2 * found
        assert float(guided.weighting.weight) == pytest.approx(expected, rel=1e-4)


def test_balanced_leaves_its_weight_where_there_is_nothing_to_measure():
    guided, (images, labels, human) = guided_by(Balanced(layer="2")), batch()
    guided(images, labels, human)
    before = state_of(guided.weighting)
    guided(images, labels, None)
    guided(images, labels, human, annotated=torch.zeros(4, dtype=torch.bool))
    broken = torch.tensor(float("inf")) * guided.model(images).sum()
    guided.weighting(broken, guided.model(images).sum(), guided.model)
    same_state(before, guided.weighting.state_dict())


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-7])
def test_balanced_measures_gradients_that_vanish_in_half_precision(size):
    net, weights = plain_net(), []
    for enabled in (False, True):
        guided = sl.SaliencyGuidedLoss(net, divergence=size * MSE(), weighting=Balanced(layer="0", limit=1e9))
        with torch.autocast("cpu", dtype=torch.float16, enabled=enabled):
            guided(*batch())
        weights.append(guided.weighting.weight)
    torch.testing.assert_close(weights[1], weights[0], rtol=0.02, atol=0.0)


def test_balanced_is_limited():
    net = plain_net()
    guided = guided_by(Balanced(layer="2", limit=7.0), net, divergence=Tiny())
    guided(*batch())
    assert float(guided.weighting.weight) == 7.0


class Tiny(sl.Divergence):
    """Almost no gradient."""

    def compare(self, model, human, known):
        return 1e-12 * (model - human).square().mean(1)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_balanced_finds_its_layer_behind_wrappers(prefix):
    average = torch.optim.swa_utils.AveragedModel(plain_net())
    guided = guided_by(Balanced(layer=f"{prefix}2"), average)
    guided(*batch()).loss.backward()
    assert int(guided.weighting.updates) == 1


def frozen():
    net = plain_net()
    net[2].requires_grad_(False)
    return net


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: guided_by(Balanced(layer="22")), ValueError, r"no layer '22'\. Did you mean '2'"),
        (lambda: guided_by(Balanced(layer="3")), ValueError, r"layer '3', but none is trainable\. Name a module"),
        (lambda: guided_by(Balanced(layer="2"), frozen()), ValueError, "none is trainable"),
        (
            lambda: guided_by(Balanced(layer="6"), extractor="activation_map"),
            RuntimeError,
            "The saliency term does not depend on the parameters of layer '6'.*Name a layer in front",
        ),
        (
            lambda: guided_by(Balanced(layer="2"), task_loss=lambda output, _: output.detach().sum()),
            RuntimeError,
            "The task term does not depend on the parameters of layer '2'",
        ),
    ],
)
def test_a_layer_that_cannot_be_measured_is_an_error(make, error, text):
    with pytest.raises(error, match=text):
        make()(*batch())


# Normalised


def test_normalised_takes_its_rate_from_the_first_batches_with_maps():
    guided = guided_by(Normalised(batches=2, weight=0.5))
    assert float(guided.weighting.rate()) == 1.0
    totals = [0.0, 0.0]
    for number, (images, labels, human) in enumerate(batches(5)):
        maps = None if number in (0, 2) else human
        out = guided(images, labels, maps)
        if number in (1, 3):
            totals = [total + float(term.detach()) for total, term in zip(totals, out[1:3], strict=True)]
        rate = totals[0] / totals[1] if number else 1.0
        torch.testing.assert_close(out.loss, out.task_loss + 0.5 * rate * out.saliency_loss)
    assert int(guided.weighting.counted) == 2


def test_normalised_takes_no_rate_from_a_broken_batch():
    weighting, net = Normalised(batches=2), plain_net()
    for task in (float("nan"), float("inf"), 2.0):
        loss = weighting(torch.tensor(task), torch.tensor(-0.5), net)
    assert float(weighting.rate()) == 4.0
    assert float(loss) == 0.0
    assert int(weighting.counted) == 1


# Advice


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda value=1e-6: Normalised(weight=value), "Raise weight to about"),
        (lambda value=1e6: Normalised(weight=value), "Lower weight to about"),
        (lambda value=1e-6: Balanced(layer="2", ratio=value), "Raise ratio to about"),
        (lambda value=1e-6: Additive(value, schedule=Linear(0.5, 0.5, 1)), "Raise saliency_weight to about"),
        (lambda value=1 - 1e-6: Convex(value, schedule=Linear(0.5, 0.5, 1)), "Lower alpha to about"),
    ],
)
def test_the_suggested_option_gives_the_usual_share(make, word):
    net, data = plain_net(), batch(8)

    def diagnosis(weighting):
        guided = guided_by(weighting, net)
        guided(*data)
        return sl.diagnose(guided, [data])

    sentence = next(one for one in diagnosis(make()).reading if "about" in one)
    assert word in sentence
    better = diagnosis(make(float(sentence.split("about ")[1].rstrip("."))))
    assert better.gradients.weighted_ratio.median == pytest.approx(USUAL, rel=0.1)


@pytest.mark.parametrize("weighting", [Uncertainty(initial=(-6.0, 6.0)), Uncertainty(initial=(6.0, -6.0))])
def test_weights_that_set_themselves_are_compared_with_a_fixed_one(weighting):
    found = sl.diagnose(guided_by(weighting), [batch(8)])
    sentence = next(one for one in found.reading if "sets weights by itself" in one)
    assert f"saliency_weight={USUAL / found.gradients.ratio.median:.2g} would do it." in sentence


def test_preflight_names_the_weighting_to_replace():
    report = sl.preflight(guided_by("dynamic", divergence=Tiny()), *batch(), time=False)
    (remedy,) = (finding.remedy for finding in report.findings)
    assert re.search(r"saliency_weight=\S+ instead of Dynamic\(\)", remedy)


# Options


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: guided_by("convex", alpha=0.3), ValueError, "alpha, saliency_weight and weighting exclude each other"),
        (lambda: guided_by("additive", saliency_weight=1.0), ValueError, "weighting exclude each other; give one"),
        (lambda: guided_by("kendal"), ValueError, "Unknown weighting 'kendal'"),
        (lambda: guided_by(Dynamic), TypeError, r"Pass an instance: Dynamic\(\.\.\.\)"),
        (lambda: guided_by(0.5), TypeError, "weighting must be a name or a Weighting, got 0.5"),
        (lambda: guided_by("balanced"), TypeError, "layer"),
        (lambda: Convex(1.5), ValueError, r"alpha must lie in \[0, 1\]"),
        (lambda: Additive(-1.0), ValueError, "saliency_weight must be finite and not negative"),
        (lambda: Convex(schedule=0.5), TypeError, r"such as Linear\(0.0, 1.0, epochs=10\), got 0.5"),
        (lambda: Convex(schedule=OffUntil), TypeError, "must map an epoch to a factor"),
        (
            lambda: Convex(0.5, schedule=lambda _: 2.5),
            ValueError,
            r"at most 1 / \(1 - alpha\) = 2, got 2.5 for epoch 0",
        ),
        (lambda: Additive(schedule=lambda _: -1.0), ValueError, "not negative and finite, got -1.0"),
        (lambda: Additive(schedule=lambda _: float("nan")), ValueError, "got nan for epoch 0"),
        (lambda: Additive(schedule=lambda _: "all"), TypeError, "must map an epoch to a number, got 'all'"),
        (lambda: OffUntil(-1), ValueError, "epochs must be an integer of at least 0, got -1"),
        (lambda: ConstantUntil(1.5), ValueError, "epochs must be an integer"),
        (lambda: Linear(0.0, 1.0, 0), ValueError, "epochs must be an integer of at least 1, got 0"),
        (lambda: Cosine(0.0, math.inf, 3), ValueError, "stop must be finite and not negative, got inf"),
        (lambda: Linear(0.0, 1.0, 3, first=-2), ValueError, "first must be an integer of at least 0"),
        (lambda: Dynamic(eps=0.0), ValueError, "eps must be positive and finite"),
        (lambda: Uncertainty(form="other"), ValueError, "form must be 'kendall' or 'gg_cam', got 'other'"),
        (lambda: Uncertainty(initial=(1.0,)), ValueError, "initial must be two finite numbers"),
        (
            lambda: Uncertainty()(torch.tensor(1.0), torch.tensor(-2.0)),
            ValueError,
            "the saliency term is -2: its weight would grow without end. Choose another divergence",
        ),
        (lambda: Balanced(layer=3), TypeError, "layer must be a dotted name"),
        (lambda: Balanced(layer="2", ratio=0.0), ValueError, "ratio must be positive and finite"),
        (lambda: Balanced(layer="2", limit=math.inf), ValueError, "limit must be positive and finite"),
        (lambda: Balanced(layer="2", momentum=1.0), ValueError, r"momentum must lie in \[0, 1\)"),
        (lambda: Normalised(batches=0), ValueError, "batches must be a positive integer, got 0"),
        (lambda: Normalised(weight=0.0), ValueError, "weight must be positive and finite, got 0"),
    ],
)
def test_a_wrong_option_says_what_was_expected(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_third_partys_weighting_works():
    class Squared(Weighting):
        def forward(self, task, saliency, model=None):
            assert model is not None
            return task + saliency.square()

    guided = guided_by(Squared())
    out = guided(*batch())
    torch.testing.assert_close(out.loss, out.task_loss + out.saliency_loss.square())
    guided.weighting.step()
    assert guided.weighting.needs_saliency


# Weights of samples


def test_each_term_has_weights_of_its_own():
    guided, (images, labels, human) = sl.SaliencyGuidedLoss(plain_net(), alpha=0.3), batch()
    each = sl.SaliencyGuidedLoss(guided.model, alpha=0.3, reduction="none")(images, labels, human)
    both, first, second = (torch.rand(4) + 0.5 for _ in range(3))
    out = guided(images, labels, human, sample_weight=both, task_sample_weight=first, saliency_sample_weight=second)
    torch.testing.assert_close(out.task_loss, (each.task_loss * both * first).mean())
    torch.testing.assert_close(out.saliency_loss, (each.saliency_loss * both * second).mean())
    alone = guided(images, labels, None, sample_weight=both, task_sample_weight=first)
    torch.testing.assert_close(alone.task_loss, out.task_loss)
    silent = sl.SaliencyGuidedLoss(guided.model, alpha=1.0)(images, labels, human, task_sample_weight=first)
    torch.testing.assert_close(silent.loss, (each.task_loss * first).mean())


def test_each_of_several_maps_has_a_weight():
    images, labels, _ = batch()
    human, classes, weight = torch.rand(4, 2, 9, 9), torch.tensor([[0, 1]] * 4), torch.rand(4, 2)
    net = plain_net()
    each = sl.SaliencyGuidedLoss(net, reduction="none")(images, labels, human, classes=classes).saliency_loss
    guided = sl.SaliencyGuidedLoss(net)
    out = guided(images, labels, human, classes=classes, saliency_sample_weight=weight)
    torch.testing.assert_close(out.saliency_loss, (each * weight).mean())
    out = guided(images, labels, human, classes=classes, saliency_sample_weight=weight[:, 0])
    torch.testing.assert_close(out.saliency_loss, (each * weight[:, :1]).mean())
    for name, wrong in (("saliency_sample_weight", weight[:, :1]), ("task_sample_weight", weight)):
        with pytest.raises(ValueError, match=rf"{name} must be a tensor of shape \(4,\)"):
            guided(images, labels, human, classes=classes, **{name: wrong})


def test_weights_do_not_enter_the_denominator():
    images, labels, human = batch()
    annotated = torch.tensor([True, True, False, True])
    for denominator in ("annotated", "batch", "sum", 2.0):
        guided = sl.SaliencyGuidedLoss(plain_net(), denominator=denominator)
        outs = [
            guided(images, labels, human, annotated=annotated, saliency_sample_weight=weight)
            for weight in (None, torch.full((4,), 3.0))
        ]
        torch.testing.assert_close(3 * outs[0].saliency_loss, outs[1].saliency_loss)


def test_a_constant_that_is_added_changes_no_gradient_but_a_weight_does():
    times = torch.tensor([0.5, 3.0, 1.0, 2.0])
    losses = {
        "plain": lambda output, labels: F.cross_entropy(output, labels),
        "logits": lambda output, labels: F.cross_entropy(output + times[:, None], labels),
        "loss": lambda output, labels: F.cross_entropy(output, labels) + times.mean(),
    }
    net, (images, labels, human) = plain_net(), batch()

    def gradient(loss, **options):
        guided = sl.SaliencyGuidedLoss(net, task_loss=loss)
        return torch.autograd.grad(guided(images, labels, human, **options).loss, net[0].weight)[0]

    expected = gradient(losses["plain"])
    for name in ("logits", "loss"):
        torch.testing.assert_close(gradient(losses[name]), expected, rtol=1e-4, atol=1e-6)
    weighed = gradient(None, task_sample_weight=relative_weights(times))
    assert not torch.allclose(weighed, expected, rtol=1e-2)


def test_relative_weights():
    values = torch.tensor([3.0, 1.0, float("nan"), 2.0])
    torch.testing.assert_close(relative_weights(values), torch.tensor([2.0, 1.0, 1.5, 1.5]) / 1.5)
    torch.testing.assert_close(relative_weights(values, priority="low"), torch.tensor([1.0, 2.0, 1.5, 1.5]) / 1.5)
    strong = relative_weights(values, strength=4.0)
    assert float(strong.max() / strong.min()) == pytest.approx(5.0)
    for flat in (torch.full((3,), 7.0), torch.full((3,), float("nan")), torch.zeros(0)):
        assert torch.equal(relative_weights(flat), torch.ones(len(flat)))
    assert torch.equal(relative_weights(values, strength=0.0), torch.ones(4))
    torch.testing.assert_close(relative_weights(torch.tensor([1, 3])), torch.tensor([2 / 3, 4 / 3]))
    huge = relative_weights(torch.tensor([-3e38, 0.0, 3e38]))
    torch.testing.assert_close(huge, torch.tensor([2 / 3, 1.0, 4 / 3]))
    assert relative_weights(values.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("values", "options", "text"),
    [
        ([1.0, 2.0], {}, r"values must be a tensor of shape \(N,\).*got list"),
        (torch.rand(2, 2), {}, r"got \(2, 2\)"),
        (torch.tensor([1.0, float("inf")]), {}, "finite, or NaN where unknown"),
        (torch.rand(2), {"strength": -1.0}, "strength must be finite and not negative"),
        (torch.rand(2), {"priority": "hard"}, "priority must be 'high' or 'low', got 'hard'"),
    ],
)
def test_relative_weights_of_something_else(values, options, text):
    with pytest.raises(ValueError, match=text):
        relative_weights(values, **options)


@pytest.mark.parametrize(("loss", "model"), [(True, False), (False, True), (False, False)])
def test_either_of_loss_and_model_in_train_mode_is_training(loss, model):
    """A model in eval mode may train, with BatchNorm frozen for instance."""
    images, labels, human = batch()
    guided = sl.SaliencyGuidedLoss(plain_net(), weighting=Normalised(batches=5))
    guided.train(loss)
    guided.model.train(model)
    guided(images, labels, human)
    assert int(guided.weighting.counted) == (loss or model)


def test_a_weight_that_is_set_anew_is_checked_too():
    guided = sl.SaliencyGuidedLoss(plain_net(), alpha=0.5)
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\].*got 2"):
        guided.weighting.alpha = 2.0
    guided.weighting.alpha = 0.25
    assert float(guided.weighting(torch.tensor(1.0), torch.tensor(2.0))) == 1.75
    with pytest.raises(ValueError, match="saliency_weight must be finite and not negative, got -1"):
        sl.weighting.Additive().weight = -1.0
