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
