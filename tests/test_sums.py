"""Weighted sums of divergences and priors: written, added up, shared, and reduced part by part in the guided loss."""

import copy
import pickle

import pytest
import torch
import torch._dynamo
from conftest import one_of
from models import batch, plain_net
from test_compile import compiling

import saliency_losses as sl
from saliency_losses import sizing
from saliency_losses.divergences import KL, MSE, MinMax, Prior, RightReasons, SumToOne, pair
from saliency_losses.divergences.sum import Sum


class Energy(Prior):
    """The mean square of a map."""

    def measure(self, model):
        return model.square().mean(1)


class Slope(Prior):
    """Differences between neighbours, on the map scaled from 0 to 1."""

    spatial = True

    def __init__(self):
        super().__init__(normalize="minmax")

    def measure(self, model):
        return (model[:, 1:] - model[:, :-1]).square().mean((1, 2))


SOME = torch.tensor([True, False, True, False])


def total():
    return 0.7 * KL() + 0.3 * MSE() + 0.1 * Energy()


def grads(loss, module):
    return torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, materialize_grads=True)


def same_grads(first, second, module):
    for one, other in zip(grads(first, module), grads(second, module), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_is_written_as_it_is_made():
    assert repr(total()) == "0.7 * KL() + 0.3 * MSE() + 0.1 * Energy()"
    assert repr(MSE() + KL(direction="model_human")) == "MSE() + KL(direction='model_human')"
    assert repr(2 * (MSE() + 0.25 * KL()) + Energy()) == "2 * MSE() + 0.5 * KL() + Energy()"


def test_sums_of_sums_are_flat():
    nested = 2.0 * (MSE() + 0.5 * (KL() + 3.0 * Energy())) + (KL() * 4 + MSE())
    assert [(weight, type(part).__name__) for weight, part in nested.terms()] == [
        (2.0, "MSE"),
        (1.0, "KL"),
        (3.0, "Energy"),
        (4.0, "KL"),
        (1.0, "MSE"),
    ]
    assert [type(part) for part in nested.parts] == [MSE, KL, Energy, KL, MSE]
    assert repr(Sum([(2.0, MSE() + 3.0 * KL()), (1.0, Energy())])) == "2 * MSE() + 6 * KL() + Energy()"


@pytest.mark.parametrize("make", [lambda d: d, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_the_value_is_the_weighted_sum_of_the_parts(make):
    divergence = make(total() + -0.5 * Slope())
    model, human = torch.randn(5, 6, 7), torch.rand(5, 12, 9)
    for known in (None, torch.rand(5, 12, 9), torch.rand(5, 12, 9).round()):
        expected = sum(weight * part(model, human, known) for weight, part in divergence.terms())
        torch.testing.assert_close(divergence(model, human, known), expected)
    assert repr(divergence) == "0.7 * KL() + 0.3 * MSE() + 0.1 * Energy() + -0.5 * Slope()"


def test_parts_may_size_the_same_maps_in_different_ways():
    model, human = torch.randn(5, 6, 7), torch.rand(5, 12, 9)
    ways = [MSE(sizing=how) for how in ("area", "max", "nearest", "antialias", "enlarge")]
    for known in (None, torch.rand(5, 12, 9).round()):
        expected = sum(part(model, human, known) for part in ways)
        torch.testing.assert_close((ways[0] + ways[1] + ways[2] + ways[3] + ways[4])(model, human, known), expected)


def test_priors_alone_need_no_human_map():
    model = torch.randn(5, 6, 7)
    priors = Energy() + 2 * Slope()
    torch.testing.assert_close(priors(model), Energy()(model) + 2 * Slope()(model))
    assert priors.reads == "nothing"
    with pytest.raises(ValueError, match=r"KL\(\) compares with human maps, but none were given"):
        total()(model)


def test_what_parts_share_is_computed_once(monkeypatch):
    calls = []

    def count(name, function):
        return lambda *args, **options: calls.append(name) or function(*args, **options)

    monkeypatch.setattr(MinMax, "__call__", count("minmax", MinMax.__call__))
    monkeypatch.setattr(SumToOne, "__call__", count("sum", SumToOne.__call__))
    monkeypatch.setattr(pair, "bring_to_size", count("resize", sizing.bring_to_size))
    model, human = torch.randn(3, 6, 7), torch.rand(3, 12, 14)
    (MSE() + MSE() + 0.5 * Slope() + KL(normalize="sum") + KL())(model, human)
    # Model and human map from 0 to 1; the human distribution, the model's.
    assert sorted(calls) == ["minmax", "minmax", "resize", "sum", "sum"]
    calls.clear()
    (MSE() + MSE(sizing="max") + MSE(normalize=MinMax(detach=True)))(model, human)
    # The human map of each size, the model's of each option; it keeps its own size.
    assert sorted(calls) == ["minmax"] * 4 + ["resize"] * 2


def test_declarations_are_those_of_the_parts():
    assert total().reads == "saliency"
    assert (MSE() + RightReasons()).human_range == (0.0, 1.0)
    assert (MSE() + MSE(normalize=MinMax(scope="batch"))).scope == "batch"
    assert (MSE() + KL()).scope == "sample"
    assert (Energy() + MSE()).empty_is_suspicious
    assert not (Energy() + RightReasons(human="never_here")).empty_is_suspicious


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MSE() + 1.0, TypeError, "unsupported operand"),
        (lambda: 1.0 + MSE(), TypeError, "unsupported operand"),
        (lambda: MSE() * KL(), TypeError, "unsupported operand"),
        (lambda: "2" * MSE(), TypeError, "unsupported operand|can't multiply"),
        (lambda: float("nan") * MSE(), ValueError, r"The weight of MSE\(\) must be finite, got nan"),
        (lambda: float("inf") * MSE(), ValueError, r"The weight of MSE\(\) must be finite, got inf"),
        (lambda: Sum([]), ValueError, "A sum needs at least one divergence"),
        (lambda: Sum([(1.0, "mse")]), TypeError, "A sum is made of divergences, got 'mse'"),
    ],
)
def test_bad_terms(call, error, message):
    with pytest.raises(error, match=message):
        call()


