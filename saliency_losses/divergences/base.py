"""What a divergence is: two maps in, one value per pair out."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from saliency_losses.divergences.evaluate import evaluate, working_dtype
from saliency_losses.divergences.normalize import Scope
from saliency_losses.divergences.normalizer import NORMALIZERS, Normalizer, check_distributions
from saliency_losses.divergences.pair import Pair
from saliency_losses.divergences.scales import RAW
from saliency_losses.registry import Registry, options_of
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["DIVERGENCES", "Backend", "Divergence", "Reads", "check_backend", "masked_mean", "masked_sum"]

Reads = Literal["saliency", "mask", "signed", "fixations", "nothing"]
Backend = Literal["auto", "eager", "triton"]


class Divergence(nn.Module, ABC):
    r"""How far a model's map is from a human's.

    Implement :meth:`compare`, never :meth:`forward`, which has checked the maps, brought them to one size, normalised
    and flattened them by then. Values are computed in float32 (float64 for float64 maps), also under autocast.
    Divergences add up: ``0.7 * KL() + 0.3 * MSE()`` is one too.

    Example:
        >>> class MeanGap(Divergence):
        ...     def compare(self, model, human, known):  # known is None where all cells are
        ...         return (masked_mean(model, known) - masked_mean(human, known)).square()
        >>> MeanGap()(torch.ones(1, 2, 2), torch.zeros(1, 2, 2))
        tensor([1.])

    Attributes:
        spatial: Whether :meth:`compare` sees (B, \*s) instead of (B, N).
        logs: Whether :meth:`compare` sees the logarithm of the model's map as a distribution.
        reads: What the human map is: ``"saliency"`` (non-negative), a ``"mask"`` in [0, 1], ``"signed"`` (from -1,
            never here, to 1, here), ``"fixations"`` (how often each pixel was looked at), or ``"nothing"``: a prior on
            the model's map, which needs no human map.
        smallest: Fewest positions per axis.
        ranks: How many axes maps may have, where not any number.
        positive: Whether only the positive part of the model's map counts, so that one without any trains nothing.
        empty_is_suspicious: Whether an all-zero human map is worth a warning when nobody said which maps exist.
        normalize: Of the model's map.
        human_normalize: Of the human map.
        sizing: How both come to one size.
        backend: Who evaluates it: a fused GPU kernel where there is one for these options and maps, else PyTorch
            (``"auto"``); PyTorch (``"eager"``); or the kernel, and an error that says why it cannot (``"triton"``).
    """

    spatial: ClassVar[bool] = False
    logs: ClassVar[bool] = False
    reads: Reads = "saliency"
    smallest: int = 1
    ranks: ClassVar[tuple[int, ...]] = ()
    positive: ClassVar[bool] = False
    empty_is_suspicious: bool = True
    normalize: Normalizer = RAW
    human_normalize: Normalizer = RAW
    sizing: Sizing = "area"
    backend: Backend = "auto"

    def __init__(
        self,
        *,
        normalize: str | Normalizer = RAW,
        human_normalize: str | Normalizer = RAW,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.normalize = NORMALIZERS.resolve(normalize)
        self.human_normalize = NORMALIZERS.resolve(human_normalize)
        self.sizing = check_sizing(sizing)
        self.backend = check_backend(backend)
        if self.logs:
            check_distributions(type(self).__name__, normalize=self.normalize)

    @property
    def scope(self) -> Scope:
        """``"batch"`` where the value of one map depends on the others in this process's batch."""
        return "batch" if self.normalize.per_batch or self.human_normalize.per_batch else "sample"

    @property
    def holds_statistics(self) -> bool:
        """Whether statistics of the model's map count as constants, and the gradient is not the value's derivative."""
        return bool(getattr(self.normalize, "detach", False) or getattr(self, "detach", False))

    @property
    def human_range(self) -> tuple[float, float]:
        """Smallest and largest value that human maps may take."""
        high = 1.0 if self.reads in ("mask", "signed") else math.inf
        return (-1.0 if self.reads == "signed" else 0.0), high

    def __add__(self, other: "Divergence") -> "Divergence":
        return _sum([*self.terms(), *other.terms()]) if isinstance(other, Divergence) else NotImplemented

    def __mul__(self, factor: float) -> "Divergence":
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return _sum([(factor * weight, part) for weight, part in self.terms()])

    __rmul__ = __mul__

    def terms(self) -> list[tuple[float, "Divergence"]]:
        """The weighted parts that this is the sum of: itself, unless it is a sum."""
        return [(1.0, self)]

    def forward(self, model: Tensor, human: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        r"""One value per pair of maps.

        Values of human maps are not looked at here, as the guided loss does: outside ``human_range`` they mean
        nothing.

        Args:
            model: The model's maps, (B, \*s), raw and signed.
            human: The human maps, (B, \*S), at any size; ``None`` for priors.
            known: Weight of each pixel of the human maps in [0, 1], (B, \*S); pixels of weight zero take no part, and a
                map without a known one gives zero. All by default.

        Returns:
            (B,).

        Raises:
            ValueError: Shapes or devices do not fit, a map is empty or too small, there is no human map to compare
                with, or dtype is not floating point.
            RuntimeError: The values do not depend on the model's map, which is to be trained.
        """
        dtype = working_dtype(model, human)
        terms = self.terms()
        rows = [model.new_full((1, len(model)), weight, dtype=dtype) for weight, _ in terms]
        weights = torch.cat(rows) if len(rows) > 1 else rows[0]
        return evaluate([part for _, part in terms], weights, model, human, known)[0]

    def values(self, pair: Pair) -> Tensor:
        """One value per pair of maps, (B,), from maps that may be shared with other divergences."""
        if not pair.has_human:
            raise ValueError(f"{self} compares with human maps, but none were given.")
        model = self._laid_out(pair.model(self.normalize, self.sizing, logs=self.logs))
        human = self._laid_out(pair.human(self.human_normalize, self.sizing))
        known = pair.known(self.sizing)
        values = self.compare(model, human, None if known is None else self._laid_out(known))
        return values if known is None else torch.where(known.flatten(1).amax(1) > 0, values, 0.0)

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        return options_of(self)

    @abstractmethod
    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        r"""One value per pair of normalised maps, (B, N) or, where ``spatial``, (B, \*s); ``known`` likewise."""

    def _laid_out(self, maps: Tensor) -> Tensor:
        size = tuple(maps.shape[1:])
        if min(size) < self.smallest or (self.ranks and len(size) not in self.ranks):
            axes = f" of {' or '.join(map(str, self.ranks))} axes" if self.ranks else ""
            raise ValueError(
                f"{self} is defined on maps{axes} with at least {self.smallest} position(s) per axis, got {size}."
            )
        return maps if self.spatial else maps.flatten(1)


DIVERGENCES: Registry[Divergence] = Registry("divergence", Divergence)


def _sum(terms: list[tuple[float, Divergence]]) -> Divergence:
    from saliency_losses.divergences.sum import Sum

    return Sum(terms)


def check_backend(backend: Backend) -> Backend:
    """``backend`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}.")
    return backend


def masked_sum(x: Tensor, known: Tensor | None) -> Tensor:
    """The sum of each row of ``x`` (B, N), weighed by ``known``.

    Example:
        >>> masked_sum(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([1.])
    """
    return (x if known is None else x * known).sum(1)


def masked_mean(x: Tensor, known: Tensor | None) -> Tensor:
    """The mean of each row of ``x`` (B, N), weighed by ``known``; zero where nothing is known.

    Example:
        >>> masked_mean(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([1.])
    """
    if known is None:
        return x.mean(1)
    total = known.sum(1)
    return masked_sum(x, known) / torch.where(total > 0, total, 1.0)
