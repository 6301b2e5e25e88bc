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


class Patches(nn.Module):
    """Patches of 3x3 pixels as tokens, behind a class token."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=3)
        self.token = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)


class Block(nn.Module):
    """Self-attention of two heads and a curved multi-layer perceptron, each with a residual connection."""

    def __init__(self, width: int = 8, *, dropout: float = 0.0, fused: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout, inplace=True)
        self.dropout, self.fused = dropout, fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        else:
            mixed = F.dropout((q @ k.transpose(-2, -1) * 0.5).softmax(-1), self.dropout, self.training) @ v
        x = x + self.drop(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.drop(self.mlp(self.norm2(x)))


class First(nn.Module):
    """The class token."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class TokensAndAge(nn.Module):
    """:class:`TwoInputs` for extractors of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block, self.age, self.head = Patches(), Block(), nn.Linear(1, 8), nn.Linear(8, 2)

    def forward(self, image: Tensor, age: Tensor) -> dict[str, Any]:
        x = self.block(self.patches(image) + self.age(age)[:, None])
        return {"logits": self.head(x[:, 0]), "features": x}


def token_net(classes: int = 3, *, dropout: float = 0.0, fused: bool = True) -> nn.Sequential:
    """A vision transformer without positions, of two blocks; attention has four numbers for each query and key."""
    blocks = [Block(dropout=dropout, fused=fused) for _ in range(2)]
    return nn.Sequential(Patches(), *blocks, nn.LayerNorm(8), First(), nn.Linear(8, classes))


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