def expected_parts(guided, images, labels, human, annotated):
    """Each part over its own maps: comparisons over the annotated ones, priors over all."""
    maps = guided.explain(images, labels)
    return {
        "kl": KL()(maps, human)[annotated].mean(),
        "mse": MSE()(maps, human)[annotated].mean(),
        "Energy": Energy()(maps).mean(),
    }


def test_each_part_is_reduced_over_its_own_maps():
    net, (images, labels, human) = plain_net(), batch()
    guided = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0)
    out = guided(images, labels, torch.where(SOME[:, None, None], human, float("nan")), annotated=SOME)
    parts = expected_parts(guided, images, labels, human, SOME)
    torch.testing.assert_close(out.saliency_loss, 0.7 * parts["kl"] + 0.3 * parts["mse"] + 0.1 * parts["Energy"])
    same_grads(out.saliency_loss, 0.7 * parts["kl"] + 0.3 * parts["mse"] + 0.1 * parts["Energy"], net)
    assert list(out.parts) == ["kl", "mse", "Energy"]
    for name, value in out.parts.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, parts[name].detach())


def test_parts_of_one_kind_are_numbered():
    images, labels, human = batch()
    out = sl.SaliencyGuidedLoss(plain_net(), "cam", KL() + MSE() + KL(direction="model_human") + KL(normalize="sum"))(
        images, labels, human
    )
    assert list(out.parts) == ["kl", "mse", "kl_2", "kl_3"]


def test_a_prior_takes_and_trains_the_map_without_human_maps():
    net, (images, labels, _) = plain_net(), batch()
    for divergence in (Energy(), total()):
        guided = sl.SaliencyGuidedLoss(net, "grad_cam", divergence, saliency_weight=1.0)
        out = guided(images, labels, None)
        weight = 1.0 if isinstance(divergence, Energy) else 0.1
        expected = Energy()(guided.explain(images, labels)).mean()
        assert out.model_saliency.shape == (4, 5, 5)
        torch.testing.assert_close(out.saliency_loss, weight * expected)
        same_grads(out.saliency_loss, weight * expected, net)
        assert any(g.any() for g in grads(out.saliency_loss, net))
        assert float(out.parts.get("kl", torch.zeros(()))) == 0.0
        torch.testing.assert_close(out.parts["Energy"], expected.detach())


