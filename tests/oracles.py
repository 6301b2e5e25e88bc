"""One naive restatement of each part, loops allowed, looking like the paper. A registered name without one fails."""

from collections.abc import Callable

import numpy as np
import scipy.special
import scipy.stats
import torch
from torch import nn

DIVERGENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}
EXTRACTORS: dict[str, Callable[[nn.Sequential, torch.Tensor, int], np.ndarray]] = {}


def oracle(table, name):
    def add(function):
        table[name] = function
        return function

    return add


@oracle(DIVERGENCES, "mse")
def mse(model, human):
    model = (model - model.min()) / (model.max() - model.min())
    human = (human - human.min()) / (human.max() - human.min())
    return float(np.mean((model - human) ** 2))


@oracle(DIVERGENCES, "kl")
def kl(model, human):
    p = scipy.special.softmax(scipy.stats.zscore(model.ravel()))
    return float(scipy.stats.entropy(human.ravel() / human.sum(), p))


@oracle(DIVERGENCES, "correlation")
def correlation(model, human):
    return 1.0 - float(np.corrcoef(model.ravel(), human.ravel())[0, 1])


@oracle(DIVERGENCES, "right_reasons")
def right_reasons(model, human):
    return float(sum(((1 - h) * m) ** 2 for m, h in zip(model.ravel(), human.ravel(), strict=True)))


@oracle(EXTRACTORS, "cam")
def cam(net, image, label):
    """Class weights times features before the pooling, one position at a time."""
    features, weight = net[:6](image[None])[0].detach(), net[9].weight[label].detach()
    _, height, width = features.shape
    return np.array([[float(weight @ features[:, i, j]) for j in range(width)] for i in range(height)])


def _grad_cam(net, image, label, layer):
    activation = net[: layer + 1](image[None]).detach().requires_grad_()
    (grad,) = torch.autograd.grad(net[layer + 1 :](activation)[0, label], activation)
    weights = grad[0].mean((1, 2))
    return sum(w * a for w, a in zip(weights, activation[0], strict=True)).detach().numpy()


@oracle(EXTRACTORS, "grad_cam")
def grad_cam(net, image, label):
    return _grad_cam(net, image, label, 5)


@oracle(EXTRACTORS, "captum_layer_grad_cam")
def captum_layer_grad_cam(net, image, label):
    return _grad_cam(net, image, label, 2)


@oracle(EXTRACTORS, "input_gradient")
@oracle(EXTRACTORS, "captum_saliency")
def input_gradient(net, image, label, step=1e-6):
    """Largest absolute slope over channels, each slope by moving one pixel."""
    result = np.zeros(image.shape[1:])
    with torch.no_grad():
        for i in range(image.shape[1]):
            for j in range(image.shape[2]):
                slopes = []
                for c in range(image.shape[0]):
                    moved = torch.zeros_like(image)
                    moved[c, i, j] = step
                    both = net(torch.stack([image + moved, image - moved]))[:, label]
                    slopes.append(abs(float(both[0] - both[1])) / (2 * step))
                result[i, j] = max(slopes)
    return result


@oracle(EXTRACTORS, "captum_layer_gradient_x_activation")
def captum_layer_gradient_x_activation(net, image, label):
    activation = net[:3](image[None]).detach().requires_grad_()
    (grad,) = torch.autograd.grad(net[3:](activation)[0, label], activation)
    return sum(g * a for g, a in zip(grad[0], activation[0], strict=True)).detach().numpy()


def _gradient_at(net, image, label):
    image = image.detach().requires_grad_()
    return torch.autograd.grad(net(image[None])[0, label], image)[0]


@oracle(EXTRACTORS, "captum_input_x_gradient")
def captum_input_x_gradient(net, image, label):
    return sum(x * g for x, g in zip(image, _gradient_at(net, image, label), strict=True)).numpy()


@oracle(EXTRACTORS, "captum_integrated_gradients")
def captum_integrated_gradients(net, image, label, steps=4):
    """Gauss-Legendre quadrature of the gradient on the way from black to the image."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    way = [w / 2 * _gradient_at(net, (x + 1) / 2 * image, label) for x, w in zip(nodes, weights, strict=True)]
    return (image * sum(way)).sum(0).numpy()
