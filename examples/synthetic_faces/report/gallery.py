"""Hits and misses: test images that guidance got right where cross-entropy did not, and those it got wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.synthetic_faces.sources.base import Source
from saliency_losses.viz import overlay

from .comparison import Comparison, Row

Picture = NDArray[np.uint8]
OpenSource = Callable[[dict[str, Any]], Source]
"""From what :meth:`Source.describe` says to the source; may raise OSError or ValueError."""
MOST = 4


@dataclass(frozen=True)
class Tile:
    """One picture, what it shows, and whether that network is right; None where there is no network."""

    title: str
    picture: Picture
    right: bool | None = None


@dataclass(frozen=True)
class Example:
    """One test image of a group: itself, the human map, and each arm's."""

    group: str
    index: int
    tiles: list[Tile]


@dataclass(frozen=True)
class Gallery:
    """Examples, and why there are none where there are none.

    Attributes:
        hits: Cross-entropy wrong, the best guided arm right.
        misses: The best guided arm wrong.
        guided: That arm's title.
        seed: Whose networks are shown.
        missing: Why there is no gallery; empty where there is one.
    """

    hits: list[Example]
    misses: list[Example]
    guided: str = ""
    seed: int | None = None
    missing: str = ""


def collect(comparison: Comparison, open_source: OpenSource | None) -> Gallery:
    """The gallery of one seed that both cross-entropy and the best guided arm have."""
    baseline, guided = comparison.baseline, comparison.best_guided
    if open_source is None:
        return Gallery([], [], missing="The images are not at hand: the report was made without their source.")
    if baseline is None or guided is None:
        return Gallery([], [], missing="A gallery needs cross-entropy and a guided arm.")
    both = baseline.by_seed.keys() & guided.by_seed.keys()
    seeds = sorted(seed for seed in both if _groups(guided.by_seed[seed].maps))
    if not seeds:
        return Gallery([], [], missing="No seed has cross-entropy and a guided arm with stored maps.")
    seed = max(seeds, key=lambda s: (sum(s in row.by_seed for row in comparison.rows), -s))
    rows = [row for row in comparison.rows if seed in row.by_seed]
    hits: list[Example] = []
    misses: list[Example] = []
    try:
        tests = open_source(comparison.data).tests()
        for group in _groups(guided.by_seed[seed].maps):
            if group in tests and all(group in row.by_seed[seed].scores for row in (baseline, guided)):
                shown_already = ({hit.index for hit in hits}, {miss.index for miss in misses})
                found = _examples(group, tests[group], rows, seed, (baseline, guided), shown_already)
                hits += found[0][: MOST - len(hits)]
                misses += found[1][: MOST - len(misses)]
    except (OSError, ValueError) as error:
        return Gallery([], [], missing=f"The images cannot be read: {error}")
    return Gallery(hits, misses, guided.title, seed)


def _groups(maps: dict[str, Any]) -> list[str]:
    groups = (key.removeprefix("gallery/") for key in maps if key.startswith("gallery/"))
    whole = (group for group in groups if group.startswith(("authentic/", "training/", "unseen/")))
    return sorted(whole, key=_unseen_first)


def _unseen_first(group: str) -> tuple[bool, str]:
    return (not group.startswith("unseen/"), group)


def _examples(
    group: str,
    dataset: Any,
    rows: Sequence[Row],
    seed: int,
    judged: tuple[Row, Row],
    shown_already: tuple[set[int], set[int]],
) -> tuple[list[Example], list[Example]]:
    """A hit and a miss of one group, if possible of places that no other group showed, which may be the same faces."""
    plain, guided = (right(row.by_seed[seed].scores[group], group) for row in judged)
    stored = len(judged[1].by_seed[seed].maps[f"gallery/{group}"])
    count = min(stored, len(plain), len(guided))
    plain, guided = plain[:count], guided[:count]
    hits, misses = (
        sorted((i for i in range(count) if wanted[i]), key=lambda i: (i in shown, i))[:1]
        for wanted, shown in zip((guided & ~plain, ~guided), shown_already, strict=False)
    )
    if not hits and not misses:
        return [], []
    batch = dataset.__getitems__(sorted({*hits, *misses}))
    places = {i: place for place, i in enumerate(sorted({*hits, *misses}))}
    made = {i: _example(group, i, batch, place, rows, seed) for i, place in places.items()}
    return [made[i] for i in hits], [made[i] for i in misses]


def right(scores: NDArray[Any], group: str) -> NDArray[np.bool_]:
    """Whether the network's decision about each image of a test group is right."""
    called_fake: NDArray[np.bool_] = scores > 0
    return ~called_fake if group.startswith("authentic/") else called_fake


def _example(group: str, index: int, batch: dict[str, Any], place: int, rows: Sequence[Row], seed: int) -> Example:
    image, human = batch["images"][place], batch.get("human_saliency")
    annotated = batch.get("annotated")
    blank = np.zeros(image.shape[-2:], dtype=np.float32)
    plain = shown(image)
    tiles = [Tile("image", plain)]
    if human is not None and (annotated is None or bool(annotated[place])):
        tiles.append(Tile("people", overlay(plain, human[place])))
    else:
        tiles.append(Tile("people: no map", overlay(plain, blank)))
    for row in rows:
        result = row.by_seed[seed]
        maps, scores = result.maps.get(f"gallery/{group}"), result.scores.get(group)
        if maps is not None and index < len(maps) and scores is not None and index < len(scores):
            heat = maps[index] if np.isfinite(maps[index]).all() else blank
            tiles.append(Tile(row.title, overlay(plain, heat), bool(right(scores, group)[index])))
    return Example(group, index, tiles)


def shown(image: Any) -> Picture:
    """An image (C, H, W) as bytes (H, W, 3); one that was normalised is stretched to its range."""
    values = image.detach().cpu().float().movedim(0, -1).numpy()
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    scaled = ((values - low) / (high - low) * 255 + 0.5).astype(np.uint8)
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3))
