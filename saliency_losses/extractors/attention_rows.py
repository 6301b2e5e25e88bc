"""Which token's view of the others a map of attention is."""

from math import prod
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saliency_losses.extractors.attention import Attended
from saliency_losses.extractors.layout import Tokens
from saliency_losses.extractors.modules import unwrap

__all__ = ["Query", "check_query", "first_row"]

Query = Literal["class", "mean"]

# The class token that a model reads, counted from the end where it comes behind the patches, or that it reads none; by
# model and which tokens are patches: evidence is taken once.
_READ: "WeakKeyDictionary[nn.Module, dict[Tokens, int | None]]" = WeakKeyDictionary()


def first_row(query: Query | None, attended: Attended, total: Tensor, model: nn.Module) -> Tensor:
    """The tokens that a map is read from, as weights (N,): the class token's one, or equal ones on the patches.

    Of several tokens that are no patches (registers), the class token is the outermost one that the number depends on.

    Args:
        query: Which; by default the class token where the number depends on it behind the last attention.
        attended: The forward pass.
        total: A number made of the output.
        model: For whom to remember which.

    Raises:
        ValueError: The class token is asked for and there is none.
    """
    used, tokens = attended.layers[-1].used, attended.tokens
    count, patches = used.shape[-1], prod(tokens.grid)
    start = tokens.start or 0
    others = [*range(start), *range(start + patches - count, 0)]
    if query == "class" and not others:
        raise ValueError("query='class' needs a token that is no patch, but all tokens are patches: query='mean'.")
    row = used.new_zeros(count)
    read = _class_token(model, tokens, others, total, used) if others else None
    if query == "class" and read is None:
        read = _outermost(others)
    if query == "mean" or read is None:
        row[start : start + patches] = 1.0 / patches
    else:
        row[read] = 1.0
    return row


def check_query(query: Query | None) -> Query | None:
    """``query`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if query is not None and query not in get_args(Query):
        raise ValueError(f"query must be 'class', 'mean' or None, got {query!r}.")
    return query


def _class_token(model: nn.Module, tokens: Tokens, others: list[int], total: Tensor, used: Tensor) -> int | None:
    """The one whose view of the others the number depends on; taken to be read where it depends on nothing."""
    known = _READ.setdefault(unwrap(model), {})
    if tokens not in known:
        grad = None
        if total.requires_grad and used.requires_grad:
            (grad,) = torch.autograd.grad(total, used, retain_graph=True, allow_unused=True)
        if grad is None or not bool(grad.any()):
            return _outermost(others)
        depends = grad.movedim(-2, 0).flatten(1).any(1).tolist()
        read = [number for number in others if depends[number]]
        known[tokens] = _outermost(read) if read else None
    return known[tokens]


def _outermost(others: list[int]) -> int:
    """The first of those before the patches, else the last of those behind."""
    return others[0] if others[0] >= 0 else others[-1]
