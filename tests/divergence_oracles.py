"""One naive restatement of each divergence, loops allowed, like the paper. A registered name without one fails."""

import functools
from collections.abc import Callable

import numpy as np
import scipy.ndimage
import scipy.spatial
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


@oracle("ssim")
def ssim(model, human):
    """Window by window, on maps mirrored at their border, with the constants of the paper for values from 0 to 1."""
    model, human = ((x - x.min()) / (x.max() - x.min()) for x in (model, human))
    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.5**2))
    window = functools.reduce(np.multiply.outer, [window / window.sum()] * model.ndim)
    model, human = (np.pad(x, 3, mode="reflect") for x in (model, human))
    values = []
    for corner in np.ndindex(*(side - 6 for side in model.shape)):
        around = tuple(slice(start, start + 7) for start in corner)
        x, y = model[around], human[around]
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        cov = (window * (x - mx) * (y - my)).sum()
        c1, c2 = 0.01**2, 0.03**2
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return 1.0 - float(np.mean(values))


@oracle("pyramid")
def pyramid(model, human):
    """Fel et al. 2022; each step is one correlation with the binomial kernel and zeros outside, of which half stay."""
    model, human = (np.maximum((x - x.mean()) / (x.std() + 1e-5), 0) for x in (model, human))
    human = human / (human.max() + 1e-6) * (model.max() + 1e-6)
    kernel = functools.reduce(np.multiply.outer, [np.array([1, 4, 6, 4, 1]) / 16] * model.ndim)
    errors = []
    for _ in range(5):
        errors.append(np.mean((model - human) ** 2))
        kept = tuple(slice((side + 1) % 2, None, 2) for side in model.shape)
        model, human = (scipy.ndimage.correlate(x, kernel, mode="constant")[kept] for x in (model, human))
    return float(np.mean(errors))


@oracle("entropy")
def entropy(model, human):
    p = scipy.special.softmax(scipy.stats.zscore(model.ravel()))
    return float(scipy.stats.entropy(p, base=p.size))


@oracle("total_variation")
def total_variation(model, human):
    model = scipy.stats.zscore(model, axis=None)
    steps = [np.abs(np.diff(model, axis=axis)).ravel() for axis in range(model.ndim)]
    return float(np.mean(np.concatenate(steps)))


@oracle("gini")
def gini(model, human):
    a = np.abs(model).ravel()
    return 1.0 - sum(abs(x - y) for x in a for y in a) / (2 * a.size * a.sum())


@oracle("area")
def area(model, human):
    return float(np.mean((model - model.min()) / (model.max() - model.min())) ** 2)


@oracle("sinkhorn")
def sinkhorn(model, human):
    """Cuturi 2013, on the matrix of all pairs of positions, finished by Newton's method; the value is the plan's."""
    axes = [(np.arange(side) + 0.5) / side for side in model.shape]
    places = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    cost = scipy.spatial.distance.cdist(places, places, "sqeuclidean") / 2
    p = scipy.special.softmax(scipy.stats.zscore(model.ravel()))
    q = human.ravel() / human.sum()

    def transport(p, q, epsilon=0.1**2):
        kernel, v = np.exp(-cost / epsilon), np.ones_like(q)
        for _ in range(300):
            u = p / (kernel @ v)
            v = q / (kernel.T @ u)
        logs, shift = np.log(np.concatenate([u, v])), np.repeat([1.0, -1.0], len(p))
        for _ in range(8):
            plan = np.exp(logs[: len(p), None] - cost / epsilon + logs[None, len(p) :])
            excess = np.concatenate([plan.sum(1) - p, plan.sum(0) - q])
            slope = np.block([[np.diag(plan.sum(1)), plan], [plan.T, np.diag(plan.sum(0))]])
            logs = logs - np.linalg.solve(slope + np.outer(shift, shift) / len(p), excess)
        return (plan * cost).sum() + epsilon * scipy.special.rel_entr(plan, np.outer(p, q)).sum()

    return float(transport(p, q) - transport(p, p) / 2 - transport(q, q) / 2)
