"""The contract of extractors, as a check for this package's and for yours."""

import copy
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import Explanation, SaliencyExtractor, call_model
from saliency_losses.testing.gradients import check_gradients
from saliency_losses.testing.requirement import require

__all__ = ["check_extractor", "smooth_network"]


def smooth_network(classes: int = 3, *, rectified: bool = False) -> nn.Sequential:
    """A small float64 network with curvature everywhere, BatchNorm and dropout, for images (B, 3, 9, 9).

    Its gradients differ visibly from those of a map whose graph was cut anywhere.

    Args:
        classes: How many.
        rectified: Whether the first activation is a ReLU, for extractors that need one.
    """
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU() if rectified else nn.GELU(),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(5, classes),
    ).double()


def check_extractor(extractor: SaliencyExtractor, model: nn.Module | None = None, images: Any = None) -> None:
    """Check that an extractor keeps the contract.

    As many forward passes as declared, the model's own output and buffers as one pass leaves them, a finite map per
    sample; a parameter gradient that agrees with finite differences in train mode; nothing left behind: hooks, mode,
    gradients, state; evaluation without a graph.

    Args:
        extractor: To check.
        model: In float64, smooth, with at least three classes; ``smooth_network()`` by default.
        images: Four of them; for the default model by default.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.

    Example:
        >>> from saliency_losses.extractors import GradCAM
        >>> check_extractor(GradCAM(layer="2"))
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = smooth_network() if model is None else model
        images = torch.rand(4, 3, 9, 9, dtype=torch.float64) if images is None else images
        classes = torch.tensor([0, 1, 2, 1])
        if any(p.dtype != torch.float64 for p in model.parameters()):
            raise ValueError("Finite differences need a model in float64: call model.double(), and so for images.")
        model.train()
        before = copy.deepcopy(model.state_dict())
        hooks = _hooks(model)
        calls: list[int] = []
        counter = model.register_forward_hook(lambda *_: calls.append(1))

        torch.manual_seed(1)
        plain = copy.deepcopy(model)
        expected = plain(images)
        calls.clear()
        torch.manual_seed(1)
        explanation = extractor(model, images, classes, run=call_model)
        counter.remove()

        require(extractor.order in (1, 2), f"must declare order 1 or 2, declares {extractor.order!r}")
        require(isinstance(explanation, Explanation), f"must return an Explanation, got {type(explanation).__name__}")
        output, saliency = explanation
        passes = len(calls) if extractor.passes is None else extractor.passes
        require(len(calls) == passes, f"must call the model {passes} times, as declared, called it {len(calls)} times")
        same = torch.allclose(output, expected, rtol=1e-9, atol=1e-12)
        require(same, "must return what the model returned in a plain call of the same seed, up to rounding")
        same = all(torch.equal(*pair) for pair in zip(model.buffers(), plain.buffers(), strict=True))
        require(same, "must leave buffers, BatchNorm's too, as one plain call does")
        require(saliency.ndim > 1 and len(saliency) == 4, f"must return maps (B, *s), got {tuple(saliency.shape)}")
        require(bool(saliency.isfinite().all()), "must return finite maps")
        require(saliency.requires_grad, "must return maps on the graph while grad mode is on")
        require(_hooks(model) == hooks, "must leave no hook behind")
        require(model.training and all(p.grad is None for p in model.parameters()), "must not touch mode or gradients")
        require(model.state_dict().keys() == before.keys(), "must not change the model's state_dict keys")

        probe = torch.rand_like(saliency.detach())

        def loss() -> Tensor:
            torch.manual_seed(1)
            value: Tensor = (extractor(model, images, classes).saliency * probe).sum()
            return value

        check_gradients(loss, dict(model.named_parameters()))

        for mode, context in (("no_grad", torch.no_grad()), ("inference_mode", torch.inference_mode())):
            with context:
                quiet = extractor(model, images, classes)
            require(not quiet.saliency.requires_grad, f"must return maps without a graph under {mode}")
            require(not quiet.output.requires_grad, f"must return output without a graph under {mode}")

        def broken(*_: Any) -> None:
            raise KeyError("broken on purpose")

        handle = model.register_forward_hook(broken)
        try:
            extractor(model, images, classes)
        except KeyError:
            handle.remove()
        else:
            raise AssertionError(f"The contract is broken: {extractor} must let the model's own error through.")
        require(_hooks(model) == hooks, "must leave no hook behind when the model raises")
        require(repr(pickle.loads(pickle.dumps(extractor))) == repr(extractor), "must survive pickling")


def _hooks(model: nn.Module) -> int:
    return sum(
        len(table)
        for module in model.modules()
        for table in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    )
