"""What the restatements of published losses are made of: networks, batches, maps."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

BATCH, CLASSES, SIZE = 3, 4, 16
FIRST_AND_LAST = torch.tensor([True, False, True])


class Block(nn.Module):
    """A curved bottleneck with a residual connection, whose last convolution is ``conv3``."""

    def __init__(self, stride=1):
        super().__init__()
        self.conv1, self.conv3 = nn.Conv2d(6, 6, 3, stride, 1), nn.Conv2d(6, 6, 1)
        self.down = nn.AvgPool2d(stride)

    def forward(self, x):
        return F.softplus(self.conv3(F.silu(self.conv1(x))) + self.down(x))


class ResNet(nn.Module):
    """A network with the names of ResNet-50 that the page uses; layers give maps of 16x16, 8x8 and 4x4."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.layer2, self.layer3 = nn.Sequential(Block()), nn.Sequential(Block(2))
        self.layer4 = nn.Sequential(Block(2), Block(), Block())
        self.fc = nn.Linear(6, CLASSES)

    def pooled(self, x):
        return self.layer4(self.layer3(self.layer2(F.silu(self.conv1(x)))))

    def forward(self, x):
        return self.fc(self.pooled(x).mean((2, 3)))


class DenseNet(nn.Module):
    """Features, and an in-place ReLU over them in ``forward``."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.SiLU(), nn.Conv2d(6, 6, 3, 2, 1))
        self.classifier = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.classifier(F.relu(self.features(x), inplace=True).mean((2, 3)))


class Batch(NamedTuple):
    """What a guided step is called with."""

    images: torch.Tensor
    targets: torch.Tensor
    human: torch.Tensor | None
    options: dict[str, Any]


def ordinary():
    """Labels that the network does not predict throughout, and human maps from 0 to 1 on a grid of the pixels."""
    human = torch.rand(BATCH, SIZE, SIZE, dtype=torch.float64)
    human[0, 0, 0], human[1, 4, 8] = 0.0, 1.0
    return Batch(torch.randn(BATCH, 3, SIZE, SIZE, dtype=torch.float64), torch.tensor([0, 3, 1]), human, {})


def masks():
    """Binary masks of whole cells of 4x4 pixels."""
    cells = (torch.rand(BATCH, 4, 4) < 0.4).double()
    cells[:, 1, 2], cells[:, 0, 0] = 1.0, 0.0
    return ordinary()._replace(human=cells.repeat_interleave(4, 1).repeat_interleave(4, 2))


def watch(model, images, layer):
    """The output, and what a layer returned."""
    seen = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    output = model(images)
    hook.remove()
    return output, seen[0]


def own(logits, targets):
    return logits[torch.arange(len(logits)), targets]


def differentiate(score, at):
    return torch.autograd.grad(score.sum(), at, create_graph=True)[0]


def input_gradient(model, images, score):
    """The logits, and the gradient of a score of them at the input."""
    images = images.clone().requires_grad_()
    logits = model(images)
    return logits, differentiate(score(logits), images)


def grad_cam(model, images, score):
    logits, features = watch(model, images, "layer4")
    weights = differentiate(score(logits), features).mean((2, 3), keepdim=True)
    return logits, (weights * features).sum(1)


def each(function, maps):
    return torch.stack([function(one) for one in maps])


def minmax(one, eps=0.0):
    one = one - one.min()
    return one / (one.max() + eps)


def triangle(maps, size):
    """Pillow's bilinear resize: a triangle as wide as the shrinking factor, cut off at the border."""
    scale = maps.shape[-1] / size
    weights = np.zeros((size, maps.shape[-1]))
    for row in range(size):
        for column in range(maps.shape[-1]):
            weights[row, column] = max(0.0, 1.0 - abs((column + 0.5) / scale - (row + 0.5)))
    weights = torch.from_numpy(weights / weights.sum(1, keepdims=True))
    return weights @ maps @ weights.T


def averaged(maps, size):
    factor = maps.shape[-1] // size
    return maps.unflatten(2, (size, factor)).unflatten(1, (size, factor)).mean((2, 4))


def enlarged(maps):
    return F.interpolate(maps[:, None], (SIZE, SIZE), mode="bilinear")[:, 0]


def cams(features, weights, classes):
    return torch.stack([torch.einsum("c,chw->hw", weights[k], f) for f, k in zip(features, classes, strict=True)])
