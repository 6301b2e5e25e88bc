"""The contract of extractors and divergences, as checks for this package and for yours."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.divergences.base import Divergence
from saliency_losses.extractors.base import Explanation, SaliencyExtractor, call_model

__all__ = ["check_divergence", "check_extractor", "check_gradients", "smooth_network"]


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

        _require(extractor.order in (1, 2), f"must declare order 1 or 2, declares {extractor.order!r}")
        _require(isinstance(explanation, Explanation), f"must return an Explanation, got {type(explanation).__name__}")
        output, saliency = explanation
        passes = len(calls) if extractor.passes is None else extractor.passes
        _require(len(calls) == passes, f"must call the model {passes} times, as declared, called it {len(calls)} times")
        same = torch.allclose(output, expected, rtol=1e-9, atol=1e-12)
        _require(same, "must return what the model returned in a plain call of the same seed, up to rounding")
        same = all(torch.equal(*pair) for pair in zip(model.buffers(), plain.buffers(), strict=True))
        _require(same, "must leave buffers, BatchNorm's too, as one plain call does")
        _require(saliency.ndim > 1 and len(saliency) == 4, f"must return maps (B, *s), got {tuple(saliency.shape)}")
        _require(bool(saliency.isfinite().all()), "must return finite maps")
        _require(saliency.requires_grad, "must return maps on the graph while grad mode is on")
        _require(_hooks(model) == hooks, "must leave no hook behind")
        _require(model.training and all(p.grad is None for p in model.parameters()), "must not touch mode or gradients")
        _require(model.state_dict().keys() == before.keys(), "must not change the model's state_dict keys")

        probe = torch.rand_like(saliency.detach())

        def loss() -> Tensor:
            torch.manual_seed(1)
            value: Tensor = (extractor(model, images, classes).saliency * probe).sum()
            return value

        check_gradients(loss, dict(model.named_parameters()))

        for mode, context in (("no_grad", torch.no_grad()), ("inference_mode", torch.inference_mode())):
            with context:
                quiet = extractor(model, images, classes)
            _require(not quiet.saliency.requires_grad, f"must return maps without a graph under {mode}")
            _require(not quiet.output.requires_grad, f"must return output without a graph under {mode}")

        def broken(*_: Any) -> None:
            raise KeyError("broken on purpose")

        handle = model.register_forward_hook(broken)
        try:
            extractor(model, images, classes)
        except KeyError:
            handle.remove()
        else:
            raise AssertionError(f"The contract is broken: {extractor} must let the model's own error through.")
        _require(_hooks(model) == hooks, "must leave no hook behind when the model raises")
        _require(repr(pickle.loads(pickle.dumps(extractor))) == repr(extractor), "must survive pickling")


def check_divergence(divergence: Divergence) -> None:
    """Check that a divergence keeps the contract.

    One finite value per pair of maps, in at least float32 whatever the input and the autocast mode; a gradient that
    agrees with finite differences; flat, empty and one-hot maps; maps and cells that are unknown change nothing.

    Args:
        divergence: To check.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.

    Example:
        >>> from saliency_losses.divergences import KL
        >>> check_divergence(KL(direction="model_human"))
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.randn(5, 6, 7, dtype=torch.float64)
        human = torch.rand(5, 6, 7, dtype=torch.float64)
        value = divergence(model, human)
        _require(value.shape == (5,), f"must return one value per map, got {tuple(value.shape)} for 5 maps")
        _require(value.dtype == torch.float64, f"must compute float64 maps in float64, got {value.dtype}")
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            low = divergence(model.to(dtype), human.to(dtype))
            _require(low.dtype == torch.float32, f"must compute {dtype} maps in float32, got {low.dtype}")
            same = divergence(model.to(dtype).double(), human.to(dtype).double())
            _require(torch.allclose(low.double(), same, rtol=1e-4, atol=1e-5), f"must be accurate for {dtype} maps")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = divergence(model.float(), human.float())
        same = torch.equal(mixed, divergence(model.float(), human.float()))
        _require(same and mixed.dtype == torch.float32, "must not follow autocast")

        weights = torch.rand(5, dtype=torch.float64)
        leaf = model.clone().requires_grad_()
        check_gradients(lambda: (divergence(leaf, human) * weights).sum(), {"the model's map": leaf})
        share = torch.rand(5, 6, 7, dtype=torch.float64).round(decimals=1)
        check_gradients(lambda: (divergence(leaf, human, share) * weights).sum(), {"the partly known map": leaf})

        for name, maps in _special(model):
            for other, target in _special(human):
                leaf = maps.float().requires_grad_()
                value = divergence(leaf, target.float())
                (grad,) = torch.autograd.grad(value.sum(), leaf)
                finite = bool(value.isfinite().all() and grad.isfinite().all())
                _require(finite, f"must be finite for {name} model maps and {other} human maps")

        if divergence.scope == "sample":
            known = torch.ones_like(human)
            known[1] = 0.0
            poisoned = model.clone()
            poisoned[1] = 1e3
            some = divergence(poisoned, torch.where(known > 0, human, 7.0), known)
            kept = torch.tensor([0, 2, 3, 4])
            _require(torch.allclose(some[kept], divergence(model, human)[kept]), "maps must not depend on each other")
            _require(float(some[1]) == 0.0, "a map without a known cell must give zero")
        if not divergence.spatial:
            half = torch.ones_like(human)
            half[:, 3:] = 0.0
            changed = torch.where(half > 0, model, 9.0), torch.where(half > 0, human, 9.0)
            cut = divergence(model[:, :3].contiguous(), human[:, :3].contiguous())
            _require(torch.allclose(divergence(*changed, half), cut), "unknown cells must take no part")
        _require(repr(pickle.loads(pickle.dumps(divergence))) == repr(divergence), "must survive pickling")


