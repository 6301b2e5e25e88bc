"""Which tokens of attention are patches, and of which grid: told by following them from the image on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from saliency_losses.extractors.attention_watch import Attention
from saliency_losses.extractors.axes import BATCH, Axis, Digit, layout_of, other
from saliency_losses.extractors.layout import Tokens
from saliency_losses.extractors.memory import sizes_of
from saliency_losses.extractors.modules import unwrap
from saliency_losses.extractors.tokens import TokenWatch

__all__ = ["TokenPlaces", "finding_tokens"]

_Key = tuple[bool, tuple[int, ...] | None, Any]

# How many tokens there are and which are patches, by model, mode, the caller's grid and the size of the inputs.
_KNOWN: "WeakKeyDictionary[nn.Module, dict[_Key, tuple[int, Tokens]]]" = WeakKeyDictionary()
_MOST_SIZES = 32


class TokenPlaces:
    """Where the tokens of one forward pass are.

    Args:
        known: By model; filled in.
        key: Of this pass.
        grid: The caller's word for it.
    """

    def __init__(self, known: dict[_Key, tuple[int, Tokens]], key: _Key, grid: tuple[int, ...] | None) -> None:
        self.watch = None if key in known else TokenWatch()
        self._known = known
        self._key = key
        self._grid = grid

    def of(self, layers: Sequence[Attention]) -> Tokens:
        """Which tokens are patches, the same ones in every layer.

        Raises:
            ValueError: They cannot be told, are not the same in all layers, or as queries not what they are as keys.
        """
        count = layers[0].used.shape[-1]
        if self.watch is None:
            before, tokens = self._known[self._key]
            if before != count:
                del self._known[self._key]
                raise ValueError(
                    f"{before} tokens became {count} for inputs of the same size: tokens that were dropped or merged "
                    "have no place in the image. Train without that, or use extractor='grad_cam'."
                )
            return tokens
        views = [_views(self.watch, layer.used) for layer in layers]
        tokens = _followed(views, count) if self._grid is None else _told(views, count, self._grid)
        self._known[self._key] = count, tokens
        while len(self._known) > _MOST_SIZES:
            del self._known[next(iter(self._known))]
        return tokens


@contextmanager
def finding_tokens(model: nn.Module, inputs: Any, grid: tuple[int, ...] | None) -> Iterator[TokenPlaces]:
    """Follow the tokens of the call of ``model`` inside the block, if none with inputs of this size was followed yet.

    Args:
        model: In whatever wrappers.
        inputs: What it will be called with.
        grid: The caller's word for the positions of the patches, which then are the last tokens.
    """
    places = TokenPlaces(_KNOWN.setdefault(unwrap(model), {}), (model.training, grid, sizes_of(inputs)), grid)
    if places.watch is None:
        yield places
        return
    with places.watch as watch:
        watch.start(inputs)
        try:
            yield places
        except BaseException:
            watch.forget()
            raise


def _views(watch: TokenWatch, used: Tensor) -> tuple[Tokens | None, Tokens | None]:
    """What queries and keys are, where that is known."""
    axes = watch.axes_of(used)
    return (None, None) if axes is None else (_patches(axes[-2]), _patches(axes[-1]))


def _patches(axis: Axis) -> Tokens | None:
    """The patches on an axis of tokens; ``None`` if they could not be followed."""
    layout = layout_of(((Digit(BATCH, 1),), axis, other(1)))
    if layout is None:
        return None
    return layout.tokens or Tokens((prod(atom.size for atom in axis),), 0)


def _followed(views: list[tuple[Tokens | None, Tokens | None]], count: int) -> Tokens:
    tokens = views[0][1]
    why = next((why for number, view in enumerate(views) if (why := _why_not(number, *view, tokens))), None)
    if tokens is None or why is not None:
        raise ValueError(
            f"Nothing tells where {count} tokens are in the image: {why}. If the patches are the last tokens of every "
            "layer, all there and row by row, say so: grid=(height, width), in patches. Otherwise use "
            "extractor='grad_cam'."
        )
    return tokens


def _why_not(number: int, queries: Tokens | None, keys: Tokens | None, expected: Tokens | None) -> str | None:
    """Why the tokens of a layer are not those that are expected, in words."""
    where = f"in the attention of layer {number}"
    if keys is None:
        return f"{where} they could not be followed back to patches (another order, dropped or merged patches)"
    if queries != keys:
        return f"{where} the queries are other tokens than the keys (cross-attention, learned queries)"
    return None if keys == expected else f"{where} they are in another order than before"


def _told(views: list[tuple[Tokens | None, Tokens | None]], count: int, grid: tuple[int, ...]) -> Tokens:
    for number, (queries, keys) in enumerate(views):
        if queries is not None and keys is not None and queries != keys:
            raise ValueError(
                f"In the attention of layer {number} the queries are other tokens than the keys (cross-attention), "
                "which does not compose to a map; use extractor='grad_cam'."
            )
    start = count - prod(grid)
    if start < 0:
        raise ValueError(
            f"{count} tokens are not {prod(grid)} patches {grid} behind others (class, registers): grid= is the number "
            "of patches along each axis, all of which must be there."
        )
    return Tokens(grid, start)
