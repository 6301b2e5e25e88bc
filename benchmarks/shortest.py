"""The shortest plain PyTorch that gives the value of each pointwise divergence with its default options.

Maps are ordinary here, (B, N): none is flat, empty, tiny or partly unknown, which these formulas do not survive.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["SHORTEST", "Formula"]

Formula = Callable[[Tensor, Tensor], Tensor]


def _unit(x: Tensor) -> Tensor:
    low, high = x.aminmax(dim=1, keepdim=True)
    return (x - low) / (high - low)


def _positive_unit(x: Tensor) -> Tensor:
    x = x.relu()
    return x / x.amax(1, keepdim=True)


def _share(x: Tensor) -> Tensor:
    return x / x.sum(1, keepdim=True)


def _shifted_share(x: Tensor) -> Tensor:
    return _share(x - x.amin(1, keepdim=True))


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


def _standard(x: Tensor) -> Tensor:
    return _centred(x) / x.std(1, keepdim=True, correction=0)


def _kl(model: Tensor, human: Tensor) -> Tensor:
    target = _share(human)
    return (target * (target.clamp_min(1e-38).log() - _standard(model).log_softmax(1))).sum(1)


def _js(model: Tensor, human: Tensor) -> Tensor:
    logs, target = _standard(model).log_softmax(1), _share(human)
    shares = logs.exp()
    middle = ((shares + target) / 2).log()
    return 0.5 * (shares * (logs - middle) + target * (target.clamp_min(1e-38).log() - middle)).sum(1)


def _bce(model: Tensor, human: Tensor) -> Tensor:
    shrunk = 0.01 + 0.98 * _unit(model)
    return F.binary_cross_entropy(shrunk, _unit(human), reduction="none").mean(1)


def _ppce(model: Tensor, human: Tensor) -> Tensor:
    model = _positive_unit(model)
    logs = torch.where(model > 1e-38, model.clamp_min(1e-38).log(), -100)
    return -(human * logs).sum(1) / human.sum(1)


def _dice(model: Tensor, human: Tensor) -> Tensor:
    model, human = _unit(model), _unit(human)
    return 1 - 2 * (model * human).sum(1) / (model.square().sum(1) + human.square().sum(1))


def _soft_iou(model: Tensor, human: Tensor) -> Tensor:
    model, human = _unit(model), _unit(human)
    return 1 - torch.minimum(model, human).sum(1) / torch.maximum(model, human).sum(1)


def _energy(model: Tensor, human: Tensor) -> Tensor:
    model = model.relu()
    return 1 - (model * human).sum(1) / model.sum(1)


def _foreground_background(model: Tensor, human: Tensor) -> Tensor:
    model = _unit(model)
    return 2 * (model * (1 - human)).square().mean(1) + 0.3 * (model * human - human).square().mean(1)


def _entropy(model: Tensor, _: Tensor) -> Tensor:
    logs = _standard(model).log_softmax(1)
    return -(logs.exp() * logs).sum(1) / math.log(model.shape[1])


def _gini(model: Tensor, _: Tensor) -> Tensor:
    sizes, count = model.abs().sort(1).values, model.shape[1]
    ranks = 2 * torch.arange(1.0, count + 1) - count - 1
    return 1 - (sizes * ranks).sum(1) / (count * sizes.sum(1))


SHORTEST: dict[str, Formula] = {
    "area": lambda model, human: _unit(model).mean(1).square(),
    "attention_l2": lambda model, human: (F.normalize(model) - F.normalize(human)).square().mean(1),
    "bce": _bce,
    "correlation": lambda model, human: 1 - F.cosine_similarity(_centred(model), _centred(human)),
    "cosine": lambda model, human: 1 - F.cosine_similarity(model, human),
    "dice": _dice,
    "energy": _energy,
    "entropy": _entropy,
    "foreground_background": _foreground_background,
    "gini": _gini,
    "huber": lambda model, human: F.huber_loss(_unit(model), _unit(human), reduction="none", delta=0.5).mean(1),
    "js": _js,
    "kl": _kl,
    "mae": lambda model, human: (_unit(model) - _unit(human)).abs().mean(1),
    "masked_l1": lambda model, human: (model * (1 - _unit(human))).abs().mean(1),
    "mse": lambda model, human: (_unit(model) - _unit(human)).square().mean(1),
    "nss": lambda model, human: -(_standard(model) * human).sum(1) / human.sum(1),
    "ppce": _ppce,
    "right_reasons": lambda model, human: ((1 - human) * model).square().sum(1),
    "sim": lambda model, human: 1 - torch.minimum(_shifted_share(model), _share(human)).sum(1),
    "soft_iou": _soft_iou,
}
