"""The pipeline: what goes in, what it means, what comes out."""

import copy
import warnings

import pytest
import torch
from conftest import extractor, network
from models import TwoInputs, batch, plain_net
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import saliency_losses as sl
from saliency_losses.divergences import Robust
from saliency_losses.task import cross_entropy


def grads(loss, module):
    return torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True)


def same_grads(first, second, module, **tolerance):
    for a, b in zip(grads(first, module), grads(second, module), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_an_unmodified_loop_is_guided_by_three_changed_lines():
    plain = """
model = make()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for images, labels, human in loader:
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
    changed = plain.replace("model = make()\n", "model = make()\nguided = sl.SaliencyGuidedLoss(model)\n").replace(
        "loss = F.cross_entropy(model(images), labels)", "loss = guided(images, labels, human).loss"
    )
    assert sum(line not in plain.splitlines() for line in changed.splitlines()) <= 3
    results = []
    for source in (plain, changed):
        torch.manual_seed(0)
        scope = {"torch": torch, "F": F, "sl": sl, "make": plain_net, "loader": [batch()] * 3}
        exec(source, scope)
        results.append(scope["model"])
    assert not torch.equal(results[0][0].weight, results[1][0].weight)
    assert results[0].state_dict().keys() == results[1].state_dict().keys()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_convex_weighting(alpha):
    net, (images, labels, human) = plain_net(), batch()
    out = sl.SaliencyGuidedLoss(net, alpha=alpha)(images, labels, human)
    torch.testing.assert_close(out.task_loss, F.cross_entropy(net(images), labels))
    torch.testing.assert_close(out.loss, alpha * out.task_loss + (1 - alpha) * out.saliency_loss)


def test_additive_weighting_leaves_the_task_alone():
    net, (images, labels, human) = plain_net(), batch()
    out = sl.SaliencyGuidedLoss(net, saliency_weight=2.5)(images, labels, human)
    torch.testing.assert_close(out.loss, F.cross_entropy(net(images), labels) + 2.5 * out.saliency_loss)


@pytest.mark.parametrize("options", [{"alpha": 1.0}, {"saliency_weight": 0.0}])
def test_weight_zero_never_asks_the_extractor(options):
    class Never(sl.SaliencyExtractor):
        order = 2

        def forward(self, model, inputs, classes, *, run=None):
            raise AssertionError("the extractor was called")

    net, (images, labels, human) = plain_net(), batch()
    out = sl.SaliencyGuidedLoss(net, Never(), **options)(images, labels, human)
    torch.testing.assert_close(out.loss, F.cross_entropy(net(images), labels))
    assert out.model_saliency is None
    assert float(out.saliency_loss) == 0.0


@pytest.mark.parametrize("name", sl.list_extractors())
def test_as_many_forward_passes_per_step_as_declared(name):
    net, (images, labels, human) = network(name).float(), batch()
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    guided = sl.SaliencyGuidedLoss(net, extractor(name))
    for step in range(1, 4):
        guided(images, labels, human).loss.backward()
        assert guided.extractor.passes is None or len(calls) == step * guided.extractor.passes
        assert all(int(m.num_batches_tracked) == step for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_output_is_a_pytree_and_off_the_graph_where_it_says_so():
    net, (images, labels, human) = plain_net(), batch()
    out = sl.SaliencyGuidedLoss(net)(images, labels, human)
    leaves, layout = pytree.tree_flatten(out)
    assert pytree.tree_unflatten(leaves, layout).loss is out.loss
    assert out._fields == ("loss", "task_loss", "saliency_loss", "output", "model_saliency", "parts")
    assert not out.model_saliency.requires_grad
    assert out.parts == {"mse": out.saliency_loss.detach()}
    torch.testing.assert_close(out.output, net(images))


def test_rows_without_a_map_change_neither_loss_nor_gradient():
    images, labels, human = batch(6)
    annotated = torch.tensor([True, False, True, True, False, True])
    for name in sl.list_divergences():
        net = plain_net()
        guided = sl.SaliencyGuidedLoss(net, "cam", name, saliency_weight=1.0)
        losses = []
        for filler in (0.0, float("nan"), -7.0, float("inf")):
            filled = torch.where(annotated[:, None, None], human, filler)
            losses.append(guided(images, labels, filled, annotated=annotated))
        for other in losses[1:]:
            same_grads(losses[0].loss, other.loss, net, rtol=0, atol=0)
        if sl.create_divergence(name).reads != "nothing":
            only = guided(images[annotated], labels[annotated], human[annotated])
            torch.testing.assert_close(losses[0].saliency_loss, only.saliency_loss)


def test_samples_without_a_map_stay_out_of_batch_statistics():
    images, labels, human = batch(6)
    annotated = torch.tensor([True, False, True, True, False, True])
    guided = sl.SaliencyGuidedLoss(
        plain_net(), "cam", sl.divergences.MSE(normalize=sl.divergences.MinMax(scope="batch"))
    )
    images = torch.where(annotated[:, None, None, None], images, 50.0 * images)
    some = guided(images, labels, human, annotated=annotated).saliency_loss
    only = guided(images[annotated], labels[annotated], human[annotated]).saliency_loss
    torch.testing.assert_close(some, only)


def test_nothing_annotated_costs_the_task_alone():
    net, (images, labels, human) = plain_net(), batch()
    guided = sl.SaliencyGuidedLoss(net, alpha=0.25)
    task = 0.25 * F.cross_entropy(net(images), labels)
    none = guided(images, labels, None)
    empty = guided(images, labels, human * float("nan"), annotated=torch.zeros(4, dtype=torch.bool))
    for out in (none, empty):
        assert float(out.saliency_loss.detach()) == 0.0
        same_grads(out.loss, 0.25 * F.cross_entropy(net(images), labels), net)
        torch.testing.assert_close(out.loss, task)


def test_an_empty_map_is_a_statement_and_warns_once_when_nobody_said_so():
    net, (images, labels, human) = plain_net(), batch()
    human[2] = 0.0
    guided = sl.SaliencyGuidedLoss(net)
    with pytest.warns(UserWarning, match="all zero in sample 2 and annotated= was not given"):
        first = guided(images, labels, human)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = guided(images, labels, human)
        said = sl.SaliencyGuidedLoss(net)(images, labels, human, annotated=torch.ones(4, dtype=torch.bool))
    assert first.loss == again.loss == said.loss
    missing = sl.SaliencyGuidedLoss(net)(images, labels, human, annotated=torch.tensor([True, True, False, True]))
    assert missing.loss != said.loss


def test_unknown_pixels_take_no_part():
    net, (images, labels, human) = plain_net(), batch(pixels=12)
    known = torch.ones(4, 12, 12, dtype=torch.bool)
    known[:, :, 6:] = False
    known[1] = False
    for name in ("mse", "kl", "correlation"):
        guided = sl.SaliencyGuidedLoss(net, "input_gradient", name, saliency_weight=1.0, reduction="none")
        values = guided(images, labels, human, annotated=known).saliency_loss
        poisoned = torch.where(known, human, float("nan"))
        torch.testing.assert_close(guided(images, labels, poisoned, annotated=known).saliency_loss, values)
        torch.testing.assert_close(guided(images, labels, poisoned[:, None], annotated=known[:, None])[2], values)
        maps = guided.explain(images, labels)[..., :6].contiguous()
        torch.testing.assert_close(values[0], sl.create_divergence(name)(maps, human[..., :6].contiguous())[0])
        assert float(values[1].detach()) == 0.0


def test_maps_in_every_accepted_form_are_the_same():
    net, (images, labels, _) = plain_net(), batch()
    mask = torch.rand(4, 9, 9) > 0.5
    forms = [mask, mask.float(), mask.to(torch.uint8) * 255, mask[:, None], mask.half(), mask.double()]
    for name in sl.list_divergences():
        guided = sl.SaliencyGuidedLoss(net, "cam", name)
        losses = [guided(images, labels, form).loss for form in forms]
        for loss in losses[1:]:
            torch.testing.assert_close(loss, losses[0])


def test_thin_strokes_survive_shrinking():
    net, (images, labels, _) = plain_net(), batch(pixels=9)
    stroke = torch.zeros(4, 224, 224)
    stroke[:, 100:103, 20:200] = 1.0
    out = sl.SaliencyGuidedLoss(net, "cam", "correlation", reduction="none")(images, labels, stroke)
    maps = out.model_saliency
    small = F.adaptive_avg_pool2d(stroke[:, None], maps.shape[1:])[:, 0]
    assert float(small.max()) > 0
    torch.testing.assert_close(out.saliency_loss, sl.create_divergence("correlation")(maps, small))


def test_several_maps_per_image():
    net, (images, labels, _) = plain_net(), batch()
    classes = torch.tensor([[0, 1], [2, 1], [1, 0], [2, 0]])
    human, found = torch.rand(4, 2, 9, 9), torch.tensor([[1, 1], [0, 1], [0, 0], [1, 0]]).bool()
    for name in ("cam", "grad_cam", "input_gradient"):
        guided = sl.SaliencyGuidedLoss(net, name, "kl", saliency_weight=1.0)
        out = guided(images, labels, human, classes=classes, annotated=found)
        total = sum(
            guided(
                images, labels, human[:, k], classes=classes[:, k], annotated=found[:, k], denominator="sum"
            ).saliency_loss
            for k in (0, 1)
        )
        torch.testing.assert_close(out.saliency_loss, total / 4)
        assert out.model_saliency.shape[:2] == (4, 2)
        each = sl.SaliencyGuidedLoss(net, name, "kl", saliency_weight=1.0, reduction="none")
        values = each(images, labels, human, classes=classes, annotated=found).saliency_loss
        assert values.shape == (4, 2)
        assert float(values.detach()[~found].abs().sum()) == 0.0
        by_image = each(images, labels, human, classes=classes, annotated=torch.tensor([True, False, True, True]))
        assert int((by_image.saliency_loss != 0).sum()) == 6


def test_denominators():
    net, (images, labels, human) = plain_net(), batch()
    annotated = torch.tensor([True, False, True, True])
    out = {
        chosen: sl.SaliencyGuidedLoss(net, denominator=chosen)(images, labels, human, annotated=annotated).saliency_loss
        for chosen in ("annotated", "batch", "sum", 7)
    }
    torch.testing.assert_close(out["annotated"] * 3, out["sum"])
    torch.testing.assert_close(out["batch"] * 4, out["sum"])
    torch.testing.assert_close(out[7] * 7, out["sum"])


def test_gradient_accumulation_equals_one_large_batch():
    net, (images, labels, human) = plain_net().double(), batch(8, dtype=torch.float64)
    annotated = torch.tensor([True, True, True, False, False, True, False, False])
    guided = sl.SaliencyGuidedLoss(net, "grad_cam", "correlation", alpha=0.4)
    whole = guided(images, labels, human, annotated=annotated).loss
    steps, total = 4, int(annotated.sum())
    parts = sum(
        guided(images[i], labels[i], human[i], annotated=annotated[i], denominator=total / steps).loss / steps
        for i in torch.arange(8).chunk(steps)
    )
    torch.testing.assert_close(parts, whole)
    same_grads(parts, whole, net)


def test_sample_weight_scales_both_terms():
    net, (images, labels, human) = plain_net(), batch()
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5])
    each = sl.SaliencyGuidedLoss(net, alpha=0.3, reduction="none")(images, labels, human)
    assert each.loss.shape == each.task_loss.shape == each.saliency_loss.shape == (4,)
    out = sl.SaliencyGuidedLoss(net, alpha=0.3)(images, labels, human, sample_weight=weight)
    torch.testing.assert_close(out.task_loss, (each.task_loss * weight).mean())
    torch.testing.assert_close(out.saliency_loss, (each.saliency_loss * weight).mean())


def test_marks_that_the_nearest_pixel_misses_are_worth_a_warning():
    images, labels, human = batch()
    marks = torch.zeros(4, 35, 35, dtype=torch.int8)
    marks[:, 5:10, 5:10] = 1
    marks[2], marks[2, 1:3, 1:3] = 0, -1
    for sizing in ("area", "max"):
        sl.SaliencyGuidedLoss(plain_net(), divergence=Robust(sizing=sizing))(images, labels, marks)
    guided = sl.SaliencyGuidedLoss(plain_net(), divergence=Robust())
    known = torch.ones(4, 35, 35, dtype=torch.bool)
    known[2, :4] = False
    guided(images, labels, marks, annotated=known)
    guided(images, labels, human.round())
    with pytest.warns(UserWarning, match=r"marks something in sample 2, but sizing='nearest'.*\(5, 5\)"):
        guided(images, labels, marks)
    guided(images, labels, marks)


@pytest.mark.parametrize("name", ["sample_weight", "task_sample_weight", "saliency_sample_weight"])
def test_weights_that_are_none(name):
    guided = sl.SaliencyGuidedLoss(plain_net())
    for wrong in (float("nan"), float("inf"), -1.0):
        weight = torch.tensor([1.0, wrong, 1.0, 1.0])
        with pytest.raises(ValueError, match=f"{name} must be finite and not negative, got"):
            guided(*batch(), **{name: weight})


@pytest.mark.parametrize("weight", [None, torch.ones(4)])
def test_a_batch_of_ignored_targets_costs_nothing(weight):
    net, (images, labels, human) = plain_net(), batch()
    ignored = torch.full_like(labels, -100)
    for human_saliency in (human, None):
        out = sl.SaliencyGuidedLoss(net)(images, ignored, human_saliency, sample_weight=weight)
        assert out.loss.item() == out.task_loss.item() == 0.0
        assert not any(g.any() for g in grads(out.loss, net) if g is not None)
    some = torch.where(torch.arange(4) == 1, -100, labels)
    assert torch.equal(cross_entropy(net(images), some), F.cross_entropy(net(images), some))


@pytest.mark.parametrize("name", ["cam", "grad_cam", "input_gradient"])
def test_mixup_mixes_labels_and_maps_alike(name):
    net, (images, labels, human) = plain_net(), batch()
    share, order = 0.7, torch.tensor([3, 2, 1, 0])
    soft = F.one_hot(labels, 3).float()
    mixed = share * images + (1 - share) * images[order]
    targets = share * soft + (1 - share) * soft[order]
    out = sl.SaliencyGuidedLoss(net, name)(mixed, targets, share * human + (1 - share) * human[order])
    torch.testing.assert_close(out.task_loss, F.cross_entropy(net(mixed), targets))
    out.loss.backward()


def test_every_kth_step():
    net, (images, labels, human) = plain_net(), batch()
    guided = sl.SaliencyGuidedLoss(net)
    taken = [guided(images, labels, human if step % 3 == 0 else None).model_saliency is not None for step in range(6)]
    assert taken == [True, False, False, True, False, False]


def test_a_model_with_two_inputs_and_a_dict_is_wrapped_as_it_is():
    net, (images, labels, human) = TwoInputs(), batch(classes=2)
    age = torch.rand(4, 1)
    by_keyword = sl.SaliencyGuidedLoss(net)({"image": images, "age": age}, labels, human)
    by_position = sl.SaliencyGuidedLoss(net)((images, age), labels, human)
    by_function = sl.SaliencyGuidedLoss(net, forward=lambda model, pair: model(pair["x"], age=pair["y"]))(
        {"x": images, "y": age}, labels, human
    )
    assert by_keyword.loss == by_position.loss == by_function.loss
    assert by_keyword.output.keys() == {"logits", "features"}


def test_segmentation_through_a_callable_score():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 2, 1))
    images, _, human = batch()
    masks = torch.randint(0, 2, (4, 9, 9))

    def score(output, targets):
        return (output.gather(1, targets[:, None]).squeeze(1)).mean((1, 2))

    guided = sl.SaliencyGuidedLoss(
        net, sl.create_extractor("grad_cam", layer="1", score=score), task_loss=F.cross_entropy
    )
    out = guided(images, masks, human)
    out.loss.backward()
    assert out.model_saliency.shape == (4, 9, 9)


def test_explain_another_model_and_in_evaluation():
    net, (images, labels, _) = plain_net(), batch()
    average = copy.deepcopy(net).requires_grad_(False)
    with torch.no_grad():
        average[6].weight.mul_(2.0)
    guided = sl.SaliencyGuidedLoss(net)
    with torch.no_grad():
        maps = guided.explain(images, labels)
        other = guided.explain(images, labels, model=average)
        predicted = guided.explain(images)
    torch.testing.assert_close(other, 2.0 * maps)
    assert not maps.requires_grad
    torch.testing.assert_close(predicted, guided.explain(images, net(images).argmax(1)).detach())


def test_evaluation_gives_the_same_numbers_without_a_graph():
    images, labels, human = batch()
    for name in sl.list_extractors():
        net = network(name, plain_net).eval()
        guided = sl.SaliencyGuidedLoss(net, extractor(name))
        torch.manual_seed(0)
        trained = guided(images, labels, human)
        for context in (torch.no_grad, torch.inference_mode):
            with context():
                torch.manual_seed(0)
                out = guided(images.clone(), labels.clone(), human.clone())
            assert not any(t.requires_grad for t in pytree.tree_leaves(out))
            torch.testing.assert_close(out.loss, trained.loss.detach())


def test_the_model_keeps_its_state_mode_and_outputs():
    images, labels, human = batch()
    for name in sl.list_extractors():
        net = network(name).float()
        net[1].eval()
        keys, modes = list(net.state_dict()), [m.training for m in net.modules()]
        guided = sl.SaliencyGuidedLoss(net, extractor(name))
        guided(images, labels, human).loss.backward()
        assert list(net.state_dict()) == keys
        assert [m.training for m in net.modules()] == modes
        assert {k.removeprefix("model.") for k in guided.state_dict()} == set(keys)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at the input's
def test_compiled_modules():
    images, labels, human = batch()
    plain = plain_net()
    partly = copy.deepcopy(plain)
    partly[0] = torch.compile(partly[0], backend="aot_eager")
    partly[1].compile(backend="aot_eager")
    for part in (sl.extractors.GradCAM(layer="3"), sl.extractors.GradCAM(), sl.extractors.CAM()):
        expected = sl.SaliencyGuidedLoss(plain, part)(images, labels, human).loss
        for _ in range(2):
            loss = sl.SaliencyGuidedLoss(partly, part)(images, labels, human).loss
            torch.testing.assert_close(loss, expected)
            for a, b in zip(grads(loss, partly), grads(expected, plain), strict=True):
                torch.testing.assert_close(a, b)
    whole = torch.compile(plain, backend="aot_eager")
    head = copy.deepcopy(plain)
    head[4] = torch.compile(nn.Sequential(nn.SiLU(), nn.AdaptiveAvgPool2d(1)), backend="aot_eager")
    for model, part in ((whole, sl.extractors.GradCAM(layer="3")), (whole, sl.extractors.CAM())):
        for _ in range(2):
            with pytest.raises(ValueError, match=r"is compiled.*Compile only the modules before the layer"):
                sl.SaliencyGuidedLoss(model, part)(images, labels, human)
    for model, part in ((whole, "input_gradient"), (head, sl.extractors.GradCAM(layer="2"))):
        with pytest.raises(RuntimeError, match=r"torch\.compile has no double backward"):
            sl.SaliencyGuidedLoss(model, part)(images, labels, human)


def test_maps_without_anything_positive_are_told_once():
    images, labels, human = batch()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[-1].weight.fill_(-1.0)
    guided = sl.SaliencyGuidedLoss(net, "cam", "energy")
    with pytest.warns(UserWarning, match=r"No map of the model has a positive value.*Energy\(\) counts nothing else"):
        assert float(guided(images, labels, human).saliency_loss.detach()) == 1.0
    guided(images, labels, human)
    sl.SaliencyGuidedLoss(net, "cam", "right_reasons")(images, labels, human)
