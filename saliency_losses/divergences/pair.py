"""Two batches of maps, brought to size and normalised on demand, each way once."""

import torch
from torch import Tensor

from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.sizing import Sizing, bring_to_size

__all__ = ["Pair"]


class Pair:
    r"""The maps that a divergence compares, as any of its parts wants them.

    Parts of a sum that agree on a size or a normaliser share the result.

    Args:
        model: The model's maps, (B, \*s).
        human: The human maps, (B, \*S), or ``None``.
        known: Weight of each pixel of the human maps in [0, 1], (B, \*S); all by default.
    """

    def __init__(self, model: Tensor, human: Tensor | None, known: Tensor | None) -> None:
        if human is not None and known is not None:
            human = torch.where(known > 0, human, 0.0)
        self._given = model, human, known
        self._sized: dict[Sizing, tuple[Tensor, Tensor, Tensor | None]] = {}
        self._normalized: dict[tuple[str, Sizing | None, Normalizer, bool], Tensor] = {}

    @property
    def has_human(self) -> bool:
        """Whether there is a human map."""
        return self._given[1] is not None

    def known(self, sizing: Sizing) -> Tensor | None:
        r"""The known share of each cell, (B, \*size); ``None`` where it is 1 everywhere."""
        return self._at(sizing)[2]

    def model(self, normalizer: Normalizer, sizing: Sizing, *, logs: bool = False) -> Tensor:
        r"""The model's maps, normalised over their known cells, or the distributions' logarithms, (B, \*size)."""
        maps, _, known = self._at(sizing)
        return self._normalize("model", sizing, maps, known, normalizer, logs)

    def human(self, normalizer: Normalizer, sizing: Sizing) -> Tensor:
        r"""The human maps, normalised over their known cells, (B, \*size)."""
        _, maps, known = self._at(sizing)
        return self._normalize("human", sizing, maps, known, normalizer, logs=False)

    def alone(self, normalizer: Normalizer, *, logs: bool = False) -> Tensor:
        r"""The model's maps at their own size, normalised over all cells, (B, \*s)."""
        return self._normalize("model", None, self._given[0], None, normalizer, logs)

    def _at(self, sizing: Sizing) -> tuple[Tensor, Tensor, Tensor | None]:
        if sizing not in self._sized:
            model, human, known = self._given
            if human is None:
                raise ValueError("There is no human map to compare with.")
            self._sized[sizing] = bring_to_size(model, human, known, sizing)
        return self._sized[sizing]

    def _normalize(
        self,
        side: str,
        sizing: Sizing | None,
        maps: Tensor,
        known: Tensor | None,
        normalizer: Normalizer,
        logs: bool,
    ) -> Tensor:
        as_given = known is None and any(maps is given for given in self._given[:2])
        key = side, None if as_given else sizing, normalizer, logs
        if key not in self._normalized:
            apply = normalizer.log if logs else normalizer
            flat = apply(maps.flatten(1), None if known is None else known.flatten(1))
            self._normalized[key] = flat.view(maps.shape)
        return self._normalized[key]
