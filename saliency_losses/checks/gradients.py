"""Which parameters the saliency loss reaches by itself, and how its gradient compares with the task's."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from saliency_losses.checks.facts import Finding, GradientNorms, Reached
from saliency_losses.guided import LossOutput
from saliency_losses.weighting import Convex, Weighting

__all__ = ["Gradients", "gradient_findings", "term_gradients", "trainable"]

_FAR = 1e3  # a ratio of norms beyond which, or below its inverse, one term rules


class Gradients:
    """The gradients of both terms.

    Attributes:
        reached: What the saliency's reaches.
        norms: Of both, over what both reach.
        finite: Whether all are.
    """

    def __init__(self, task: dict[str, Tensor], saliency: dict[str, Tensor], parameters: dict[str, Tensor]) -> None:
        names = tuple(name for name, grad in saliency.items() if bool((grad != 0).any()))
        missed = tuple(name for name in parameters if name not in names)
        count = sum(parameter.numel() for parameter in parameters.values())
        share = sum(parameters[name].numel() for name in names) / max(count, 1)
        self.reached = Reached(names, missed, share)
        shared = [name for name in names if name in task]
        self.norms = GradientNorms(_norm([task[name] for name in shared]), _norm([saliency[name] for name in shared]))
        self.finite = all(bool(grad.isfinite().all()) for grad in [*task.values(), *saliency.values()])


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters, by the names they have in the bare model."""
    return {
        name.replace("_orig_mod.", ""): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def term_gradients(out: LossOutput, weighting: Weighting, parameters: dict[str, Tensor]) -> Gradients:
    """The gradients of both terms as they enter the loss; ``.grad`` is not touched.

    Args:
        out: Of a guided step.
        weighting: Of the terms.
        parameters: To differentiate with respect to, by name.
    """
    task_share, saliency_share = _shares(out, weighting)
    saliency = _gradients(out.saliency_loss.mean() * saliency_share, parameters, keep=True)
    return Gradients(_gradients(out.task_loss.mean() * task_share, parameters, keep=False), saliency, parameters)


def gradient_findings(
    gradients: Gradients, out: LossOutput, weighting: Weighting, behind: set[str]
) -> Iterator[Finding]:
    """Gradients that are not finite, missing, confined to the head, or out of proportion.

    Args:
        gradients: Of both terms.
        out: The step they are of.
        weighting: Of the terms.
        behind: Names of the modules between the layer and the score.
    """
    reached, norms = gradients.reached, gradients.norms
    if not gradients.finite:
        yield Finding(
            "error",
            "gradient_not_finite",
            "The gradient of the loss holds NaN or infinite values.",
            "Find the operation with torch.autograd.set_detect_anomaly(True); under float16, use bfloat16 or float32.",
        )
        return
    if not reached.names:
        yield Finding(
            "error",
            "no_gradient",
            "The saliency loss gives every trainable parameter a gradient of exactly zero in this batch.",
            "Look at the model's map (guided.explain(images)): is it flat, or saturated? Choose another layer or "
            "divergence.",
        )
        return
    if all(name.rpartition(".")[0] in behind for name in reached.names):
        yield Finding(
            "note",
            "head_only",
            f"The saliency loss trains only what lies behind the layer ({', '.join(reached.names[:3])}), so it cannot "
            "change where features respond, only which of them count.",
            "Unfreeze modules in front of the layer, if where features respond is to change.",
        )
    if _shares(out, weighting)[1] < 0:
        yield Finding(
            "warning",
            "reversed_saliency",
            f"{weighting} reverses the gradient of the saliency term in this batch: training makes maps worse.",
            "Detach what weighs the terms: Dynamic() instead of Dynamic(detach=False).",
        )
    if norms.task and not 1 / _FAR <= norms.ratio <= _FAR:
        task_share, saliency_share = _shares(out, weighting)
        equal = saliency_share / (task_share * norms.ratio)
        what = f"The saliency term's gradient is {norms.ratio:.1g} times the task's, where both reach."
        instead = "alpha" if isinstance(weighting, Convex) else weighting
        weight = f"For equal norms on this batch: saliency_weight={equal:.1g} instead of {instead}."
        if norms.ratio < 1:
            doubt = "Look first whether the divergence sees changes of this map at all; what is left may be rounding."
            yield Finding("warning", "vanishing_saliency", what, f"{doubt} {weight}")
        else:
            yield Finding("warning", "exploding_saliency", what, weight)


def _shares(out: LossOutput, weighting: Weighting) -> tuple[float, float]:
    """With which factors the terms enter the loss."""
    with torch.enable_grad():
        terms = [term.detach().mean().requires_grad_() for term in (out.task_loss, out.saliency_loss)]
        grads = torch.autograd.grad(weighting(*terms), terms, allow_unused=True)
    task, saliency = (0.0 if grad is None else float(grad) for grad in grads)
    return task, saliency


def _gradients(loss: Tensor, parameters: dict[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    if not loss.requires_grad:
        return {}
    grads = torch.autograd.grad(loss, list(parameters.values()), retain_graph=keep, allow_unused=True)
    return {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}


def _norm(tensors: list[Tensor]) -> float:
    largest = max((float(tensor.abs().amax()) for tensor in tensors), default=0.0)
    if not 0.0 < largest < math.inf:
        return largest
    return largest * math.sqrt(sum(float((tensor.float() / largest).square().sum()) for tensor in tensors))
