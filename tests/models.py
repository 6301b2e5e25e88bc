"""Small networks, each with one thing that real models do."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InplaceNet(nn.Module):
    """In-place ReLUs behind normalised convolutions, a residual connection, functional pooling and dropout."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.conv3 = nn.Conv2d(4, 6, 3)
        self.dropout = nn.Dropout(0.25, inplace=True)
        self.fc = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = x + self.bn2(self.conv2(x))
        x = F.relu(self.conv3(x), inplace=True)
        return self.fc(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class TwoInputs(nn.Module):
    """Two inputs, a dict as output, and a loss of its own: wrapped as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.age = nn.Linear(1, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, image: Tensor, age: Tensor) -> dict[str, Any]:
        x = F.silu(F.relu(self.stem(image)) + self.age(age)[:, :, None, None])
        return {"logits": self.head(x.mean((2, 3))), "features": x}


class Attention(nn.Module):
    """A token network: patches, self-attention, mean over tokens."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 3, stride=3)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unsqueeze(1).chunk(3, -1)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return self.head(tokens[:, 0])


def plain_net(classes: int = 3, *, rectified: bool = False) -> nn.Sequential:
    """Without BatchNorm or dropout, for comparisons across processes and batches."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU() if rectified else nn.GELU(),
        nn.Conv2d(6, 8, 3),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def batch(
    size: int = 4, *, pixels: int = 9, classes: int = 3, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """Images, labels and human maps, the same each time."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(size, 3, pixels, pixels, generator=generator, dtype=dtype)
    labels = torch.arange(size) % classes
    human = torch.rand(size, pixels, pixels, generator=generator, dtype=dtype)
    return images, labels, human
