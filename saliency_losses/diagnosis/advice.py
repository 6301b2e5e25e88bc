"""What the gradients of a diagnosis mean, in words, and which weight would do."""

import math

from saliency_losses.diagnosis.gradients import Gradients
from saliency_losses.weighting import Additive, Balanced, Convex, Dynamic, Normalised, Uncertainty, Weighting

__all__ = ["read_gradients", "suggest"]

CONFLICT = -0.3
"""Terms whose gradients have a cosine below this pull against each other."""

NEGLIGIBLE = 0.01
"""A weighted saliency gradient below this share of the task's changes nothing."""

VANISHING = 1e-6
"""An unweighted saliency gradient below this share of the task's is rounding, which no weight turns into guidance."""

DOMINANT = 10.0
"""Above this share the saliency term drowns the task."""

USUAL = 0.3
"""The share that a suggested weight aims at."""


def read_gradients(found: Gradients, weighting: Weighting) -> list[str]:
    """What the gradients say; nothing where nothing stands out."""
    if not found.batches:
        return [f"The gradients of all {found.not_finite} batches hold NaN or infinities: training is broken."]
    said = [f"The gradients of {found.not_finite} batches hold NaN or infinities."] if found.not_finite else []
    if not found.parameters:
        return [*said, "The two terms share no parameter: the saliency term cannot change how the task is solved."]
    share, cosine = found.weighted_ratio.median, found.cosine.median
    if not found.ratio.median >= VANISHING:
        said.append(
            "The saliency term has no gradient, whatever its weight: maps are as good as they can get, or flat, or the "
            "human maps ask for nothing."
        )
    elif weighting.scheduled_off:
        said.append(f"The schedule of {weighting} switches the saliency term off at present: it trains nothing.")
    elif share < 0:
        said.append(
            "The weighting reverses the saliency term's gradient: training makes maps worse. "
            f"{type(weighting).__name__} differentiates its own weights; detach them."
        )
    elif share == 0:
        said.append(f"The saliency term has weight zero and trains nothing. {suggest(found, weighting)}")
    elif share < NEGLIGIBLE:
        size = f"1/{_rounded(1 / share)} of the task's gradient"
        said.append(f"The saliency term is negligible: {size}. {suggest(found, weighting)}")
    elif share > DOMINANT:
        size = "the task has no gradient" if share == math.inf else f"{_rounded(share)} times its gradient"
        said.append(f"The saliency term drowns the task, or the task is solved: {size}. {suggest(found, weighting)}")
    if cosine < CONFLICT and found.ratio.median >= VANISHING:
        said.append(
            f"The saliency term pulls against the task (cosine {cosine:.2f}): what lowers the one raises the other, as "
            "where a shortcut pays. Held-out accuracy tells whether that is worth it."
        )
    return [sentence.rstrip() for sentence in said]


def suggest(found: Gradients, weighting: Weighting) -> str:
    """Which weight would bring the saliency's gradient to the usual share of the task's."""
    ratio, share = found.ratio.median, found.weighted_ratio.median
    if not 0 < ratio < math.inf:
        return ""
    more = share < USUAL
    if isinstance(weighting, Additive):
        return f"{'Raise' if more else 'Lower'} saliency_weight to about {USUAL / ratio / weighting.scale():.2g}."
    if isinstance(weighting, Convex):
        alpha = max(1.0 - USUAL / (ratio + USUAL) / weighting.scale(), 0.0)
        return f"{'Lower' if more else 'Raise'} alpha to about {alpha:.3g}."
    if isinstance(weighting, (Dynamic, Uncertainty)):
        return f"{type(weighting).__name__} sets weights by itself; saliency_weight={USUAL / ratio:.2g} would do it."
    factor = USUAL / share if share else math.inf
    for kind, option in ((Balanced, "ratio"), (Normalised, "weight")):
        if isinstance(weighting, kind) and share:
            return f"{'Raise' if more else 'Lower'} {option} to about {getattr(weighting, option) * factor:.2g}."
    return f"{'Raise' if more else 'Lower'} its weight about {_rounded(max(factor, 1 / factor))}-fold." if share else ""


def _rounded(number: float) -> str:
    return f"{float(f'{number:.2g}'):,.0f}"