def check_gradients(loss: Callable[[], Tensor], parameters: dict[str, Tensor], *, tolerance: float = 1e-5) -> None:
    """Check that the gradient of ``loss`` with respect to every tensor agrees with central finite differences.

    Each tensor is moved along two random directions, by two step sizes (a fourth-order difference).

    Args:
        loss: A deterministic function of the tensors, in float64.
        parameters: Leaves by name.
        tolerance: Relative to the larger of both derivatives; absolute below 1e-2 of the largest derivative of all.

    Raises:
        AssertionError: A derivative disagrees; the message names the tensor and both numbers.
    """
    names, tensors = list(parameters), list(parameters.values())
    grads = torch.autograd.grad(loss(), tensors, allow_unused=True)
    generator = torch.Generator().manual_seed(0)
    rows: list[tuple[str, float, float]] = []
    for name, tensor, grad in zip(names, tensors, grads, strict=True):
        for _ in range(2):
            direction = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            analytic = 0.0 if grad is None else float((grad * direction).sum())
            rows.append((name, analytic, _difference(loss, tensor, direction)))
    floor = 1e-2 * max((abs(numeric) for _, _, numeric in rows), default=0.0)
    if not floor:
        raise AssertionError("The loss depends on none of the tensors, so nothing was checked.")
    for name, analytic, numeric in rows:
        if abs(analytic - numeric) > tolerance * max(abs(analytic), abs(numeric), floor):
            raise AssertionError(f"The gradient of {name} is {analytic:.10g}, finite differences give {numeric:.10g}.")


@torch.no_grad()
def _difference(loss: Callable[[], Tensor], tensor: Tensor, direction: Tensor, step: float = 1e-7) -> float:
    start = tensor.clone()

    def at(distance: float) -> float:
        tensor.copy_(start + distance * direction)
        with torch.enable_grad():
            return float(loss().detach())

    try:
        near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    finally:
        tensor.copy_(start)
    return (8.0 * near - far) / (12.0 * step)


def _special(maps: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "ordinary", maps
    yield "zero", torch.zeros_like(maps)
    yield "constant", torch.full_like(maps, 0.7)
    one_hot = torch.zeros_like(maps)
    one_hot[:, 2, 3] = 1.0
    yield "one-hot", one_hot
    yield "tiny", maps * 1e-20
    yield "large", maps * 1e15 if float(maps.max()) > 1 else maps


def _hooks(model: nn.Module) -> int:
    return sum(
        len(table)
        for module in model.modules()
        for table in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    )


def _require(held: bool, what: str) -> None:
    if not held:
        raise AssertionError(f"The contract is broken: {what}.")
