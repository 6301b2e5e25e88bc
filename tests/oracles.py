"""One naive restatement of each part, loops allowed, looking like the paper. A registered name without one fails."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

EXTRACTORS: dict[str, Callable[[nn.Sequential, torch.Tensor, int], np.ndarray]] = {}
# Maps that are drawn: the whole batch at once, in the same order from the same seed.
DRAWN: dict[str, Callable[[nn.Sequential, torch.Tensor, torch.Tensor], np.ndarray]] = {}


def oracle(table, name):
    def add(function):
        table[name] = function
        return function

    return add


@oracle(EXTRACTORS, "auto")
@oracle(EXTRACTORS, "cam")
def cam(net, image, label):
    """Class weights times features before the pooling, one position at a time."""
    features, weight = net[:6](image[None])[0].detach(), net[9].weight[label].detach()
    _, height, width = features.shape
    return np.array([[float(weight @ features[:, i, j]) for j in range(width)] for i in range(height)])


def layer_of(net, image, label, layer):
    """A layer's activation and the gradient of the logit there, both (C, H, W)."""
    activation = net[: layer + 1](image[None]).detach().requires_grad_()
    (grad,) = torch.autograd.grad(net[layer + 1 :](activation)[0, label], activation)
    return activation[0].detach().numpy(), grad[0].numpy()


def weighed(weights, activation):
    return sum(w * a for w, a in zip(weights, activation, strict=True))


@oracle(EXTRACTORS, "grad_cam")
def grad_cam(net, image, label, layer=5):
    activation, grad = layer_of(net, image, label, layer)
    return weighed([g.mean() for g in grad], activation)


@oracle(EXTRACTORS, "captum_layer_grad_cam")
def captum_layer_grad_cam(net, image, label):
    return grad_cam(net, image, label, 2)


@oracle(EXTRACTORS, "grad_cam_plus_plus")
def grad_cam_plus_plus(net, image, label, layer=5):
    """Equations 7 and 10 of the paper, with Y = exp(score), whose derivatives are taken one by one; over Y."""
    activation = net[: layer + 1](image[None]).detach()
    channels, height, width = activation.shape[1:]
    values = activation[0].numpy()
    of_score = layer_of(net, image, label, layer)[1]
    weights, top = np.zeros(channels), float(torch.exp(net[layer + 1 :](activation)[0, label]).detach())
    for c, i, j in np.ndindex(channels, height, width):
        cell = activation[0, c, i, j].clone().requires_grad_()
        grid = activation.clone()
        grid[0, c, i, j] = cell
        derivative, derivatives = torch.exp(net[layer + 1 :](grid)[0, label]), []
        for _ in range(3):
            (derivative,) = torch.autograd.grad(derivative, cell, create_graph=True)
            derivatives.append(float(derivative.detach()))
        first, second, third = derivatives
        assert np.isclose(first, top * of_score[c, i, j])
        if first != 0.0:
            alpha = second / (2 * second + sum(a * third for a in values[c].ravel()))
            weights[c] += alpha * max(first, 0.0)
    return weighed(weights, values) / top


@oracle(EXTRACTORS, "x_grad_cam")
def x_grad_cam(net, image, label, layer=5):
    activation, grad = layer_of(net, image, label, layer)
    weights = []
    for a, g in zip(activation, grad, strict=True):
        total = a.sum()
        weights.append(sum(gij * aij / total for gij, aij in zip(g.ravel(), a.ravel(), strict=True)) if total else 0.0)
    return weighed(weights, activation)


@oracle(EXTRACTORS, "hires_cam")
def hires_cam(net, image, label, layer=5):
    return sum(a * g for a, g in zip(*layer_of(net, image, label, layer), strict=True))


@oracle(EXTRACTORS, "element_wise_grad_cam")
def element_wise_grad_cam(net, image, label, layer=5):
    return sum(np.maximum(a * g, 0) for a, g in zip(*layer_of(net, image, label, layer), strict=True))


@oracle(EXTRACTORS, "layer_cam")
def layer_cam(net, image, label, layer=5):
    return sum(a * np.maximum(g, 0) for a, g in zip(*layer_of(net, image, label, layer), strict=True))