@pytest.mark.parametrize(
    ("denominator", "compared", "prior"), [("annotated", 2, 4), ("batch", 4, 4), ("sum", 1, 1), (8.0, 8.0, 4)]
)
def test_denominators(denominator, compared, prior):
    net, (images, labels, human) = plain_net(), batch()
    guided = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0, denominator=denominator)
    out = guided(images, labels, human, annotated=SOME)
    parts = expected_parts(guided, images, labels, human, SOME)
    torch.testing.assert_close(out.parts["kl"], parts["kl"].detach() * 2 / compared)
    torch.testing.assert_close(out.parts["Energy"], parts["Energy"].detach() * 4 / prior)
    expected = (0.7 * parts["kl"] + 0.3 * parts["mse"]) * 2 / compared + 0.1 * parts["Energy"] * 4 / prior
    torch.testing.assert_close(out.saliency_loss, expected)


def test_several_maps_per_image():
    net, (images, labels, _) = plain_net(), batch()
    classes = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 2]])
    human = torch.rand(4, 2, 9, 9)
    annotated = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    for reduction in ("mean", "none"):
        guided = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0, reduction=reduction)
        out = guided(images, labels, human, classes=classes, annotated=annotated)
        maps = guided.explain(images, classes)
        flat = maps.flatten(0, 1)
        compared = (0.7 * KL() + 0.3 * MSE())(flat, human.flatten(0, 1)).view(4, 2) * annotated
        prior = 0.1 * Energy()(flat).view(4, 2)
        if reduction == "mean":
            torch.testing.assert_close(out.saliency_loss, compared.sum() / 4 + prior.mean())
        else:
            torch.testing.assert_close(out.saliency_loss, compared + prior)
            each = compared.sum(1) / annotated.sum(1).clamp_min(1) + prior.mean(1)
            torch.testing.assert_close(out.loss, out.task_loss + each)


def test_several_layers_are_compared_one_by_one():
    net, (images, labels, human) = plain_net(), batch()
    part = sl.create_extractor("grad_cam", layer=["0", "2"], fuse="each")
    out = sl.SaliencyGuidedLoss(net, part, total(), saliency_weight=1.0)(images, labels, human, annotated=SOME)
    single = [
        sl.SaliencyGuidedLoss(net, sl.create_extractor("grad_cam", layer=layer), total(), saliency_weight=1.0)(
            images, labels, human, annotated=SOME
        )
        for layer in ("0", "2")
    ]
    torch.testing.assert_close(out.saliency_loss, (single[0].saliency_loss + single[1].saliency_loss) / 2)
    same_grads(out.saliency_loss, (single[0].saliency_loss + single[1].saliency_loss) / 2, net)
    for name in out.parts:
        torch.testing.assert_close(out.parts[name], (single[0].parts[name] + single[1].parts[name]) / 2)


def test_sample_weights_and_one_value_per_sample():
    net, (images, labels, human) = plain_net(), batch()
    weight = torch.tensor([2.0, 3.0, 0.0, 1.0])
    guided = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0)
    maps = guided.explain(images, labels)
    compared, prior = (0.7 * KL() + 0.3 * MSE())(maps, human) * SOME, 0.1 * Energy()(maps)
    out = guided(images, labels, human, annotated=SOME, sample_weight=weight)
    torch.testing.assert_close(out.saliency_loss, (compared * weight).sum() / 2 + (prior * weight).mean())
    each = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0, reduction="none")
    out = each(images, labels, human, annotated=SOME, sample_weight=weight)
    torch.testing.assert_close(out.saliency_loss, (compared + prior) * weight)
    torch.testing.assert_close(out.loss, out.task_loss + out.saliency_loss)
    torch.testing.assert_close(out.parts["Energy"], (Energy()(maps) * weight).mean().detach())
    torch.testing.assert_close(out.parts["mse"], (MSE()(maps, human) * weight * SOME).sum().detach() / 2)


