"""One guided step on trial: what would go wrong, and what it would cost."""

from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.checks.report import Preflight
from saliency_losses.checks.sandbox import fresh, untouched
from saliency_losses.checks.trial import Trial
from saliency_losses.extractors.modules import unwrap
from saliency_losses.guided import SaliencyGuidedLoss
from saliency_losses.registry import nearest

__all__ = ["preflight"]

_OPTIONS = (
    "annotated",
    "classes",
    "denominator",
    "sample_weight",
    "task_sample_weight",
    "saliency_sample_weight",
)


def preflight(
    guided: nn.Module,
    images: Any,
    targets: Any,
    human_saliency: Tensor | None,
    *,
    time: bool = True,
    **call_options: Any,
) -> Preflight:
    """Try one guided step, change nothing, and report what would go wrong, where the map is taken, and what it costs.

    Parameters, ``.grad``, buffers, modes, hooks and random states are afterwards what they were, also where the step
    fails. A problem of the model or the batch is a finding with its remedy, never an exception. The step runs in this
    process alone, through the model inside ``DistributedDataParallel``.

    Call it where the step will be called: under the same autocast, with the model in train mode.

    Args:
        guided: A :class:`~saliency_losses.guided.SaliencyGuidedLoss`, in whatever wrappers.
        images: As for the loss.
        targets: As for the loss.
        human_saliency: As for the loss.
        time: Whether to time steps, which takes eight more of them. On CUDA this resets the allocator's peak
            statistics.
        call_options: As for the loss: ``annotated``, ``classes``, ``denominator``, ``sample_weight``,
            ``task_sample_weight``, ``saliency_sample_weight``.

    Raises:
        TypeError: ``guided`` is not a guided loss, the maps are not a tensor, or an option is unknown.

    Example:
        >>> import saliency_losses as sl
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> guided = sl.SaliencyGuidedLoss(net, "cam")
        >>> batch = torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0]), torch.rand(4, 9, 9)
        >>> print(preflight(guided, *batch, time=False))
        Preflight: ready
          extractor  CAM()
          layer      the input of '1' (it is pooled for the classifier '3')
          map        4 x 7 x 7, human maps 4 x 9 x 9
          reached    3 of 4 trainable tensors, 99.1% of their values; not 3.bias
          gradients  saliency / task = 3.2, weighted, where both reach
    """
    loss = unwrap(guided) if isinstance(guided, nn.Module) else guided
    if not isinstance(loss, SaliencyGuidedLoss):
        raise TypeError(f"guided must be a SaliencyGuidedLoss around the model, got {type(guided).__name__}.")
    if human_saliency is not None and not isinstance(human_saliency, Tensor):
        raise TypeError(f"human_saliency must be a tensor or None, got {type(human_saliency).__name__}.")
    for name in call_options:
        if name not in _OPTIONS:
            raise TypeError(f"Unknown option {name!r}.{nearest(name, _OPTIONS)} Known: {', '.join(_OPTIONS)}.")
    with torch.inference_mode(False), torch.enable_grad(), untouched(loss, images):
        trial = Trial(loss, fresh((images, targets, human_saliency)), fresh(call_options))
        return trial.report(guided, time=time).sorted()
