"""One naive restatement of each divergence, loops allowed, like the paper. A registered name without one fails."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import scipy.ndimage
import scipy.special
import scipy.stats

DIVERGENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}


def oracle(name):
    def add(function):
        DIVERGENCES[name] = function
        return function

    return add


@oracle("mse")
def mse(model, human):
    model = (model - model.min()) / (model.max() - model.min())
    human = (human - human.min()) / (human.max() - human.min())
    return float(np.mean((model - human) ** 2))


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
