"""Which train-mode gradient gives the map that will be seen in eval mode: ``python -m benchmarks.batch_statistics``.

A ResNet-18 is trained on scikit-learn's digits. Grad-CAM of held-out images in eval mode is then correlated with three
maps in train mode, which differ in what BatchNorm lets through the gradient: ``constant`` holds the statistics of the
batch constant, ``own`` is the derivative of each sample's score by its own activation with its own share in the
statistics (one backward pass per sample), ``coupled`` is the derivative of the sum of all scores.
"""

import argparse
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from saliency_losses.extractors import GradCAM
from saliency_losses.extractors.grad_cam import grad_cam

LAYERS = ("layer1", "layer2", "layer3", "layer4")
Maps = Callable[[nn.Module, str, Tensor, Tensor], Tensor]


def load(pixels: int) -> tuple[Tensor, Tensor]:
    """Images (1797, 3, H, W) of digits in random order, and their labels."""
    digits = load_digits()
    order = torch.randperm(len(digits.target))
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)[order] / 8.0 - 1.0
    large = F.interpolate(images, (pixels, pixels), mode="bilinear").expand(-1, 3, -1, -1)
    return large, torch.tensor(digits.target)[order]


def train(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """A ResNet-18, trained with random shifts."""
    model: nn.Module = resnet18(num_classes=10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(order) - 31, 32):
            chosen = order[start : start + 32]
            shift = [int(step) for step in torch.randint(-6, 7, (2,))]
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(images[chosen].roll(shift, (2, 3))), labels[chosen]))
            optimizer.step()
    return model


def by_choice(choice: str) -> Maps:
    """Grad-CAM with that choice of ``batch_statistics``."""

    def maps(model: nn.Module, layer: str, images: Tensor, labels: Tensor) -> Tensor:
        extractor = GradCAM(layer=layer, batch_statistics="constant" if choice == "constant" else "coupled")
        saliency: Tensor = extractor(model, images, labels).saliency
        return saliency.detach()

    return maps


def own(model: nn.Module, layer: str, images: Tensor, labels: Tensor) -> Tensor:
    """Grad-CAM from each score's derivative by its own sample's activation, one at a time."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    logits = model(images)
    handle.remove()
    maps = []
    for sample, label in enumerate(labels):
        (grad,) = torch.autograd.grad(logits[sample, label], kept[0], retain_graph=True)
        maps.append(grad_cam(kept[0][sample].detach().flatten(1), grad[sample].flatten(1)))
    return torch.stack(maps).view(len(images), *kept[0].shape[2:])


CHOICES: dict[str, Maps] = {"constant": by_choice("constant"), "own": own, "coupled": by_choice("coupled")}


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, of each pair of maps."""
    a, b = (maps.flatten(1) - maps.flatten(1).mean(1, keepdim=True) for maps in (a, b))
    return F.cosine_similarity(a, b)


def main() -> None:
    """Train, compare, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--images", type=int, default=256, help="held-out images that maps are taken of")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 32])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    started = time.perf_counter()
    images, labels = load(arguments.pixels)
    held_out, truth = images[: arguments.images], labels[: arguments.images]
    model = train(images[arguments.images :], labels[arguments.images :], arguments.epochs).eval()
    with torch.no_grad():
        right = (model(held_out).argmax(1) == truth).float().mean()
    print(f"ResNet-18 on digits, {arguments.epochs} epochs: {right:.1%} of {len(truth)} held-out images right.")
    print("Correlation with the eval-mode map: mean over images (10th percentile).\n")
    print(f"{'layer':<10}{'batch':>6}" + "".join(f"{name:>18}" for name in CHOICES))
    in_eval = {layer: by_choice("constant")(model, layer, held_out, truth) for layer in LAYERS}
    model.train()
    for layer in LAYERS:
        for size in arguments.batches:
            cells = []
            for maps in CHOICES.values():
                parts = [slice(start, start + size) for start in range(0, len(truth), size)]
                found = torch.cat([maps(model, layer, held_out[part], truth[part]) for part in parts])
                values = correlation(found, in_eval[layer])
                cells.append(f"{values.mean():.2f} ({values.quantile(0.1):.2f})")
            print(f"{layer:<10}{size:>6}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"\n{time.perf_counter() - started:.0f} s, torch {torch.__version__}")


if __name__ == "__main__":
    main()
