"""Published losses, each restated from its paper and code: the saliency's term and the loss of a model on a batch."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from models import token_net
from published_parts import (
    BATCH,
    CLASSES,
    FIRST_AND_LAST,
    SIZE,
    Batch,
    DenseNet,
    ResNet,
    averaged,
    cams,
    differentiate,
    each,
    enlarged,
    grad_cam,
    input_gradient,
    masks,
    minmax,
    ordinary,
    own,
    triangle,
    watch,
)
from torch import nn
from torch.nn import functional as F


class Published(NamedTuple):
    """A formula, the model and batch that it is tried on, and how closely it is met."""

    formula: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    make: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    tolerance: float


FORMULAS: dict[str, Published] = {}


def published(*titles, make=ResNet, batch=ordinary, tolerance=1e-9):
    """The formula under these titles: ``(model, batch)`` to the saliency's term and the loss."""

    def add(formula):
        FORMULAS.update(dict.fromkeys(titles, Published(formula, make, batch, tolerance)))
        return formula

    return add


# CYBORG and its descendants


def cyborg_of(model, batch, classes):
    logits, features = watch(model, batch.images, "layer4.2.conv3")
    maps = each(minmax, cams(features, model.fc.weight, classes(logits)))
    mse = F.mse_loss(maps, each(minmax, triangle(batch.human, 4)))
    return mse, 0.5 * F.cross_entropy(logits, batch.targets) + 0.5 * mse


@published("CYBORG")
def cyborg(model, batch):
    return cyborg_of(model, batch, lambda logits: logits.argmax(1))


@published("Grains of Saliency, MENTOR, fingerprint PAD")
def grains(model, batch):
    return cyborg_of(model, batch, lambda logits: batch.targets)


@published("CYBORG with the extremes of the batch")
def cyborg_of_the_batch(model, batch):
    logits, features = watch(model, batch.images, "layer4")
    mse = F.mse_loss(minmax(cams(features, model.fc.weight, batch.targets)), minmax(batch.human)[:, ::4, ::4])
    return mse, 0.5 * F.cross_entropy(logits, batch.targets) + 0.5 * mse


@published("VISER", make=DenseNet)
def viser(model, batch):
    logits, features = model(batch.images), model.features(batch.images)
    maps = each(minmax, cams(features, model.classifier.weight, logits.argmax(1)))
    mse = F.mse_loss(maps, each(minmax, triangle(batch.human, 4)))
    task = F.cross_entropy(logits, batch.targets)
    alpha = task / (task + mse + 1e-8)
    return mse, alpha * task + (1 - alpha) * mse


@published("Model focus")
def model_focus(model, batch):
    logits, features = watch(model, batch.images, "layer4")
    maps = cams(features, model.fc.weight, batch.targets)
    mse = F.mse_loss(each(minmax, maps), each(minmax, averaged(batch.human, 4)))
    p = each(lambda one: ((one - one.mean()) / one.std(correction=0)).flatten().softmax(0), maps)
    term = mse + 0.5 * (-p * p.log()).sum(1).mean() / np.log(16)
    return term, 0.5 * F.cross_entropy(logits, batch.targets) + 0.5 * term


@published("MENTOR's pretraining", make=lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.SiLU(), nn.Conv2d(4, 1, 1)))
def mentor(model, batch):
    mse = F.mse_loss(model(batch.images).sigmoid(), each(minmax, batch.human)[:, None])
    return mse, mse


# Gradients of the input


@published("RRR", batch=masks)
def rrr(model, batch):
    logits, grads = input_gradient(model, batch.images, lambda logits: logits.log_softmax(1))
    penalty = (batch.human[:, None] * grads).square().sum()
    return penalty, -own(logits.log_softmax(1), batch.targets).sum() + 1000.0 * penalty


@published("GALS")
def gals(model, batch):
    logits, grads = input_gradient(model, batch.images, lambda logits: F.cross_entropy(logits, batch.targets))
    loss = F.l1_loss(grads, grads * batch.human[:, None])
    return BATCH * loss, F.cross_entropy(logits, batch.targets) + 1e4 * loss


def standardize_cut(maps):
    mean, std = maps.mean((1, 2), keepdim=True), maps.std((1, 2), correction=0, keepdim=True)
    return ((maps - mean) / (std + 1e-5)).relu()


