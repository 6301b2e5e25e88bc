"""Diagnosis: planted situations that must be told apart, against naive statistics, and without a trace."""

import dataclasses
import itertools
import random
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import one_of
from models import TwoInputs, batch, plain_net
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import saliency_losses as sl
from saliency_losses.__main__ import make_model, make_shapes, train
from saliency_losses.diagnosis.advice import NEGLIGIBLE, USUAL
from saliency_losses.diagnosis.alignment import Alignment, align
from saliency_losses.diagnosis.maps import Maps
from saliency_losses.diagnosis.pairing import correlations, derangement, with_mean_map
from saliency_losses.diagnosis.reading import read_maps, verdict_of
from saliency_losses.diagnosis.sweep import recommend
from saliency_losses.extractors import Occlusion
from saliency_losses.testing import smooth_network

SIDE = 12
NUMPY = np.random.mtrand._rand  # what numpy.random draws from


class Fooling(nn.Module):
    """Decides by a corner pixel, which its maps hide: they show the bright blob, which cancels in the pooling."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[5.0, -1.0], [5.0, 1.0]]))

    def forward(self, images):
        seen = F.avg_pool2d(images[:, :1] * self.scale, 3, 1, 1)
        corner = images[:, 1:, :1, :1].expand_as(seen)
        return self.fc(self.pool(torch.cat([seen - seen.mean((2, 3), keepdim=True), corner], 1)).flatten(1))


class Blob(nn.Module):
    """Decides by the colour of the bright blob, with or without what hides it from maps of its layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.fc = (
            nn.Conv2d(2, 2, 1, bias=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Linear(2, 2, bias=False),
        )
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
            self.fc.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))

    def forward(self, images):
        return self.fc(self.pool(self.conv(images)).flatten(1))


