"""What one writes by hand: saliency losses without this package, and with its peers, for comparison."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def divergence(maps: Tensor, human: Tensor) -> Tensor:
    """The mean squared difference of min-max scaled maps, at the size of the model's."""
    human = F.interpolate(human.unsqueeze(1), size=maps.shape[1:], mode="area").flatten(1)
    maps = maps.flatten(1)
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    own_low, own_high = human.amin(1, keepdim=True), human.amax(1, keepdim=True)
    scaled = (maps - low) / (high - low + 1e-8)
    return F.mse_loss(scaled, (human - own_low) / (own_high - own_low + 1e-8))


def grad_cam(layer: str) -> Loss:
    """Grad-CAM from a hook and one ``autograd.grad`` that keeps the graph."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
            kept.append(output)
            return output.clone()

        handle = model.get_submodule(layer).register_forward_hook(hook)
        logits = model(images)
        handle.remove()
        score = logits.gather(1, labels[:, None]).sum()
        (grad,) = torch.autograd.grad(score, kept[0], create_graph=True)
        maps = (grad.mean((2, 3), keepdim=True) * kept[0]).sum(1)
        return 0.5 * F.cross_entropy(logits, labels) + 0.5 * divergence(maps, human)

    return loss


def cam(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
    """CAM of a torchvision ResNet: the classifier's weights times what feeds the pooling."""
    kept: list[Tensor] = []
    handle = model.get_submodule("layer4").register_forward_hook(lambda module, args, output: kept.append(output))
    logits = model(images)
    handle.remove()
    weight = model.get_submodule("fc").get_parameter("weight")
    maps = torch.einsum("bc,bchw->bhw", weight[labels], kept[0])
    return 0.5 * F.cross_entropy(logits, labels) + 0.5 * divergence(maps, human)


def input_gradient(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
    """The input gradient in the same forward pass."""
    images = images.detach().requires_grad_()
    logits = model(images)
    score = logits.gather(1, labels[:, None]).sum()
    (grad,) = torch.autograd.grad(score, images, create_graph=True)
    return 0.5 * F.cross_entropy(logits, labels) + 0.5 * divergence(grad.abs().amax(1), human)


def captum_layer_grad_cam(layer: str) -> Loss:
    """Captum's LayerGradCam with ``create_graph``, which runs the model a second time."""
    from captum.attr import LayerGradCam

    def loss(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
        logits = model(images)
        algorithm = LayerGradCam(model, model.get_submodule(layer))
        maps = algorithm.attribute(images, target=labels, grad_kwargs={"create_graph": True})[:, 0]
        return 0.5 * F.cross_entropy(logits, labels) + 0.5 * divergence(maps, human)

    return loss


def captum_saliency(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
    """Captum's Saliency with a gradient function that keeps the graph."""
    from captum.attr import Saliency

    def gradient_func(
        forward: Callable[..., Tensor], inputs: tuple[Tensor, ...], target: Tensor, extra: object
    ) -> object:
        score = forward(*inputs).gather(1, target[:, None])
        return torch.autograd.grad(score.unbind(), inputs, create_graph=True)

    logits = model(images)
    algorithm = Saliency(model)
    algorithm.gradient_func = gradient_func
    maps = algorithm.attribute(images.detach().requires_grad_(), target=labels, abs=False).abs().amax(1)
    return 0.5 * F.cross_entropy(logits, labels) + 0.5 * divergence(maps, human)


def pytorch_grad_cam(layer: str) -> Loss:
    """pytorch-grad-cam's maps beside a plain step: NumPy, so nothing can be trained through them."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def loss(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
        with GradCAM(model=model, target_layers=[model.get_submodule(layer)]) as cam:
            cam(input_tensor=images, targets=[ClassifierOutputTarget(label) for label in labels.tolist()])
        model.train()
        model.zero_grad()
        return F.cross_entropy(model(images), labels)

    return loss


def torchcam(layer: str) -> Loss:
    """Torchcam's maps in the same forward pass as a plain step: off the graph, so nothing can be trained through."""
    from torchcam.methods import GradCAM

    def loss(model: nn.Module, images: Tensor, labels: Tensor, human: Tensor) -> Tensor:
        with GradCAM(model, target_layer=layer) as extractor:
            logits = model(images)
            extractor(labels.tolist(), logits, retain_graph=True)
        return F.cross_entropy(logits, labels)

    return loss
