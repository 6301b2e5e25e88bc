"""The training steps that are compared: guided ones, ones written by hand, ones of other packages, and a plain one."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import saliency_losses as sl
from benchmarks import handwritten
from benchmarks.timing import Work
from saliency_losses.divergences import MSE
from saliency_losses.divergences.base import Backend
from saliency_losses.extractors import CAM, GradCAM, InputGradient

__all__ = ["LAYERS", "MAPS_ONLY", "Data", "Step", "saved_bytes", "share_above", "steps", "train"]

LAYERS = ("layer4", "layer3", "layer2", "layer1")
MAPS_ONLY = " (maps only)"
Loss = Callable[[], Tensor]


class Data(NamedTuple):
    """A model and a batch."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    human: Tensor


class Step(NamedTuple):
    """What is timed: a name, the loss, the layer of the limit (``""`` is the input), and the step of the same loss."""

    name: str
    loss: Loss
    layer: str | None
    same_as: str | None = None


def steps(data: Data, peers: bool) -> Iterator[Step]:
    """The plain step and all others."""
    kernels = data.images.is_cuda

    def ours(name: str, extractor: sl.SaliencyExtractor, layer: str) -> Iterator[Step]:
        yield Step(name, _guided(data, extractor, "auto"), layer)
        if kernels:
            yield Step(f"{name}, no kernel", _guided(data, extractor, "eager"), layer, name)

    def theirs(loss: handwritten.Loss) -> Loss:
        return partial(loss, *data)

    yield Step("plain", lambda: F.cross_entropy(data.model(data.images), data.labels), None)
    yield from ours("cam", CAM(), "layer4")
    yield Step("cam, by hand", theirs(handwritten.cam), "layer4", "cam")
    for layer in LAYERS:
        name = f"grad_cam {layer}"
        coupled = GradCAM(layer=layer, batch_statistics="coupled")
        yield from ours(name, GradCAM(layer=layer), layer)
        yield Step(f"{name}, coupled", _guided(data, coupled, "auto"), layer)
        yield Step(f"{name}, by hand", theirs(handwritten.grad_cam(layer)), layer, f"{name}, coupled")
    yield from ours("input_gradient", InputGradient(), "")
    yield Step("input_gradient, by hand", theirs(handwritten.input_gradient), "")
    if peers and importlib.util.find_spec("captum"):
        yield Step("captum LayerGradCam layer4", theirs(handwritten.captum_layer_grad_cam("layer4")), "layer4")
        yield Step("captum Saliency", theirs(handwritten.captum_saliency), "")
    if peers and importlib.util.find_spec("pytorch_grad_cam"):
        yield Step(f"pytorch-grad-cam layer4{MAPS_ONLY}", theirs(handwritten.pytorch_grad_cam("layer4")), None)
    if peers and importlib.util.find_spec("torchcam"):
        yield Step(f"torchcam layer4{MAPS_ONLY}", theirs(handwritten.torchcam("layer4")), None)


def _guided(data: Data, extractor: sl.SaliencyExtractor, backend: Backend) -> Loss:
    guided = sl.SaliencyGuidedLoss(data.model, extractor, MSE(backend=backend))

    def loss() -> Tensor:
        value: Tensor = guided(*data[1:]).loss
        return value

    return loss


def train(loss: Loss, optimizer: torch.optim.Optimizer) -> Work:
    """A whole training step."""

    def run(_: object) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        optimizer.step()

    return Work(run)


def share_above(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Which share of the forward pass's operations lies above each layer; ``""`` is the input."""
    counted = {"": 0}
    counter = FlopCounterMode(display=False)
    handles = [
        model.get_submodule(layer).register_forward_hook(
            lambda module, args, output, layer=layer: counted.update({layer: counter.get_total_flops()})
        )
        for layer in LAYERS
    ]
    with counter:
        model(images)
    for handle in handles:
        handle.remove()
    total = counter.get_total_flops()
    return {layer: 1.0 - below / total for layer, below in counted.items()}


def saved_bytes(loss: Loss, model: nn.Module) -> int:
    """Bytes of the different storages that the graph of a loss keeps, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss()
    return sum(size for size, _ in kept.values())
