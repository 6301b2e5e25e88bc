"""One naive restatement of each divergence, loops allowed, like the paper. A registered name without one fails."""

from collections.abc import Callable

import numpy as np
import scipy.spatial
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
    losses = [-h * np.log(0.01 + 0.98 * m) - (1 - h) * np.log(0.01 + 0.98 * (1 - m)) for m, h in cells]
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
