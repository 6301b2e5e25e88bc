"""One call that looks at a guided model from all sides."""

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

from torch import Tensor, nn

from saliency_losses.diagnosis.advice import read_gradients
from saliency_losses.diagnosis.alignment import align, gain_over
from saliency_losses.diagnosis.batches import read_batches
from saliency_losses.diagnosis.gradients import compare_gradients
from saliency_losses.diagnosis.held_out import look
from saliency_losses.diagnosis.reading import read_gain, read_maps, verdict_of
from saliency_losses.diagnosis.result import Diagnosis
from saliency_losses.diagnosis.untouched import untouched
from saliency_losses.extractors.base import EXTRACTORS, SaliencyExtractor
from saliency_losses.extractors.modules import unwrap
from saliency_losses.extractors.occlusion import Occlusion
from saliency_losses.extractors.score import Score
from saliency_losses.guided import SaliencyGuidedLoss

__all__ = ["diagnose"]


def diagnose(
    guided: SaliencyGuidedLoss,
    loader: Iterable[Any],
    *,
    gradient_loader: Iterable[Any] | None = None,
    gradient_batches: int = 4,
    witness: str | SaliencyExtractor | None = "occlusion",
    window: int | tuple[int, ...] | None = None,
    baseline: nn.Module | None = None,
    limit: int = 512,
    permutations: int = 999,
    seed: int = 0,
) -> Diagnosis:
    r"""Whether guidance works: do held-out maps agree with people's, does behaviour, and do the two terms get along?

    Maps count as aligned if they correlate with the human map of their own image more than with other images', by
    a margin and beyond chance. The maps that a loss trains may do so while the model decides by something else (Heo
    et al. 2019), so a witness looks too: an extractor that was not trained on. The model, its gradients, buffers, mode,
    hooks and all random states are afterwards what they were.

    Args:
        guided: The loss, with the model in the mode in which it trains.
        loader: Held-out batches: ``(images, targets, human_saliency)``, or mappings with the keywords of
            a guided step. They are moved to the model's device. Sample weights count in the gradients alone.
        gradient_loader: Batches for the gradients, such as the training's; those of ``loader`` by default.
        gradient_batches: How many batches to compare gradients on, in the model's own mode; 0 skips that.
        witness: The extractor that was not trained on; ``None`` for none. Occlusion shows the model about fifty
            images in place of each.
        window: Of occlusion, in pixels, one number or one per axis; a seventh of the image by default.
        baseline: A model of the same kind that was trained without guidance. A model may look where people look by
            itself; what guidance did is the gain over this one.
        limit: Stop after the batch in which this many samples are reached.
        permutations: How many permutations of the human maps the p-values rest on.
        seed: Of these permutations.

    Raises:
        TypeError: ``guided`` is not a :class:`~saliency_losses.guided.SaliencyGuidedLoss`, or a batch is neither tuple
            nor mapping.
        ValueError: The loader is empty, no sample has a map, or a number is out of range.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> loader = [(torch.rand(8, 3, 9, 9), torch.arange(8) % 2, torch.rand(8, 9, 9)) for _ in range(2)]
        >>> found = diagnose(SaliencyGuidedLoss(net), loader)
        >>> found.verdict, found.samples
        ('not_aligned', 16)

    Reference:
        Heo, Joo and Moon, Fooling Neural Network Interpretations via Adversarial Model Manipulation, NeurIPS 2019;
        the shuffled baseline: Tatler et al., Visual correlates of fixation selection, Vision Research 2005.
    """
    inner = _checked(guided, gradient_batches=(gradient_batches, 0), limit=(limit, 1), permutations=(permutations, 19))
    extractors = [inner.extractor]
    if witness is not None:
        extractors.append(_witness(witness, window, inner.extractor))
    models = nn.ModuleList([inner] if baseline is None else [inner, baseline])
    with untouched(models, loader, gradient_loader):
        apart = _on_its_own(inner, inner.model)
        views = [(apart, extractor) for extractor in extractors]
        views += [] if baseline is None else [(_on_its_own(inner, baseline), extractors[-1])]
        first, held_out = _begin(loader, gradient_loader, gradient_batches)
        with untouched(inner):
            gradients = compare_gradients(apart, inner.weighting, read_batches(first, apart.model))
        answers, maps = look(views, read_batches(held_out, apart.model), limit)
        trained, *rest = (
            align(EXTRACTORS.name_of(extractor), found, inner.divergence, permutations, seed)
            for extractor, found in zip(extractors, maps, strict=False)
        )
        looked = rest[0] if rest else None
        gain = None if baseline is None else gain_over(*maps[-2:])
        weighs = inner.weighting.needs_saliency or inner.weighting.scheduled_off
        reading = read_maps(trained, looked, guided=weighs)
        reading += [] if gain is None else [read_gain(gain)]
        reading += [] if gradients is None else read_gradients(gradients, inner.weighting)
    return Diagnosis(verdict_of(trained, looked), tuple(reading), trained, looked, gain, gradients, *answers)


def _checked(guided: nn.Module, **numbers: tuple[int, int]) -> SaliencyGuidedLoss:
    inner = unwrap(guided)
    if not isinstance(inner, SaliencyGuidedLoss):
        raise TypeError(
            f"diagnose needs a SaliencyGuidedLoss, which holds model and extractor, got {type(inner).__name__}."
        )
    for name, (number, least) in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}.")
    return inner


def _begin(loader: Iterable[Any], gradient_loader: Iterable[Any] | None, count: int) -> tuple[list[Any], Iterable[Any]]:
    """The batches for the gradients, and all held-out ones; a loader that passes once is asked once."""
    if gradient_loader is not None:
        return list(islice(gradient_loader, count)), loader
    batches = iter(loader)
    first = list(islice(batches, count))
    return first, chain(first, batches)


def _on_its_own(guided: SaliencyGuidedLoss, model: nn.Module) -> SaliencyGuidedLoss:
    """The same loss around a bare model, with no hooks, counts or processes but its own."""
    return SaliencyGuidedLoss(
        unwrap(model),
        guided.extractor,
        guided.divergence,
        saliency_weight=1.0,
        task_loss=guided.task_loss,
        denominator=guided.denominator,
        forward=guided.run,
        check_values=guided.check_values,
        gradient_sync="none",
    )


def _witness(
    witness: str | SaliencyExtractor, window: int | tuple[int, ...] | None, trained: SaliencyExtractor
) -> SaliencyExtractor:
    if witness == "occlusion":
        score = getattr(trained, "score", "true")
        own: Score = score if callable(score) else "contrast"
        return Occlusion(window=window, baseline=_mean_colour, score=own)
    if window is not None:
        raise ValueError(f"window= belongs to witness='occlusion', but the witness is {witness!r}.")
    return EXTRACTORS.resolve(witness)


def _mean_colour(images: Tensor) -> Tensor:
    return images.mean(tuple(range(2, images.ndim)), keepdim=True)
