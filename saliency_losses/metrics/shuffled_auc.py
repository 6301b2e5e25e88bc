"""The area under the curve against fixations on other images: shuffled AUC (sAUC)."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from saliency_losses.metrics.base import METRICS, SaliencyMetric, warn_of_none
from saliency_losses.metrics.ranks import mann_whitney
from saliency_losses.metrics.reading import FixationSizing, check_fixation_sizing, read_fixations

__all__ = ["ShuffledAUC", "shuffled_auc"]

_ROWS = 64  # maps that are worked on at once


def shuffled_auc(
    model: Tensor,
    human: Tensor | None,
    annotated: Tensor | None = None,
    *,
    others: Tensor | None = None,
    sizing: FixationSizing = "enlarge",
) -> Tensor:
    r"""How well the model's map tells where people looked on this image from where they looked on others.

    The probability that the map is larger at a fixation than at one that belongs to another image, ties counting one
    half. A map of where people look on any image, such as a bright centre, gives 0.5.

    Args:
        model: The model's maps, (B, \*s).
        human: How often each pixel was fixated, (B, \*S), see :func:`~saliency_losses.maps.fixations_to_counts`.
        annotated: Which samples count, (B,), also as others; all by default.
        others: How often each pixel was fixated on other images, (B, \*S); by default on the others of the batch, so
            that a batch that holds the whole data set gives what :class:`ShuffledAUC` gives.
        sizing: How the model's map comes to the size of the fixations.

    Returns:
        (B,); NaN for samples that do not count, and where this image or all others have no fixation.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, a map that counts is not finite, or a count is negative.

    Example:
        >>> maps = torch.tensor([[[0.1, 0.9, 0.5]], [[0.1, 0.9, 0.5]]])
        >>> shuffled_auc(maps, torch.tensor([[[0.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]]]))
        tensor([0.7500, 0.2500])

    Reference:
        Zhang, Tong, Marks, Shan and Cottrell, SUN: A Bayesian framework for saliency using natural statistics, Journal
        of Vision 2008.
    """
    maps = read_fixations("shuffled_auc", model, human, annotated, sizing)
    if others is None:
        negative = maps.human.sum(0) - maps.human
    else:
        read = read_fixations("shuffled_auc", model, others, annotated, sizing)
        if read.size != maps.size:
            raise ValueError(
                f"others must be counts at the size of the fixations {maps.size}, got shape {tuple(others.shape)}."
            )
        negative = read.human
    return maps.values(mann_whitney(maps.model, maps.human, negative))


@METRICS.register("shuffled_auc")
class ShuffledAUC(SaliencyMetric):
    """The mean of :func:`shuffled_auc` over all maps, against the fixations on all other images of the epoch.

    It keeps every map until ``reset``, at the size of the fixations, which must be one for all images.

    Args:
        sizing: How the model's map comes to the size of the fixations.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> metric = ShuffledAUC()
        >>> metric.update(torch.tensor([[[0.1, 0.9, 0.5]]]), torch.tensor([[[0.0, 1.0, 0.0]]]))
        >>> metric.update(torch.tensor([[[0.1, 0.9, 0.5]]]), torch.tensor([[[1.0, 1.0, 0.0]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, sizing: FixationSizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"sizing": check_fixation_sizing(sizing)}, **kwargs)
        # Flat and of one dtype, as torchmetrics needs where a process has seen nothing.
        for name in ("values", "sizes", "fixated", "pixels", "counts"):
            self.add_state(self.state_name(name), [], dist_reduce_fx="cat")

    def update(self, model: Tensor, human: Tensor | None = None, annotated: Tensor | None = None) -> None:
        r"""Take in a batch.

        Args:
            model: The model's maps, (B, \*s).
            human: How often each pixel was fixated, (B, \*S).
            annotated: Which samples count, (B,); all by default.
        """
        maps = read_fixations("shuffled_auc", model, human, annotated, self.options["sizing"])
        values, counts = maps.model[maps.rows], maps.human[maps.rows]
        self._keep("values", values.flatten())
        self._keep("sizes", values.new_tensor(maps.size).repeat(len(values)))
        self._keep("fixated", (counts > 0).sum(1))
        self._keep("pixels", counts.nonzero()[:, 1])
        self._keep("counts", counts[counts > 0])

    def compute(self) -> Tensor:
        """The mean over all maps that count; NaN, with a warning, where there is none."""
        fixated, pixels, counts = map(self._kept, ("fixated", "pixels", "counts"))
        images = len(fixated)
        maps = self._maps(images)
        total = fixated.new_zeros(maps.shape[1]).index_add(0, pixels.long(), counts)
        image = torch.repeat_interleave(torch.arange(images, device=fixated.device), fixated.long())
        found = [fixated.new_empty(0)]
        for start in range(0, images, _ROWS):
            some = maps[start : start + _ROWS]
            here = (image >= start) & (image < start + len(some))
            own = torch.zeros_like(some).index_put((image[here] - start, pixels[here].long()), counts[here])
            found.append(mann_whitney(some, own, total - own))
        values = torch.cat(found)
        if bool(values.isnan().all()):
            warn_of_none(self)
        return values.nanmean()

    def _maps(self, images: int) -> Tensor:
        """All maps, one a row."""
        values, sizes = self._kept("values"), self._kept("sizes")
        if not images:
            return values.view(0, 0)
        axes = sizes.view(images, -1) if sizes.numel() % images == 0 else sizes[:, None]
        if bool((axes != axes[0]).any()):
            found = sorted({tuple(map(int, size)) for size in axes.tolist()})
            raise ValueError(
                "ShuffledAUC compares with fixations on other images, so that all of its fixation maps must have one "
                f"size, got {', '.join(map(str, found[:8]))}; make them by fixations_to_counts at one size."
            )
        return values.view(images, -1)

    def _keep(self, name: str, values: Tensor) -> None:
        getattr(self, self.state_name(name)).append(values.to(self.dtype))

    def _kept(self, name: str) -> Tensor:
        state = getattr(self, self.state_name(name))
        if isinstance(state, list) and not state:
            return torch.zeros(0, dtype=self.dtype, device=self.device)
        kept: Tensor = dim_zero_cat(state)
        return kept