@oracle(EXTRACTORS, "shapley_cam")
def shapley_cam(net, image, label, layer=5):
    """Gradient less half the Hessian times the activation; the Hessian is written out in full."""
    activation, grad = layer_of(net, image, label, layer)
    shape, flat = activation.shape, torch.from_numpy(activation.ravel())
    hessian = torch.autograd.functional.hessian(lambda a: net[layer + 1 :](a.view(1, *shape))[0, label], flat)
    slope = grad - 0.5 * (hessian.numpy() @ activation.ravel()).reshape(shape)
    return weighed([s.mean() for s in slope], activation)


def principal(channels):
    """Each position's channels along the eigenvector of the largest eigenvalue, found by power iteration."""
    matrix = channels.reshape(len(channels), -1)
    vector = np.ones(len(matrix)) + np.arange(len(matrix)) / 7
    for _ in range(20000):
        vector = matrix @ (matrix.T @ vector)
        vector /= np.linalg.norm(vector)
    projected = (matrix.T @ vector).reshape(channels.shape[1:])
    return projected if (projected * channels.sum(0)).sum() > 0 else -projected


@oracle(EXTRACTORS, "eigen_cam")
def eigen_cam(net, image, label, layer=5):
    return principal(layer_of(net, image, label, layer)[0])


@oracle(EXTRACTORS, "eigen_grad_cam")
def eigen_grad_cam(net, image, label, layer=5):
    activation, grad = layer_of(net, image, label, layer)
    return principal(activation * grad)


@oracle(EXTRACTORS, "activation_map")
def activation_map(net, image, label, layer=5):
    activation, _ = layer_of(net, image, label, layer)
    return sum(a**2 for a in activation) / len(activation)


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


@oracle(EXTRACTORS, "input_x_gradient")
@oracle(EXTRACTORS, "captum_input_x_gradient")
def captum_input_x_gradient(net, image, label):
    return sum(x * g for x, g in zip(image, _gradient_at(net, image, label), strict=True)).numpy()


@oracle(EXTRACTORS, "captum_integrated_gradients")
def integrated_gradients(net, image, label, steps=4):
    """Gauss-Legendre quadrature of the gradient on the way from black to the image."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    way = [w / 2 * _gradient_at(net, (x + 1) / 2 * image, label) for x, w in zip(nodes, weights, strict=True)]
    return (image * sum(way)).sum(0).numpy()


@oracle(EXTRACTORS, "integrated_gradients")
def integrated_gradients_of_three_steps(net, image, label):
    return integrated_gradients(net, image, label, steps=3)


def _backwards(net, image, label, relu):
    """From the logit down, layer by layer, with another rule for ReLUs."""
    seen = [image[None]]
    for layer in net:
        seen.append(layer(seen[-1]).detach())
    grad = torch.nn.functional.one_hot(torch.tensor([label]), seen[-1].shape[1]).to(image.dtype)
    for layer, x in zip(reversed(net), reversed(seen[:-1]), strict=True):
        if isinstance(layer, nn.ReLU):
            grad = relu(grad, x)
        else:
            x = x.requires_grad_()
            (grad,) = torch.autograd.grad(layer(x), x, grad)
    return grad[0].abs().amax(0).numpy()


@oracle(EXTRACTORS, "guided_backprop")
def guided_backprop(net, image, label):
    return _backwards(net, image.clone(), label, lambda grad, x: grad * (grad > 0) * (x > 0))


@oracle(EXTRACTORS, "deconvolution")
def deconvolution(net, image, label):
    return _backwards(net, image.clone(), label, lambda grad, x: grad * (grad > 0))


@oracle(EXTRACTORS, "occlusion")
def occlusion(net, image, label, window=5, stride=4):
    """Gray out one window after the other; a pixel gets the mean fall over its windows."""
    falls = [[[] for _ in range(image.shape[2])] for _ in range(image.shape[1])]
    with torch.no_grad():
        plain = float(net(image[None])[0, label])
        for top in range(0, image.shape[1] - window + 1, stride):
            for left in range(0, image.shape[2] - window + 1, stride):
                hidden = image.clone()
                hidden[:, top : top + window, left : left + window] = 0.0
                fall = plain - float(net(hidden[None])[0, label])
                for i in range(top, top + window):
                    for j in range(left, left + window):
                        falls[i][j].append(fall)
    return np.array([[np.mean(cell) for cell in row] for row in falls])


@oracle(DRAWN, "rise")
def rise(net, images, labels, count=12, grid=3, p=0.5):
    """Masks as in the paper: a coarse one, resized to (grid + 1) cells, cropped at random."""
    _, _, height, width = images.shape
    cell = height // grid
    coarse = torch.rand(count, 1, grid, grid) < p
    big = torch.nn.functional.interpolate(coarse.float(), ((grid + 1) * cell, (grid + 1) * cell), mode="bilinear")
    tops, lefts = torch.randint(cell, (count, 1)), torch.randint(cell, (count, 1))
    total = np.zeros((len(images), height, width))
    for n in range(count):
        mask = big[n, 0, int(tops[n]) : int(tops[n]) + height, int(lefts[n]) : int(lefts[n]) + width].double()
        for b, (image, label) in enumerate(zip(images, labels, strict=True)):
            total[b] += float(net(mask * image[None])[0, label].detach()) * mask.numpy()
    return total / (count * p)


@oracle(DRAWN, "expected_gradients")
def expected_gradients(net, images, labels):
    """One other image each, and one point on the way from it."""
    batch = len(images)
    steps = torch.randint(1, batch, (1, batch))[0]
    places = torch.rand(1, batch, 1, 1, 1, dtype=images.dtype).flatten()
    maps = []
    for b in range(batch):
        other = images[(b + int(steps[b])) % batch]
        point = other + places[b] * (images[b] - other)
        maps.append(((images[b] - other) * _gradient_at(net, point, int(labels[b]))).sum(0).numpy())
    return np.stack(maps)


@oracle(DRAWN, "smooth_grad")
def smooth_grad(net, images, labels, samples=3, share=0.15):
    """Noise of the image's range, gradients averaged, the largest channel."""
    noise = torch.randn(samples, *images.shape, dtype=images.dtype)
    maps = []
    for b, image in enumerate(images):
        deviation = share * (image.max() - image.min())
        grads = [_gradient_at(net, image + deviation * noise[k, b], int(labels[b])) for k in range(samples)]
        maps.append((sum(grads) / samples).abs().amax(0).numpy())
    return np.stack(maps)


