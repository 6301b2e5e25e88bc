"""One naive restatement of each divergence, loops allowed, like the paper. A registered name without one fails."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import scipy.spatial
import scipy.ndimage
import scipy.special
import scipy.stats

DIVERGENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}


def oracle(name):
    def add(function):
        DIVERGENCES[name] = function
        return function

    return add


def minmax(x):
    return (x - x.min()) / (x.max() - x.min())


@oracle("mse")
def mse(model, human):
    return float(np.mean((minmax(model) - minmax(human)) ** 2))


@oracle("mae")
def mae(model, human):
    return float(np.mean(np.abs(minmax(model) - minmax(human))))


@oracle("huber")
def huber(model, human):
    return float(np.mean(scipy.special.huber(0.5, minmax(model) - minmax(human))))


@oracle("bce")
def bce(model, human):
    cells = zip(minmax(model).ravel(), minmax(human).ravel(), strict=True)
    losses = [-h * np.log(1e-6 + (1 - 2e-6) * m) - (1 - h) * np.log(1e-6 + (1 - 2e-6) * (1 - m)) for m, h in cells]
    return float(np.mean(losses))


@oracle("ppce")
def ppce(model, human):
    attribution = np.maximum(model, 0)
    attribution = attribution / attribution.max() if attribution.max() > 0 else attribution
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(attribution), -100)
    return -float(np.average(logs, weights=human))


@oracle("kl")
def kl(model, human):
    p = scipy.special.softmax(scipy.stats.zscore(model.ravel()))
    return float(scipy.stats.entropy(human.ravel() / human.sum(), p))


@oracle("correlation")
def correlation(model, human):
    return 1.0 - float(np.corrcoef(model.ravel(), human.ravel())[0, 1])


@oracle("right_reasons")
def right_reasons(model, human):
    return float(sum(((1 - h) * m) ** 2 for m, h in zip(model.ravel(), human.ravel(), strict=True)))


@oracle("js")
def js(model, human):
    p = scipy.special.softmax(scipy.stats.zscore(model.ravel()))
    return float(scipy.spatial.distance.jensenshannon(p, human.ravel() / human.sum()) ** 2)


@oracle("cosine")
def cosine(model, human):
    return float(scipy.spatial.distance.cosine(model.ravel(), human.ravel()))


@oracle("sim")
def sim(model, human):
    model = model - min(0, model.min())
    return 1.0 - float(np.minimum(model / model.sum(), human / human.sum()).sum())


@oracle("nss")
def nss(model, human):
    return -float(np.average(scipy.stats.zscore(model.ravel()), weights=human.ravel()))
@oracle("energy")
def energy(model, human):
    inside = total = 0.0
    for m, h in zip(model.ravel(), human.ravel(), strict=True):
        inside += max(0.0, m) * h
        total += max(0.0, m)
    return 1.0 - inside / total if total else 1.0


def _unit_range(x):
    return (x - x.min()) / (x.max() - x.min())


@oracle("dice")
def dice(model, human):
    model, human = _unit_range(model), _unit_range(human)
    return 1.0 - 2.0 * float((model * human).sum() / ((model**2).sum() + (human**2).sum()))


@oracle("soft_iou")
def soft_iou(model, human):
    model, human = _unit_range(model), _unit_range(human)
    return 1.0 - float(np.minimum(model, human).sum() / np.maximum(model, human).sum())


@oracle("masked_l1")
def masked_l1(model, human):
    return float(np.mean(np.abs(model - model * _unit_range(human))))


@oracle("foreground_background")
def foreground_background(model, human):
    relevance = _unit_range(model)
    background = np.mean((relevance * (1 - human) - 0) ** 2)
    foreground = np.mean((relevance * human - human) ** 2)
    return float(2.0 * background + 0.3 * foreground)


@oracle("attention_l2")
def attention_l2(model, human):
    return float(np.mean((model / np.linalg.norm(model) - human / np.linalg.norm(human)) ** 2))


def _search(model, signed):
    """Every candidate in turn, its matches counted exactly; the first of the best."""
    low, high = model[signed < 0], model[signed > 0]
    best, most = 0.0, Fraction(0)
    for a in [*(low + 1e-4), *high]:
        matches = Fraction(0)
        for x in low:
            matches += Fraction(int(x < a), len(low))
        for x in high:
            matches += Fraction(int(x >= a), len(high))
        if matches > most:
            best, most = a, matches
    return best


@oracle("robust")
def robust(model, signed):
    model = _unit_range(model)
    positive = np.maximum(signed, 0)
    for axis in range(positive.ndim):
        positive = scipy.ndimage.convolve1d(positive, [0.25, 0.5, 0.25], axis=axis, mode="mirror")
    spread = np.mean(np.abs(model - positive / (positive.max() + 1e-6)))
    said = signed != 0
    if not said.any():
        return float(spread)
    a = _search(model.ravel(), signed.ravel())
    wrong = np.mean(np.abs(np.tanh(5 * (model - a)) - signed)[said])
    return float(max(0.0, wrong - 0.1) + spread)


@oracle("ranking")
def ranking(model, human):
    model, human = model.ravel(), human.ravel()
    pairs = [(i, j) for i in range(len(model)) for j in range(len(model)) if i != j and human[i] >= human[j]]
    return float(np.mean([max(0.0, model[j] - model[i]) for i, j in pairs]))