def blobs(count=48, *, colour=False):
    """A bright blob somewhere; the class is the sign of a corner pixel, or the blob's channel."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % 2
    human = torch.zeros(count, SIDE, SIDE)
    for number, (row, column) in enumerate(torch.randint(1, SIDE - 3, (count, 2), generator=generator).tolist()):
        human[number, row : row + 3, column : column + 3] = 1.0
    images = 0.05 * torch.rand(count, 2, SIDE, SIDE, generator=generator)
    if colour:
        images[torch.arange(count), labels] += human
    else:
        images[:, 0] += human
        images[:, 1, 0, 0] = 2.0 * labels - 1.0
    return batches(images, labels, human)


def batches(images, labels, human, size=16):
    return list(zip(images.split(size), labels.split(size), human.split(size), strict=True))


def pieces(data, count=96):
    return batches(data.images[:count], data.labels[:count], data.human[:count], 32)


def shapes():
    generator = torch.Generator().manual_seed(0)
    return make_shapes(generator, mark_tells=True), make_shapes(generator, mark_tells=False)


@pytest.fixture(scope="module")
def toy():
    training, test = shapes()
    with torch.random.fork_rng(), mock.patch("saliency_losses.__main__.EPOCHS", 5):
        return train(training, alpha=0.5), train(training, alpha=1.0), pieces(test)


def said(found):
    return " ".join(found.reading)


def test_guidance_that_works(toy):
    guided, plain, loader = toy
    found = sl.diagnose(guided, loader, baseline=plain.model)
    assert found.verdict == "works"
    assert found.reading[0].startswith("Guidance works: held-out maps agree 0.")
    assert "The maps are specific to the image" in said(found)
    assert "Guidance did it: the baseline agrees 0." in said(found)
    assert found.trained.correlation > 0.8 > 0.3 > found.trained.shuffled
    assert found.witness.difference > 0.3
    assert found.accuracy > 0.9
    assert found.trained.divergence < found.trained.shuffled_divergence
    own = sl.diagnose(guided, loader, baseline=guided.model, gradient_batches=0)
    assert own.gain.gain == own.gain.standard_error == 0.0
    assert "Guidance is not what did it: the baseline agrees" in said(own)
    unguided = sl.diagnose(sl.SaliencyGuidedLoss(guided.model, guided.extractor, alpha=1.0), loader)
    assert unguided.reading[0].startswith("Unguided, the model looks where people look: ")
    assert "weight zero and trains nothing. Lower alpha to about" in said(unguided)


@pytest.mark.parametrize("seed", one_of(range(6), 0, 1))
def test_a_random_network_is_not_called_guided(seed):
    _, test = shapes()
    torch.manual_seed(seed)
    for score in ("true", "contrast"):
        guided = sl.SaliencyGuidedLoss(make_model(), sl.create_extractor("cam", score=score), "correlation")
        found = sl.diagnose(guided, pieces(test), gradient_batches=0)
        assert found.verdict in (("not_aligned",) if score == "contrast" else ("not_aligned", "maps_only"))
    assert found.reading[0].startswith("Guidance does not work (yet): held-out maps agree")


def test_maps_that_move_while_behaviour_does_not():
    found = sl.diagnose(sl.SaliencyGuidedLoss(Fooling(), "cam", "correlation"), blobs())
    assert found.verdict == "maps_only"
    assert found.reading[0].startswith("Maps moved but behaviour did not: held-out maps agree 0.")
    assert found.trained.correlation > 0.8
    assert abs(found.witness.difference) < 0.1
    assert found.accuracy == 1.0
    assert "The saliency term has no gradient, whatever its weight" in said(found)
    alone = sl.diagnose(sl.SaliencyGuidedLoss(Fooling(), "cam", "correlation"), blobs(), witness=None)
    assert alone.verdict == "maps_agree"
    assert "No witness looked" in said(alone)


def test_behaviour_that_agrees_while_maps_do_not():
    opposite = sl.create_extractor("cam", score=lambda output, targets: -output.gather(1, targets[:, None])[:, 0])
    guided = sl.SaliencyGuidedLoss(Blob(), opposite, "correlation")
    found = sl.diagnose(guided, blobs(colour=True), witness=Occlusion(window=3), gradient_batches=0)
    assert found.verdict == "behaviour_only"
    assert found.reading[0].startswith("Behaviour agrees with people's maps but the trained maps do not")


def alignment(difference, p_value, samples=9):
    return Alignment("cam", samples, 0, difference, 0.0, difference, 0.01, p_value, 0.0, difference, 0.01, 0.0, 0.0)


def test_verdicts():
    yes, slight, chance = alignment(0.2, 0.01), alignment(0.05, 0.01), alignment(0.2, 0.2)
    for no in (slight, chance):
        assert verdict_of(yes, no) == "maps_only"
        assert verdict_of(no, yes) == "behaviour_only"
        assert verdict_of(no, slight) == verdict_of(no, None) == "not_aligned"
    assert verdict_of(yes, yes) == "works"
    assert verdict_of(yes, None) == "maps_agree"
    assert verdict_of(yes, alignment(0.2, 0.01, samples=7)) == "too_few_maps"
    assert "works, weakly: " in read_maps(yes, yes, guided=True)[0]
    assert "works: " in read_maps(alignment(0.4, 0.01), alignment(0.4, 0.01), guided=True)[0]


def test_a_habit_of_place():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, 2, SIDE, SIDE, generator=generator) * torch.hann_window(SIDE).outer(torch.hann_window(SIDE))
    human = torch.hann_window(SIDE).outer(torch.hann_window(SIDE)) + 0.1 * torch.rand(
        32, SIDE, SIDE, generator=generator
    )
    guided = sl.SaliencyGuidedLoss(Fooling(), "cam", "correlation")
    found = sl.diagnose(guided, batches(images, torch.zeros(32).long(), human), gradient_batches=0)
    assert found.verdict == "not_aligned"
    assert found.trained.correlation > 0.7
    assert "The maps may be a habit of place" in said(found)


def test_gradients_that_conflict():
    net = nn.Sequential(nn.Conv2d(2, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    step = {
        "images": torch.rand(8, 2, SIDE, SIDE),
        "targets": torch.zeros(8, dtype=torch.long),
        "human_saliency": torch.zeros(8, SIDE, SIDE),
        "annotated": torch.ones(8, dtype=torch.bool),
    }
    divergence = sl.create_divergence("mse", normalize="none")
    for sign in (-1.0, 1.0):
        guided = sl.SaliencyGuidedLoss(
            net, "cam", divergence, task_loss=lambda out, _, sign=sign: sign * out[:, 0].sum()
        )
        found = sl.diagnose(guided, [step])
        assert found.gradients.cosine.median * sign > 0.8
        assert ("pulls against the task" in said(found)) == (sign < 0)
    assert found.trained.undefined == 8


@pytest.mark.parametrize("option", ["saliency_weight", "alpha"])
def test_a_negligible_weight_and_the_one_that_is_suggested(option):
    guided = sl.SaliencyGuidedLoss(plain_net(), **{option: {"saliency_weight": 1e-7, "alpha": 1 - 1e-7}[option]})
    found = sl.diagnose(guided, [batch(8)] * 3)
    ratio = found.gradients.ratio.median
    assert found.gradients.weighted_ratio.median == pytest.approx(1e-7 * ratio, rel=1e-3)
    assert found.gradients.weighted_ratio.median < NEGLIGIBLE
    assert "The saliency term is negligible: 1/" in said(found)
    sentence = next(one for one in found.reading if "about" in one)
    assert ("Raise saliency_weight to about" if option == "saliency_weight" else "Lower alpha to about") in sentence
    weight = float(sentence.split("about ")[1].rstrip("."))
    better = sl.diagnose(sl.SaliencyGuidedLoss(guided.model, **{option: weight}), [batch(8)] * 3)
    assert better.gradients.weighted_ratio.median == pytest.approx(USUAL, rel=0.1)
    assert "negligible" not in said(better)


def test_a_dominant_weight_and_a_broken_training():
    found = sl.diagnose(sl.SaliencyGuidedLoss(plain_net(), saliency_weight=1e6), [batch(8)])
    assert "drowns the task" in said(found)
    assert "Lower saliency_weight to about" in said(found)
    net = plain_net()
    with torch.no_grad():
        net[6].weight[0, 0] = float("nan")
    broken = sl.diagnose(sl.SaliencyGuidedLoss(net, "grad_cam"), [batch(8)])
    assert "gradients of all 1 batches hold NaN or infinities: training is broken" in said(broken)
    assert broken.trained.undefined > 0


def test_gradients_are_those_of_a_naive_computation():
    net = smooth_network().float()
    guided = sl.SaliencyGuidedLoss(net, "grad_cam", alpha=0.2)
    images, labels, human = batch(6)
    torch.manual_seed(4)
    found = sl.diagnose(guided, [(images, labels, human)]).gradients
    torch.manual_seed(4)
    out = guided(images, labels, human)
    first, second = (
        torch.autograd.grad(term, list(net.parameters()), retain_graph=True, allow_unused=True)
        for term in (out.task_loss, out.saliency_loss)
    )
    pairs = [(a.flatten(), b.flatten()) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    task, saliency = (torch.cat(column).double() for column in zip(*pairs, strict=True))
    assert found.ratio.median == pytest.approx(float(saliency.norm() / task.norm()), rel=1e-4)
    assert found.weighted_ratio.median == pytest.approx(float(4 * saliency.norm() / task.norm()), rel=1e-4)
    assert found.cosine.median == pytest.approx(float(F.cosine_similarity(task, saliency, 0)), rel=1e-4, abs=1e-6)
    assert found.parameters == len(pairs) < len(list(net.parameters()))
    assert found.training


def naive_pearson(a, b):
    return np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1]


@pytest.mark.parametrize(("count", "strength"), [(4, 2.0), (5, 0.2)])
def test_alignment_is_that_of_naive_statistics(count, strength):
    model, human = torch.rand(count, 4, 4), torch.rand(count, 4, 4)
    human += strength * model
    maps = Maps(model, human, None, torch.arange(count), torch.zeros(count))
    found = align("x", maps, sl.create_divergence("mse"), 9999, 0)
    table = np.array([[naive_pearson(m, h) for h in human] for m in model])
    own, others = table.diagonal(), (table.sum(1) - table.diagonal()) / (count - 1)
    assert found.correlation == pytest.approx(own.mean(), abs=1e-5)
    assert found.shuffled == pytest.approx(others.mean(), abs=1e-5)
    assert found.standard_error == pytest.approx((own - others).std(ddof=1) / count**0.5, abs=1e-5)
    orders = list(itertools.permutations(range(count)))
    exact = np.mean([table[range(count), order].mean() >= own.mean() - 1e-6 for order in orders])
    assert found.p_value == pytest.approx(exact, abs=0.02)
    assert found.p_value >= 0.5 / len(orders)
    means = [naive_pearson(model[i], human[[j for j in range(count) if j != i]].mean(0)) for i in range(count)]
    assert found.mean_map == pytest.approx(np.mean(means), abs=1e-5)
    assert found.above_mean_map == pytest.approx((own - means).mean(), abs=1e-5)
    assert found.divergence == pytest.approx(float(sl.create_divergence("mse")(model, human).mean()))


def test_several_maps_and_unknown_cells_are_compared_with_their_like():
    sample, place = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 0, 0, 1])
    model, human = torch.rand(5, 9), torch.rand(5, 9)
    known = (torch.rand(5, 9) > 0.3).float()
    table = correlations(Maps(model, human, known, sample, place))
    seen = known[3].bool()
    first = naive_pearson(model[0][seen], human[3][seen])
    seen = known[4].bool()
    second = naive_pearson(model[1][seen], human[4][seen])
    assert float(table[0, 2]) == pytest.approx((first + second) / 2, abs=1e-5)
    seen = known[2].bool()
    assert float(table[2, 1]) == pytest.approx(naive_pearson(model[3][seen], human[2][seen]), abs=1e-5)
    seen = known[2].bool() & (known[[0, 3]].sum(0) > 0)
    mean = (human[[0, 3]] * known[[0, 3]]).sum(0) / known[[0, 3]].sum(0).clamp_min(1)
    assert float(with_mean_map(Maps(model, human, known, sample, place))[1]) == pytest.approx(
        naive_pearson(model[2][seen], mean[seen]), abs=1e-5
    )
    order = derangement(place, torch.Generator().manual_seed(0))
    assert bool((place[order] == place).all())
    assert bool((sample[order] != sample).all())


def trace(guided):
    tensors = [*guided.parameters(), *guided.buffers()]
    return (
        [(id(t), t._version, t.clone()) for t in tensors],
        [id(p.grad) for p in guided.parameters()],
        [
            (m.training, {k: v for k, v in vars(m).items() if not k.startswith("_")}, len(m._forward_hooks))
            for m in guided.modules()
        ],
        guided._calls,
        torch.get_rng_state().tolist(),
        random.getstate(),
        NUMPY.get_state()[1].tolist(),
    )


def assert_same(before, after):
    for (name, version, values), (name_after, version_after, values_after) in zip(before[0], after[0], strict=True):
        assert (name, version) == (name_after, version_after)
        assert torch.equal(values, values_after)
    assert before[1:] == after[1:]


@pytest.mark.parametrize("raises", [False, True])
def test_nothing_is_left_behind(raises):
    net = smooth_network().float()
    net[1].eval()
    guided = sl.SaliencyGuidedLoss(net, "grad_cam", "kl")
    images, labels, human = batch(8)
    guided(images, labels, human).loss.backward()
    calls = []
    net[3].register_forward_hook(lambda module, *_: setattr(module, "calls", calls.append(1)))
    live = guided(images, labels, human).loss
    del net[3].calls

    def loader():
        for _ in range(6):
            random.random(), NUMPY.random_sample(), torch.rand(1)
            yield images, labels, human
        if raises:
            raise KeyError("broken loader")

    before, called = trace(guided), len(calls)
    if raises:
        with pytest.raises(KeyError, match="broken loader"):
            sl.diagnose(guided, loader())
    else:
        sl.diagnose(guided, loader())
    assert_same(before, trace(guided))
    assert len(calls) > called
    live.backward()


def test_loaders_generators_are_set_back():
    images, labels, human = batch(8)
    generator = torch.Generator().manual_seed(2)
    loader = DataLoader(TensorDataset(images, labels, human), 4, shuffle=True, generator=generator)
    state = generator.get_state()
    guided = sl.SaliencyGuidedLoss(smooth_network().float())
    first = sl.diagnose(guided, loader, gradient_loader=loader)
    assert torch.equal(generator.get_state(), state)
    assert str(sl.diagnose(guided, loader, gradient_loader=loader)) == str(first)


def test_comparing_gradients_leaves_evaluation_alone():
    net, step = smooth_network().float(), batch(8)
    with_gradients = sl.diagnose(sl.SaliencyGuidedLoss(net), [step])
    without = sl.diagnose(sl.SaliencyGuidedLoss(net), [step], gradient_batches=0)
    assert with_gradients.trained == without.trained
    with torch.no_grad():
        expected = float(F.cross_entropy(net.eval()(step[0]), step[1]))
    assert with_gradients.task_loss == without.task_loss == pytest.approx(expected)


def test_single_pass_loaders_and_no_grad_around():
    guided = sl.SaliencyGuidedLoss(smooth_network().float())
    loader = [batch(4) for _ in range(6)]
    expected = sl.diagnose(guided, loader)
    with torch.inference_mode():
        found = sl.diagnose(guided, (step for step in loader))
    assert found == expected
    assert found.samples == 24
    assert found.gradients.batches == 4
    assert sl.diagnose(guided, loader, limit=8).samples == 8
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.verdict = "works"


def test_wrapped_in_ddp(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = plain_net()
        expected = sl.diagnose(sl.SaliencyGuidedLoss(net), [batch(8)] * 2)
        inside = sl.SaliencyGuidedLoss(nn.parallel.DistributedDataParallel(net))
        around = nn.parallel.DistributedDataParallel(sl.SaliencyGuidedLoss(net))
        calls = []
        for wrapper in (inside.model, around):
            wrapper.register_forward_hook(lambda *_: calls.append(1))
        for wrapped in (inside, around):
            calls.clear()
            assert sl.diagnose(wrapped, [batch(8)] * 2) == expected
            assert not calls
            wrapped(*batch(8)).loss.backward()
            assert calls
    finally:
        torch.distributed.destroy_process_group()


def test_maps_in_every_form_and_missing_flat_and_ignored_ones():
    net, (images, labels, _) = plain_net(), batch(12)
    mask = torch.rand(12, 31, 27) > 0.6
    same = [
        sl.diagnose(sl.SaliencyGuidedLoss(net), [(images, labels, form)]) for form in (mask, mask.to(torch.uint8) * 255)
    ]
    assert same[0].trained == same[1].trained
    mask[3] = False
    annotated = torch.ones(12, dtype=torch.bool)
    annotated[5] = False
    targets = torch.where(torch.arange(12) == 7, -100, labels)
    steps = [
        {"images": images, "targets": targets, "human_saliency": mask, "annotated": annotated},
        {"images": images, "targets": labels},
        (images, labels, None),
    ]
    found = sl.diagnose(sl.SaliencyGuidedLoss(net), steps)
    assert (found.samples, found.annotated) == (36, 10)
    assert found.trained.samples == 9
    assert found.trained.undefined == 1
    assert "1 pairs of maps are left out" in said(found)
    assert found.gradients.batches == 1


def test_several_maps_per_image_and_weights():
    net, (images, labels, _) = plain_net(), batch(10)
    step = {
        "images": images,
        "targets": labels,
        "human_saliency": torch.rand(10, 2, 9, 9),
        "classes": torch.stack([labels, (labels + 1) % 3], 1),
        "annotated": torch.rand(10, 2) > 0.2,
        "sample_weight": torch.rand(10),
        "denominator": "batch",
    }
    found = sl.diagnose(sl.SaliencyGuidedLoss(net, "grad_cam", "kl"), [step, step])
    assert found.annotated == found.trained.samples == 2 * int(step["annotated"].any(1).sum())
    assert found.witness.samples == found.trained.samples


def test_models_without_logits():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 2, 1))
    images, _, human = batch(10)

    def score(output, targets):
        return output.gather(1, targets[:, None]).squeeze(1).mean((1, 2))

    extractor = sl.create_extractor("grad_cam", layer="1", score=score)
    guided = sl.SaliencyGuidedLoss(net, extractor, task_loss=F.cross_entropy)
    found = sl.diagnose(guided, [(images, torch.randint(0, 2, (10, 9, 9)), human)])
    assert found.accuracy is None
    assert "accuracy" not in str(found)
    assert found.task_loss > 0


@pytest.mark.parametrize(
    ("head", "targets", "expected"),
    [
        (1, [0, 1, 1, -100], 2 / 3),
        (1, [0.0, 1.0, 1.0, 1.0], 0.75),
        (1, [0.2, 1.0, 1.0, 1.0], None),
        (2, [0, 1, 1, -100], 2 / 3),
    ],
)
def test_accuracy(head, targets, expected):
    net = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, head, bias=False)
    )
    nn.init.ones_(net[0].weight)
    with torch.no_grad():
        net[3].weight.copy_(torch.tensor([[1.0]]) if head == 1 else torch.tensor([[-1.0], [1.0]]))
    images = torch.rand(4, 1, 5, 5) * torch.tensor([-1.0, 1.0, -1.0, 1.0]).view(4, 1, 1, 1)
    guided = sl.SaliencyGuidedLoss(
        net, task_loss=None if head == 2 or -100 not in targets else lambda out, _: out.mean()
    )
    found = sl.diagnose(guided, [(images, torch.tensor(targets), torch.rand(4, 5, 5))], gradient_batches=0)
    assert found.accuracy == (None if expected is None else pytest.approx(expected))
    assert found.verdict == "too_few_maps"
    assert found.reading[0].startswith("Too few maps to tell: ")


def test_a_frozen_model_has_no_gradients_to_compare():
    net = plain_net().requires_grad_(False)
    found = sl.diagnose(sl.SaliencyGuidedLoss(net), [batch(8)])
    assert found.gradients is None
    assert "gradients" not in str(found)


def test_the_page_holds_sentences_and_numbers():
    page = str(sl.diagnose(sl.SaliencyGuidedLoss(plain_net()), [batch(8)] * 2))
    for part in (
        "- ",
        "16 held-out samples, 16 with a map; task loss",
        "accuracy",
        "cam ",
        "occlusion ",
        "cosine",
        "train mode",
    ):
        assert part in page


def make(weight):
    net = make_model()
    guided = sl.SaliencyGuidedLoss(
        net, sl.create_extractor("cam", score="contrast"), "correlation", saliency_weight=weight
    )
    return guided, torch.optim.Adam(net.parameters(), lr=1e-2)


def test_sweep_of_weights():
    training, _ = shapes()
    loader = DataLoader(
        TensorDataset(training.images[:320], training.labels[:320], training.human[:320]),
        32,
        shuffle=True,
        generator=torch.Generator().manual_seed(1),
    )
    held_out = batches(training.images[320:384], training.labels[320:384], training.human[320:384], 64)
    state = torch.get_rng_state(), loader.generator.get_state()
    options = {"steps": 60, "seed": 1}
    found = sl.sweep_weights(make, loader, held_out, [0.0, 1e-6, 3.0], **options)
    assert found.recommended == 3.0
    assert found.recommendation.startswith(
        "Begin with 3: of those that keep the task its maps agree best (by occlusion, 0."
    )
    assert found.rows[2].witness.difference > found.rows[0].witness.difference + 0.1
    torch.manual_seed(7)
    assert str(found) == str(sl.sweep_weights(make, loader, held_out, [0.0, 1e-6, 3.0], **options))
    torch.set_rng_state(state[0])
    assert "occlusion" in str(found)
    assert len(str(found).splitlines()) == 7
    assert torch.equal(state[0], torch.get_rng_state())
    assert torch.equal(state[1], loader.generator.get_state())
    assert all(row.accuracy is not None for row in found.rows)
    none = sl.sweep_weights(make, loader, held_out, [0.0, 1e-6], steps=4, witness=None)
    assert none.recommended is None
    assert "By cam, no weight that keeps the task makes maps agree more than" in str(none)


def row(accuracy, task_loss, difference):
    return sl.Diagnosis("works", (), alignment(difference, 0.01), None, None, None, 9, 9, task_loss, accuracy)


@pytest.mark.parametrize(
    ("rows", "recommended", "words"),
    [
        ([row(0.9, 1, 0.1), row(0.87, 9, 0.5), row(0.9, 1, 0.4)], 1, "Begin with 1: of those that keep the task"),
        (
            [row(0.9, 1, 0.1), row(0.5, 1, 0.5), row(0.9, 1, 0.4)],
            2,
            "1 agrees better (0.50) but costs too much of the task",
        ),
        ([row(0.9, 1, 0.1), row(0.5, 1, 0.5), row(0.9, 1, 0.11)], None, "1 agrees better (0.50) but costs too much"),
        ([row(None, 1.0, 0.1), row(None, 1.2, 0.5), row(None, 1.05, 0.3)], 2, "Begin with 2"),
        (
            [row(0.9, 1, 0.5), row(0.9, 1, 0.1)],
            None,
            "no weight that keeps the task makes maps agree more than 0.50 at 0.",
        ),
    ],
)
def test_recommendation(rows, recommended, words):
    weight, why = recommend(tuple(range(len(rows))), rows)
    assert weight == recommended
    assert words in why


def refused():
    good, net = batch(8, classes=2), plain_net()
    guided = sl.SaliencyGuidedLoss(net)
    images, labels, human = good
    nothing = {
        "images": images,
        "targets": labels,
        "human_saliency": human,
        "annotated": torch.zeros(8, dtype=torch.bool),
    }
    return {
        "a bare model": (lambda: sl.diagnose(net, [good]), TypeError, "needs a SaliencyGuidedLoss.*got Sequential"),
        "a pair": (lambda: sl.diagnose(guided, [good[:2]]), TypeError, r"yields (tuple|list) of 2, expected \(images"),
        "a tensor": (lambda: sl.diagnose(guided, [images]), TypeError, "yields Tensor, expected"),
        "unknown keys": (
            lambda: sl.diagnose(guided, [{"images": images, "targets": labels, "maps": human}]),
            ValueError,
            r"mapping with \['images', 'maps', 'targets'\], expected keywords of a guided step: images, targets",
        ),
        "no targets": (
            lambda: sl.diagnose(guided, [{"images": images}]),
            ValueError,
            "of which images and targets are",
        ),
        "no maps": (
            lambda: sl.diagnose(guided, [(images, labels, None)]),
            ValueError,
            "None of the 8 samples has a human",
        ),
        "none annotated": (lambda: sl.diagnose(guided, [nothing]), ValueError, "None of the 8 samples has a human map"),
        "empty": (lambda: sl.diagnose(guided, []), ValueError, "The loader is empty"),
        "limit": (lambda: sl.diagnose(guided, [good], limit=0), ValueError, "limit must be at least 1, got 0"),
        "batches": (
            lambda: sl.diagnose(guided, [good], gradient_batches=-1),
            ValueError,
            "gradient_batches must be at least 0, got -1",
        ),
        "permutations": (
            lambda: sl.diagnose(guided, [good], permutations=3),
            ValueError,
            "permutations must be at least 19, got 3",
        ),
        "window": (
            lambda: sl.diagnose(guided, [good], witness="grad_cam", window=3),
            ValueError,
            "window= belongs to witness='occlusion'",
        ),
        "sizes": (
            lambda: sl.diagnose(guided, [good, batch(8, pixels=12)]),
            ValueError,
            r"differ in size between batches, \[\(5, 5\), \(8, 8\)\]",
        ),
        "one weight": (
            lambda: sl.sweep_weights(make, [good], [good], [1.0], steps=1),
            ValueError,
            "at least two values",
        ),
        "no steps": (
            lambda: sl.sweep_weights(make, [good], [good], [0, 1], steps=0),
            ValueError,
            "steps must be at least",
        ),
        "used up": (
            lambda: sl.sweep_weights(make, iter([good]), [good], [0, 1], steps=2),
            ValueError,
            "gave no batch with 1 of 2 steps to go",
        ),
    }


@pytest.mark.parametrize("what", refused())
def test_bad_input(what):
    call, kind, message = refused()[what]
    with pytest.raises(kind, match=message):
        call()


def test_two_inputs_and_a_dict():
    net, (images, labels, human) = TwoInputs(), batch(8, classes=2)
    found = sl.diagnose(sl.SaliencyGuidedLoss(net), [((images, torch.rand(8, 1)), labels, human)])
    assert found.accuracy is not None
    assert found.witness.samples == 8
