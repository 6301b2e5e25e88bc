"""The extractor that fits the model: CAM where its identity holds, Grad-CAM elsewhere."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.extractors.anatomy import Observer, observing
from saliency_losses.extractors.base import EXTRACTORS, Explanation, Run, SaliencyExtractor, call_model
from saliency_losses.extractors.cam import CAM
from saliency_losses.extractors.grad_cam import GradCAM
from saliency_losses.extractors.memory import remember, remembered
from saliency_losses.extractors.score import Score, check_score
from saliency_losses.extractors.undisturbed import undisturbed

__all__ = ["Auto"]

_LOG = logging.getLogger("saliency_losses")


@EXTRACTORS.register("auto")
class Auto(SaliencyExtractor):
    """CAM where the model pools several positions for a linear classifier, else Grad-CAM at the last layer that counts.

    What a model is shows in one forward pass more, before its first call, that leaves no trace in buffers and random
    state. What was chosen goes to the logger ``saliency_losses``; :meth:`choose` tells too.

    Args:
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`.

    Attributes:
        passes: ``None``, since the first call takes one more.

    Raises:
        ValueError: On a call: no layer has positions, or Grad-CAM has none to take by default.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> Auto().choose(net, torch.rand(4, 3, 9, 9))
        CAM()
        >>> Auto()(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])
    """

    needs = "activation gradient"
    order = 2
    passes = None

    def __init__(self, *, score: Score = "true") -> None:
        super().__init__()
        self.score = check_score(score)

    def choose(self, model: nn.Module, inputs: Any, *, run: Run | None = None) -> SaliencyExtractor:
        """The extractor for this model in its present mode.

        Args:
            model: The model.
            inputs: What it takes.
            run: Calls the model; :func:`~saliency_losses.extractors.call_model` by default.
        """
        anatomy = remembered(model, inputs)
        if anatomy is not None:
            pooled = 0 if anatomy.main is None else anatomy.heads[anatomy.main].positions
            return CAM(score=self.score) if pooled > 1 else GradCAM(score=self.score)
        with undisturbed(model, inputs), torch.no_grad(), observing(model, inputs, Observer(leaf=False)) as observer:
            output = (run or call_model)(model, inputs)
            remember(model, inputs, observer.conclude(model, output))
            observer.release()
        torch.clear_autocast_cache()  # older PyTorch would go on with weights cast here, off the graph
        chosen = self.choose(model, inputs, run=run)
        _LOG.info("extractor='auto' takes %s for %s.", chosen, type(model).__name__)
        return chosen

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        explanation: Explanation = self.choose(model, inputs, run=run)(model, inputs, classes, run=run)
        return explanation
