"""One naive restatement of each metric, loops allowed, like the paper. A registered name without one fails."""

import itertools
import math

import numpy as np
import scipy.integrate
import scipy.stats
import sklearn.metrics
import torch

ORACLES = {}
READS = {}
EPS = 2.2204e-16


def oracle(name, reads):
    """Of the model's map, the human map and all human maps of the batch, as arrays."""

    def add(function):
        ORACLES[name], READS[name] = function, reads
        return function

    return add


def draw(name, count, size, dtype=torch.float64):
    """What an update of this metric takes: maps with both signs, and human maps, none of them flat."""
    model = torch.randn(count, *size, dtype=dtype)
    if READS[name] == "runs":
        return (torch.stack([model, *torch.randn(2, count, *size, dtype=dtype)]),)
    human = torch.rand(count, *size, dtype=dtype)
    if READS[name] == "mask":
        human = (human > human.flatten(1).median(1).values.view(-1, *[1] * len(size))).to(dtype)
    if READS[name] == "fixations":
        human = (3 * human).floor() * (torch.rand(count, *size) > 0.4)
        human.flatten(1)[:, 0], human.flatten(1)[:, 1:2] = 2.0, 0.0
    return model, human


def density(x):
    x = x - min(0.0, x.min())
    return x / x.sum() if x.sum() > 0 else np.full_like(x, 1 / x.size)


def flat(x):
    return x.max() == x.min()


@oracle("cc", "saliency")
def cc(model, human, _):
    return 0.0 if flat(model) or flat(human) else scipy.stats.pearsonr(model.ravel(), human.ravel())[0]


@oracle("sim", "saliency")
def sim(model, human, _):
    return sum(min(p, q) for p, q in zip(density(model).flat, density(human).flat, strict=True))


@oracle("kl", "saliency")
def kl(model, human, _):
    pairs = zip(density(model).flat, density(human).flat, strict=True)
    return sum(q * math.log(EPS + q / (p + EPS)) for p, q in pairs)


@oracle("spearman", "saliency")
def spearman(model, human, _):
    return 0.0 if flat(model) or flat(human) else scipy.stats.spearmanr(model.ravel(), human.ravel())[0]


@oracle("human_alignment", "saliency")
def human_alignment(model, human, _):
    return spearman(model, human, _) / 0.65753


def at_fixations(values, counts):
    return [values[place] for place in np.ndindex(values.shape) for _ in range(int(counts[place]))]


@oracle("nss", "fixations")
def nss(model, human, _):
    return 0.0 if flat(model) else np.mean(at_fixations((model - model.mean()) / model.std(), human))


@oracle("auc_judd", "fixations")
def auc_judd(model, human, _):
    positives, negatives = np.array(at_fixations(model, human)), model[human == 0]
    thresholds = [model.max() + 1, *sorted(positives, reverse=True), model.min()]
    hits = [np.mean(positives >= threshold) for threshold in thresholds]
    alarms = [np.mean(negatives >= threshold) for threshold in thresholds]
    return scipy.integrate.trapezoid(hits, alarms)


@oracle("shuffled_auc", "fixations")
def shuffled_auc(model, human, everyone):
    positives = at_fixations(model, human)
    negatives = [v for other in everyone if other is not human for v in at_fixations(model, other)]
    labels = [1] * len(positives) + [0] * len(negatives)
    return sklearn.metrics.roc_auc_score(labels, positives + negatives)


@oracle("information_gain", "fixations")
def information_gain(model, human, _):
    return np.mean([math.log2(p + EPS) - math.log2(1 / model.size + EPS) for p in at_fixations(density(model), human)])


@oracle("energy_pointing_game", "mask")
def energy_pointing_game(model, human, _):
    positive = np.maximum(model, 0)
    return 0.0 if positive.sum() < 1e-7 else (human * positive).sum() / positive.sum()


@oracle("pointing_game", "mask")
def pointing_game(model, human, _, tolerance=0.0):
    places = [place for place in np.ndindex(model.shape) if model[place] == model.max()]
    inside = [place for place in np.ndindex(model.shape) if human[place] > 0.5]
    return np.mean([any(math.dist(place, other) <= tolerance for other in inside) for place in places])


@oracle("iou", "mask")
def iou(model, human, _):
    positive = np.maximum(model, 0)
    scaled = np.zeros_like(positive) if flat(positive) else (positive - positive.min()) / np.ptp(positive)
    model = {place for place in np.ndindex(model.shape) if scaled[place] > 0.5}
    human = {place for place in np.ndindex(human.shape) if human[place] / (human.max() or 1) > 0.5}
    return len(model & human) / len(model | human) if model | human else math.nan


@oracle("map_entropy", "nothing")
def map_entropy(model, _, __):
    return scipy.stats.entropy(density(model).ravel()) / math.log(model.size) if model.size > 1 else 0.0


@oracle("stability", "runs")
def stability(runs, _, __):
    return np.mean([cc(one, other, None) for one, other in itertools.combinations(runs, 2)])


def expected(name, model, human=None):
    """The oracle's value for each sample, as a tensor."""
    rows = model.transpose(0, 1) if READS[name] == "runs" else model
    rows = [row.double().numpy() for row in rows]
    everyone = [None] * len(rows) if human is None else [row.double().numpy() for row in human]
    values = [ORACLES[name](row, own, everyone) for row, own in zip(rows, everyone, strict=True)]
    return torch.tensor(values, dtype=torch.float64)
