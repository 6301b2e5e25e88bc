"""One naive restatement of each divergence, loops allowed, like the paper. A registered name without one fails."""

from collections.abc import Callable

import numpy as np
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