def test_ignored_targets_have_no_prior():
    net, (images, labels, human) = plain_net(), batch()
    some = torch.where(SOME, labels, -100)
    guided = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0)
    out = guided(images, some, human)
    only = guided(images[SOME], labels[SOME], human[SOME])
    torch.testing.assert_close(out.saliency_loss, only.saliency_loss)
    torch.testing.assert_close(out.parts, only.parts)
    same_grads(out.saliency_loss, only.saliency_loss, net)
    without = guided(images, some, None)
    torch.testing.assert_close(without.parts["Energy"], only.parts["Energy"])


def test_gradients_accumulate_to_those_of_one_batch():
    """Counts differ from step to step; the number passed speaks of annotated maps alone."""
    net, (images, labels, human) = plain_net(), batch(8)
    annotated = torch.tensor([True, True, True, False, True, False, False, False])
    guided = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0)
    whole = grads(guided(images, labels, human, annotated=annotated).loss, net)
    steps = torch.arange(8).chunk(2)
    for index in steps:
        out = guided(images[index], labels[index], human[index], annotated=annotated[index], denominator=4 / 2)
        (out.loss / 2).backward()
    for parameter, gradient in zip(net.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_a_part_that_is_broken_where_it_is_not_asked_for_changes_nothing():
    """What is not annotated may make a comparison NaN; the prior of that map counts all the same."""
    net, (images, labels, human) = plain_net(), batch()
    images = images.clone()
    images[1] = 0.0  # a flat map
    guided = sl.SaliencyGuidedLoss(net, "cam", total(), saliency_weight=1.0)
    out = guided(images, labels, torch.where(SOME[:, None, None], human, float("nan")), annotated=SOME)
    assert out.loss.isfinite()
    assert all(g.isfinite().all() for g in grads(out.loss, net))


@pytest.mark.parametrize("divergence", [total(), Energy()], ids=repr)
@pytest.mark.parametrize("human", ["given", None])
def test_preflight_tells_of_sums_and_priors(divergence, human):
    images, labels, maps = batch()
    guided = sl.SaliencyGuidedLoss(plain_net(), "cam", divergence)
    report = sl.preflight(guided, images, labels, maps if human else None, time=False)
    assert report.ok
    assert report.reached is not None
    found = {finding.code: finding.message for finding in report.findings}
    expected = not human and isinstance(divergence, Sum)
    assert ("none_annotated" in found) == expected
    if expected:
        assert "so the saliency term is that of the priors alone" in found["none_annotated"]


@pytest.mark.parametrize("divergence", [total(), Energy()], ids=repr)
def test_diagnosis_tells_of_sums_and_priors(divergence):
    guided = sl.SaliencyGuidedLoss(plain_net(), "cam", divergence)
    images, labels, human = batch(8)
    loader = [(images, labels, human), (images + 0.1, labels, human)]
    found = sl.diagnose(guided, loader, witness=None)
    values = [divergence(guided.explain(step[0], step[1]).detach(), step[2]) for step in loader]
    assert found.trained.divergence == pytest.approx(float(torch.cat(values).mean()), rel=1e-4)
    assert found.gradients.batches == 2
    without = sl.diagnose(guided, loader, gradient_loader=[(images, labels, None)], witness=None)
    assert without.gradients.batches == 1
    assert without.gradients.ratio.median > 0.0
    if isinstance(divergence, Energy):
        assert found.trained.shuffled_divergence == pytest.approx(found.trained.divergence)
    with pytest.raises(ValueError, match="None of the 8 samples has a human map"):
        sl.diagnose(guided, [(images, labels, None)], witness=None)


@compiling
@pytest.mark.parametrize("given", one_of([True, False], True))
def test_a_step_with_a_sum_compiles_into_one_graph(given):
    torch._dynamo.reset()
    images, labels, human = batch()
    eager = sl.SaliencyGuidedLoss(plain_net(), "cam", total())
    prepared = copy.deepcopy(eager)
    prepared.prepare(images, labels)
    human = human if given else None
    compiled = torch.compile(prepared, backend="aot_eager", fullgraph=True)
    first, second = eager(images, labels, human), compiled(images, labels, human)
    torch.testing.assert_close(second.loss, first.loss)
    torch.testing.assert_close(second.parts, first.parts)
    for one, other in zip(grads(first.loss, eager.model), grads(second.loss, prepared.model), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    torch._dynamo.reset()
