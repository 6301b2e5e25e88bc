"""The same human maps without a saliency loss: as what an auxiliary head is to predict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import saliency_losses as sl

from . import distributed, networks


class MapHead(nn.Module):
    """A guided loss and a head that predicts the human map from the last features, left behind after training.

    Args:
        guided: The loss.
        weight: What the head's mean squared error is multiplied by.
        images: Some images, which tell how many channels the features have.
    """

    def __init__(self, guided: sl.SaliencyGuidedLoss, weight: float, images: Tensor) -> None:
        super().__init__()
        self.guided, self.weight = guided, weight
        with torch.no_grad(), self._features() as features:
            guided.model.eval()(images)
        self.head = nn.Conv2d(features[0].shape[1], 1, 1).to(images.device, images.dtype)

    def forward(self, human_saliency: Tensor, annotated: Tensor, **batch: Any) -> sl.LossOutput:
        """The guided loss, with the head's added; its part is called "map_head"."""
        with self._features() as features:
            out: sl.LossOutput = self.guided(human_saliency=human_saliency, annotated=annotated, **batch)
        predicted = self.head(features[0]).sigmoid()[:, 0]
        human = sl.maps.resize(human_saliency, tuple(predicted.shape[1:])).to(predicted)
        errors = (predicted - human).square().mean((1, 2))
        count = distributed.total(annotated.sum()).clamp_min(1) / distributed.ranks()
        error = torch.where(annotated, errors, 0.0).sum() / count
        return out._replace(loss=out.loss + self.weight * error, parts={**out.parts, "map_head": error.detach()})

    @contextmanager
    def _features(self) -> Iterator[list[Tensor]]:
        """What the last features are in each call of the model inside the block."""
        kept: list[Tensor] = []
        handle = networks.features(self.guided.model).register_forward_hook(lambda *call: kept.append(call[2]))
        try:
            yield kept
        finally:
            handle.remove()
