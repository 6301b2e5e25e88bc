"""One naive restatement of each divergence, loops allowed, like the paper. A registered name without one fails."""

import functools
from collections.abc import Callable
from fractions import Fraction

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
