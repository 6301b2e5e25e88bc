"""A small convolutional network that ends, as class activation maps want it, in global average pooling."""

from __future__ import annotations

from torch import Tensor, nn


class SmallNet(nn.Module):
    """Grey images (B, 1, S, S) to logits (B, 2) over a last convolutional map (B, 32, S/4, S/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(_block(1, 16, stride=2), _block(16, 24, stride=2), _block(24, 32), _block(32, 32))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(32, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