def _by_hand(net, image):
    """The logits, and the attention of each head in each of two layers, one query and one key at a time."""
    x, layers = net[0](image[None])[0], []
    for block in net[1:3]:
        rows, heads, mixed = block.qkv(block.norm1(x)), [], []
        for h in range(2):
            q, k, v = (rows[:, 8 * part + 4 * h : 8 * part + 4 * h + 4] for part in range(3))
            scores = [torch.stack([q[i] @ k[j] / 2.0 for j in range(len(x))]) for i in range(len(x))]
            heads.append(torch.stack([torch.softmax(row, 0) for row in scores]))
            mixed.append(heads[h] @ v)
        layers.append(heads)
        x = x + block.out(torch.cat(mixed, 1))
        x = x + block.mlp(block.norm2(x))
    return net[5](net[3](x)[0]), layers


@oracle(EXTRACTORS, "attention_rollout")
def attention_rollout(net, image, label):
    """Half of attention, half of the identity, multiplied up from the first layer; the class token's row."""
    result = torch.eye(10, dtype=image.dtype)
    for heads in _by_hand(net, image)[1]:
        result = (0.5 * (heads[0] + heads[1]) / 2 + 0.5 * torch.eye(10)) @ result
    return result[0, 1:].view(3, 3).detach().numpy()


@oracle(EXTRACTORS, "attention_relevance")
def attention_relevance(net, image, label):
    """R becomes R + mean over heads of (gradient * attention)+ times R; the class token's row."""
    logits, layers = _by_hand(net, image)
    relevance = torch.eye(10, dtype=image.dtype)
    for heads in layers:
        grads = torch.autograd.grad(logits[label], heads, retain_graph=True)
        weighed = sum((g * a).clamp(min=0) for g, a in zip(grads, heads, strict=True)) / 2
        relevance = relevance + weighed @ relevance
    return relevance[0, 1:].view(3, 3).detach().numpy()


@oracle(EXTRACTORS, "le_grad")
def le_grad(net, image, label):
    """The positive gradient of each attention, averaged over queries, heads and layers."""
    logits, layers = _by_hand(net, image)
    total = torch.zeros(10, dtype=image.dtype)
    for heads in layers:
        for grad in torch.autograd.grad(logits[label], heads, retain_graph=True):
            for row in grad:
                total += row.clamp(min=0)
    return (total / (2 * 2 * 10))[1:].view(3, 3).numpy()
