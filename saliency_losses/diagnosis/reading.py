"""What the maps of a diagnosis mean, in words, each from a threshold."""

import math
from typing import Literal

from saliency_losses.diagnosis.alignment import Alignment, Gain

__all__ = ["Verdict", "is_aligned", "read_gain", "read_maps", "verdict_of"]

Verdict = Literal["works", "maps_only", "behaviour_only", "not_aligned", "maps_agree", "too_few_maps"]

P_VALUE = 0.05
"""Maps agree with those of their own image if at most this share of permutations agrees as well."""

MARGIN = 0.1
"""By how much, in correlation, they must agree better with their own image's human map than with others'."""

STRONG = 0.3
"""Agreement that is better by less than this is weak."""

ERRORS = 2.0
"""A difference counts from this many standard errors."""

FEWEST = 8
"""With fewer samples whose maps can be compared there is no verdict."""


def is_aligned(found: Alignment) -> bool:
    """Whether maps agree with the human maps of their own images, beyond chance and by a margin."""
    return found.p_value <= P_VALUE and found.difference >= MARGIN


def verdict_of(trained: Alignment, witness: Alignment | None) -> Verdict:
    """The verdict on the maps of the trained extractor and on those of the witness."""
    if any(found.samples < FEWEST for found in (trained, witness) if found is not None):
        return "too_few_maps"
    if witness is None:
        return "maps_agree" if is_aligned(trained) else "not_aligned"
    if is_aligned(trained):
        return "works" if is_aligned(witness) else "maps_only"
    return "behaviour_only" if is_aligned(witness) else "not_aligned"


def read_maps(trained: Alignment, witness: Alignment | None, *, guided: bool) -> list[str]:
    """What the alignment says, of a model whose loss is guided or not."""
    verdict = verdict_of(trained, witness)
    maps = f"held-out maps agree {_agreement(trained)}"
    other = "" if witness is None else f"{witness.extractor}, which was not trained on, agrees {_agreement(witness)}"
    both = f"{maps}; {other}" if other else maps
    weak = any(found.difference < STRONG for found in (trained, witness) if found is not None)
    degree = ", weakly" if weak else ""
    if verdict == "works":
        said = f"{'Guidance works' if guided else 'Unguided, the model looks where people look'}{degree}: {both}."
    elif verdict == "maps_agree":
        said = (
            f"Maps agree with people's{degree}: {maps}. No witness looked, and maps can move while behaviour does not."
        )
    elif verdict == "maps_only":
        said = (
            f"Maps moved but behaviour did not: {maps}, but {other}. The maps of {trained.extractor} can be satisfied "
            "without deciding by what people marked: try score='contrast', another layer or another extractor."
        )
    elif verdict == "behaviour_only":
        said = (
            f"Behaviour agrees with people's maps but the trained maps do not: {both}. Look at the layer and the score "
            f"of {trained.extractor}."
        )
    elif verdict == "not_aligned":
        said = f"{'Guidance does not work (yet)' if guided else 'Unguided, the model looks elsewhere'}: {both}."
    else:
        count = min(found.samples for found in (trained, witness) if found is not None)
        said = f"Too few maps to tell: {count} samples have maps that can be compared; bring {FEWEST} or more."
    return [said, *_centre(trained, verdict), *_undefined(trained)]


def read_gain(gain: Gain) -> str:
    """What the comparison with a baseline says."""
    more = f"{gain.gain:.2f} ± {gain.standard_error:.2f} more"
    numbers = f"{gain.baseline:.2f} better with its own images' maps than with others', this model {more}"
    if gain.gain >= MARGIN and gain.gain > ERRORS * gain.standard_error:
        return f"Guidance did it: the baseline agrees {numbers}."
    return f"Guidance is not what did it: the baseline agrees {numbers}."


def _centre(found: Alignment, verdict: Verdict) -> list[str]:
    if verdict == "too_few_maps" or math.isnan(found.mean_map):
        return []
    mean = f"the mean map of the other images, which agrees {found.mean_map:.2f}"
    if found.above_mean_map > ERRORS * found.above_mean_map_error:
        return [f"The maps are specific to the image: they beat {mean}."]
    if found.mean_map >= MARGIN:
        return [f"The maps may be a habit of place: they do not beat {mean}."]
    return []


def _undefined(found: Alignment) -> list[str]:
    if not found.undefined:
        return []
    return [
        f"{found.undefined} pairs of maps are left out of the correlations, since one of both is flat or not finite: a "
        "flat model map looks nowhere, an empty human map says nothing."
    ]


def _agreement(found: Alignment) -> str:
    return (
        f"{found.correlation:.2f} with people's, {found.shuffled:.2f} with those of other images (difference "
        f"{found.difference:.2f} ± {found.standard_error:.2f}, p = {found.p_value:.2g})"
    )
