"""CAM with MSE is the published CYBORG loop."""

import torch
from torch import nn
from torch.nn import functional as F

import saliency_losses as sl


class Features(nn.Module):
    """Random features as a layer, pooled and classified."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Parameter(torch.randn(5, 16, 7, 7, dtype=torch.float64))
        self.body = nn.Identity()
        self.classifier = nn.Linear(16, 2).double()

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.body(self.features + 0 * x), 1).flatten(1))


def published(net, labels, human, alpha):
    """The official training loop: CAM of the predicted class, min-max per sample, no ReLU, mean over everything."""
    logits = net(torch.zeros((), dtype=torch.float64))
    maps = []
    for features, predicted in zip(net.features, logits.argmax(1), strict=True):
        cam = (net.classifier.weight[predicted] @ features.reshape(16, 49)).reshape(7, 7)
        cam = cam - torch.min(cam)
        maps.append(cam / torch.max(cam))
    return alpha * F.cross_entropy(logits, labels) + (1 - alpha) * F.mse_loss(torch.stack(maps), human)


def test_values_and_gradients_equal_the_published_loop():
    for seed in range(5):
        torch.manual_seed(seed)
        net = Features()
        labels = torch.randint(0, 2, (5,))
        human = torch.rand(5, 7, 7, dtype=torch.float64)
        human = torch.stack([(h - h.min()) / (h.max() - h.min()) for h in human])
        guided = sl.SaliencyGuidedLoss(net, sl.create_extractor("cam", score="predicted"), "mse", alpha=0.5)
        ours = guided(torch.zeros(5, 1, 1, 1, dtype=torch.float64), labels, human).loss
        theirs = published(net, labels, human, 0.5)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        parameters = list(net.parameters())
        pairs = zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True)
        for mine, other in pairs:
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9)