def binomial_pyramid(maps, levels):
    """The maps, and each time every second position of them blurred, padded as TensorFlow's "SAME" does."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64)
    kernel = torch.outer(kernel, kernel)[None, None] / 256
    found = [maps]
    for _ in range(levels - 1):
        size = found[-1].shape[-1]
        missing = (-(-size // 2) - 1) * 2 + 5 - size
        pad = (missing // 2, missing - missing // 2) * 2
        found.append(F.conv2d(F.pad(found[-1][:, None], pad), kernel, stride=2)[:, 0])
    return found


def some_annotated():
    return ordinary()._replace(options={"annotated": FIRST_AND_LAST})


@published("Harmonization", batch=some_annotated)
def harmonization(model, batch):
    logits, grads = input_gradient(model, batch.images, lambda logits: own(logits, batch.targets))
    maps, human = standardize_cut(grads.mean(1)), standardize_cut(batch.human)
    human = human / (human.amax((1, 2), keepdim=True) + 1e-6) * (maps.amax((1, 2), keepdim=True).detach() + 1e-6)
    tokens = batch.options["annotated"].double()[:, None, None]
    pairs = zip(binomial_pyramid(human, 5), binomial_pyramid(maps, 5), strict=True)
    loss = torch.stack([((h - m).square() * tokens).mean() for h, m in pairs]).mean()
    return loss, F.cross_entropy(logits, batch.targets, label_smoothing=0.1) + loss


def objects_net():
    """From the features of objects, (B, 5, 7), to answers."""
    return nn.Sequential(nn.Conv1d(5, 6, 1), nn.SiLU(), nn.Flatten(), nn.Linear(42, CLASSES))


def objects():
    """Features of seven objects, how right each answer is, and how much each object matters; two matter alike."""
    human = torch.rand(BATCH, 7, dtype=torch.float64)
    human[:, 2] = human[:, 5]
    answers = torch.tensor([[0.3, 0, 1, 0], [0, 0, 0, 1], [0, 0.6, 0.9, 0]], dtype=torch.float64)
    return Batch(torch.randn(BATCH, 5, 7, dtype=torch.float64), answers, human, {"annotated": FIRST_AND_LAST})


def one_object():
    """The same, where one object matters for each answer."""
    return objects()._replace(human=F.one_hot(torch.tensor([1, 4, 6]), 7).double(), options={})


def influences(model, batch):
    logits, grads = input_gradient(model, batch.images, lambda logits: logits * (batch.targets > 0))
    return F.binary_cross_entropy_with_logits(logits, batch.targets) * CLASSES, grads.sum(1)


@published("HINT", make=objects_net, batch=objects)
def hint(model, batch):
    task, influence = influences(model, batch)
    ranked, order = batch.human.sort(1, descending=True)
    sorted_alike = influence.gather(1, order)
    gap = sorted_alike[:, :, None] - sorted_alike[:, None, :]
    gap = gap * (ranked[:, :, None] >= ranked[:, None, :]) * batch.options["annotated"][:, None, None]
    loss = gap.clamp_max(0).neg().sum(1).mean()
    return loss, task + loss


@published("SCR", make=objects_net, batch=one_object)
def scr(model, batch):
    task, influence = influences(model, batch)
    loss = 0.0
    for a, matters in zip(influence, batch.human, strict=True):
        for others in a[matters == 0]:
            loss = loss + F.relu(others - a[matters == 1] + 1e-4).sum() / BATCH
    return loss, task + loss


def table():
    """Rows of ten numbers; no human map."""
    return Batch(torch.randn(BATCH, 10, dtype=torch.float64), torch.tensor([0, 2, 1]), None, {})


def expected_gradients(model, batch):
    """With the draws of one reference and one position on the way for each sample."""
    inputs = batch.images
    others = inputs[(torch.arange(BATCH) + torch.randint(1, BATCH, (1, BATCH))[0]) % BATCH]
    place = torch.rand(1, BATCH, *[1] * (inputs.ndim - 1), dtype=torch.float64)[0]
    between = others + place * (inputs - others)
    return (inputs - others) * input_gradient(model, between, lambda logits: own(logits, batch.targets))[1]


@published("Attribution priors, smooth")
def smooth_prior(model, batch):
    maps = expected_gradients(model, batch).sum(1)
    maps = each(lambda one: (one - one.mean()) / one.std(correction=0), maps)
    total = sum(maps.diff(dim=axis).abs().sum() for axis in (1, 2)) / BATCH
    return total, 0.9 * F.cross_entropy(model(batch.images), batch.targets) + 0.1 * total


@published(
    "Attribution priors, sparse",
    make=lambda: nn.Sequential(nn.Linear(10, 8), nn.SiLU(), nn.Linear(8, CLASSES)),
    batch=table,
)
def sparse_prior(model, batch):
    sizes = expected_gradients(model, batch).abs().mean(0)
    twice_gini = (sizes[:, None] - sizes).abs().mean() / sizes.mean()
    return 2.0 - twice_gini, F.cross_entropy(model(batch.images), batch.targets) + 0.1 * (2.0 - twice_gini)


# Maps of a layer


@published("GRADIA")
def gradia(model, batch):
    logits, maps = grad_cam(model, batch.images, lambda logits: own(logits, batch.targets))
    human = averaged(batch.human, 4)
    loss = (each(minmax, maps) - human / human.amax((1, 2), keepdim=True)).abs().mean()
    return loss, F.cross_entropy(logits, batch.targets) + loss


def signed():
    """Marks of pixels: here, not here, or nothing said."""
    return ordinary()._replace(human=torch.randint(-1, 2, (BATCH, SIZE, SIZE)).double())


def threshold(maps, marks):
    """The exhaustive search of RES over the whole batch."""
    low, high = maps[marks < 0], maps[marks > 0]
    best, most = 0.0, 0.0
    for a in [*(low + 1e-4), *high]:
        score = float((a > low).double().mean() + (a <= high).double().mean())
        if score > most:
            best, most = float(a), score
    return best


@published("RES", batch=signed)
def res(model, batch):
    logits, maps = grad_cam(model, batch.images, lambda logits: own(logits, batch.targets))
    maps, marks = each(lambda one: minmax(one, 1e-6), maps), batch.human[:, ::4, ::4]
    gap = (torch.tanh(5 * (maps - threshold(maps.detach(), marks))) - marks).abs()[marks != 0].mean()
    kernel = torch.outer(*[torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4] * 2)[None, None]
    blurred = F.conv2d(F.pad(marks.clamp_min(0)[:, None], (1, 1, 1, 1), mode="reflect"), kernel)[:, 0]
    goal = blurred / (blurred.amax((1, 2), keepdim=True) + 1e-6)
    loss = F.relu(gap - 0.1) + (maps - goal).abs().mean()
    return loss, F.cross_entropy(logits, batch.targets) + loss


@published("HAICS", batch=lambda: signed()._replace(human=(torch.rand(BATCH, SIZE, SIZE) < 0.4).double()))
def haics(model, batch):
    logits, maps = grad_cam(model, batch.images, lambda logits: own(logits, batch.targets))
    p = 1e-6 + (1 - 2e-6) * each(lambda one: minmax(one, 1e-6), maps)
    loss = F.binary_cross_entropy(p, batch.human[:, ::4, ::4])
    return loss, F.cross_entropy(logits, batch.targets) + loss


def boxes():
    """Several labels for each image, one of which is explained, and a box as a mask."""
    human = torch.zeros(BATCH, SIZE, SIZE, dtype=torch.float64)
    human[0, 2:9, 3:12], human[1, 8:15, 0:6], human[2, 1:14, 5:9] = 1.0, 1.0, 1.0
    labels = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 1]], dtype=torch.float64)
    return ordinary()._replace(targets=labels, human=human, options={"classes": torch.tensor([2, 1, 0])})


def guidance(logits, batch, losses):
    total = torch.stack(losses).sum()
    return total, F.binary_cross_entropy_with_logits(logits, batch.targets) + 1e-3 * total


def energy_of(attribution, mask):
    positive = attribution.clamp_min(0)
    inside, total = positive[mask == 1].sum(), positive.sum()
    return 1 - inside if total < 1e-7 else 1 - inside / total


@published("Model-Guidance: energy", batch=boxes)
def guidance_energy(model, batch):
    logits, maps = grad_cam(model, batch.images, lambda logits: own(logits, batch.options["classes"]))
    pairs = zip(enlarged(maps.relu()), batch.human, strict=True)
    return guidance(logits, batch, [energy_of(*pair) for pair in pairs])


def attribution(model, batch):
    logits, grads = input_gradient(model, batch.images, lambda logits: own(logits, batch.options["classes"]))
    return logits, (grads * batch.images).sum(1)


@published("Model-Guidance: RRR\\*", batch=boxes)
def guidance_rrr(model, batch):
    logits, maps = attribution(model, batch)
    maps = each(lambda one: one / one.abs().max(), maps)
    return guidance(logits, batch, [one[m == 0].square().sum() for one, m in zip(maps, batch.human, strict=True)])


@published("Model-Guidance: L1", batch=boxes)
def guidance_l1(model, batch):
    logits, maps = attribution(model, batch)
    maps = each(lambda one: one.clamp_min(0) / one.max(), maps)
    return guidance(logits, batch, [F.l1_loss(*pair) for pair in zip(maps, batch.human, strict=True)])


@published("Model-Guidance: PPCE", batch=boxes)
def guidance_ppce(model, batch):
    logits, maps = attribution(model, batch)
    maps = each(lambda one: one.clamp_min(0) / one.max(), maps)
    inside = [one[m == 1] for one, m in zip(maps, batch.human, strict=True)]
    return guidance(logits, batch, [F.binary_cross_entropy(one, torch.ones_like(one)) for one in inside])


@published("XIL typology: RRR-G", batch=ordinary)
def xil_rrr_g(model, batch):
    logits, maps = grad_cam(model, batch.images, lambda logits: own(logits, logits.argmax(1)))
    penalty = (triangle(batch.human, 4) * each(lambda one: minmax(one, 1e-6), maps)).square().sum()
    return penalty, F.cross_entropy(logits, batch.targets) + penalty


@published("XIL typology: HINT", batch=masks)
def xil_hint(model, batch):
    logits, maps = grad_cam(model, batch.images, lambda logits: own(logits, batch.targets))
    maps = each(lambda one: minmax(one, 1e-6), maps).repeat_interleave(4, 1).repeat_interleave(4, 2)
    loss = F.mse_loss(maps, batch.human, reduction="sum")
    return loss / (SIZE * SIZE), F.cross_entropy(logits, batch.targets) + 1000.0 * loss


@published("XIL typology: normalisation rate", batch=masks, tolerance=1e-6)
def xil_rate(model, batch):
    penalty, _ = rrr(model, batch)
    task = F.cross_entropy(model(batch.images), batch.targets)
    return penalty, task + 100.0 * (task / penalty).detach() * penalty


@published("GG-CAM")
def gg_cam(model, batch):
    logits, features = watch(model, batch.images, "layer4")
    mse = F.mse_loss(cams(features, model.fc.weight, batch.targets), averaged(batch.human, 4))
    task, (first, second) = F.cross_entropy(logits, batch.targets), np.exp([7.0, -23.0])
    return mse, task / first**2 + np.log(first + 1) + mse / (2 * second**2) + np.log(second + 1)


def taught():
    """The maps and logits of a teacher, and what it predicts."""
    logits = torch.randn(BATCH, CLASSES, dtype=torch.float64)
    return ordinary()._replace(targets=logits, options={"classes": logits.argmax(1)})


@published("e2KD", batch=taught, tolerance=1e-7)
def e2kd(model, batch):
    logits, maps = grad_cam(model, batch.images, lambda logits: own(logits, batch.options["classes"]))
    loss = 1 - F.cosine_similarity(enlarged(maps.relu()).flatten(1), batch.human.flatten(1)).mean()
    teacher = batch.targets.softmax(1)
    return loss, (teacher * (teacher.log() - logits.log_softmax(1))).sum(1).mean() + loss


# Attention and activations


def small():
    """Images of 4x4 patches for :func:`token_net`."""
    human = (torch.rand(BATCH, 12, 12) < 0.4).double()
    return Batch(torch.randn(BATCH, 3, 12, 12, dtype=torch.float64), torch.tensor([0, 2, 1]), human, {})


@published("RobustViT", make=token_net, batch=small)
def robust_vit(model, batch):
    patches, *blocks, norm, first, head = model
    tokens, attentions = patches(batch.images), []
    for block in blocks:
        q, k, v = block.qkv(block.norm1(tokens)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        attentions.append((q @ k.transpose(-2, -1) * 0.5).softmax(-1))
        tokens = tokens + block.out((attentions[-1] @ v).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    logits = head(first(norm(tokens)))
    relevance = torch.eye(17, dtype=torch.float64).expand(BATCH, -1, -1)
    for attention in attentions:
        weighed = differentiate(own(logits, batch.targets), attention) * attention
        relevance = relevance + weighed.clamp_min(0).mean(1) @ relevance
    maps = F.interpolate(relevance[:, :1, 1:].unflatten(2, (4, 4)), scale_factor=3, mode="bilinear")[:, 0]
    maps = each(minmax, maps)
    loss = 2.0 * (maps * (1 - batch.human)).square().mean() + 0.3 * F.mse_loss(maps * batch.human, batch.human)
    return loss, 0.2 * F.cross_entropy(logits, logits.argmax(1)) + 0.8 * loss


@published("Attention transfer")
def attention_transfer(model, batch):
    losses = []
    for layer in ("layer2", "layer3", "layer4"):
        logits, features = watch(model, batch.images, layer)
        maps, human = features.square().mean(1), averaged(batch.human, features.shape[-1])
        losses.append(F.mse_loss(F.normalize(maps.flatten(1)), F.normalize(human.flatten(1))))
    return sum(losses) / 3, F.cross_entropy(logits, batch.targets) + 1e3 * sum(losses)


# Measures of saliency benchmarks, after pysaliency


def density(maps):
    low = maps.amin((1, 2), keepdim=True).clamp_max(0)
    maps = maps - low + 1e-20
    return (maps / maps.sum((1, 2), keepdim=True)).flatten(1)


def kl_divergence(maps, human):
    p, q = density(maps), density(human)
    return (q * (q / p).log()).sum(1)


def mit_kl_divergence(maps, human):
    eps = 2.2204e-16
    p, q = (one / one.sum((1, 2), keepdim=True) for one in (maps, human))
    return (q * (eps + q / (p + eps)).log()).sum((1, 2))


def correlation_coefficient(maps, human):
    m, h = ((one - one.mean((1, 2), keepdim=True)).flatten(1) for one in (maps, human))
    return 1 - (m * h).sum(1) / (m.square().sum(1) * h.square().sum(1)).sqrt()


def similarity(maps, human):
    p, q = density(maps), density(human)
    return 1 - torch.minimum(p, q).sum(1)


def scanpath_saliency(maps, fixations):
    z = (maps - maps.mean((1, 2), keepdim=True)) / maps.std((1, 2), correction=0, keepdim=True)
    return -torch.stack([one[count.nonzero(as_tuple=True)].mean() for one, count in zip(z, fixations, strict=True)])


def fixated():
    """Four fixated pixels for each image."""
    human = torch.zeros(BATCH, SIZE * SIZE, dtype=torch.float64)
    human.scatter_(1, torch.rand(BATCH, SIZE * SIZE).topk(4).indices, 1.0)
    return ordinary()._replace(human=human.view(BATCH, SIZE, SIZE))


def measure(model, batch, compare, *, relu=False, cells=True):
    """A measure of Grad-CAM, or of the class activation map, as a loss."""
    logits, features = watch(model, batch.images, "layer4")
    maps = cams(features, model.fc.weight, batch.targets)
    if relu:
        maps = maps.relu() / 16
    value = (compare(maps, averaged(batch.human, 4)) if cells else compare(enlarged(maps), batch.human)).mean()
    return value, F.cross_entropy(logits, batch.targets) + value


@published("KL")
def kl(model, batch):
    return measure(model, batch, kl_divergence, relu=True)


@published("KL of the MIT benchmark")
def mit_kl(model, batch):
    return measure(model, batch, mit_kl_divergence, relu=True)


@published("CC")
def cc(model, batch):
    return measure(model, batch, correlation_coefficient)


@published("SIM")
def sim(model, batch):
    return measure(model, batch, similarity, relu=True)


@published("NSS", batch=fixated)
def nss(model, batch):
    return measure(model, batch, scanpath_saliency, cells=False)
