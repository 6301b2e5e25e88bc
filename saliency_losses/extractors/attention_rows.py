"""Which token's view of the others a map of attention is."""

from typing import Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saliency_losses.extractors.attention import Attended
from saliency_losses.extractors.modules import unwrap

__all__ = ["Query", "check_query", "first_row"]

Query = Literal["class", "mean"]

# Whether the class token is what a model reads, by model: evidence is taken once.
_READS_CLASS: "WeakKeyDictionary[nn.Module, bool]" = WeakKeyDictionary()


def first_row(query: Query | None, attended: Attended, total: Tensor, model: nn.Module) -> Tensor:
    """The tokens that a map is read from, as weights (N,): the class token's one, or equal ones on the patches.

    Args:
        query: Which; by default the class token where the number depends on it behind the last attention.
        attended: The forward pass.
        total: A number made of the output.
        model: For whom to remember which.

    Raises:
        ValueError: The class token is asked for and there is none.
    """
    used, prefix = attended.layers[-1].used, attended.prefix
    if query == "class" and not prefix:
        raise ValueError("query='class' needs a class token before the patches, but all tokens are patches: 'mean'.")
    read = _reads_class(model, total, used)
    if query is None:
        query = "class" if prefix and read else "mean"
    row = used.new_zeros(used.shape[-1])
    if query == "class":
        row[0] = 1.0
    else:
        row[prefix:] = 1.0 / (len(row) - prefix)
    return row


def check_query(query: Query | None) -> Query | None:
    """``query`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if query is not None and query not in get_args(Query):
        raise ValueError(f"query must be 'class', 'mean' or None, got {query!r}.")
    return query


def _reads_class(model: nn.Module, total: Tensor, used: Tensor) -> bool:
    """Whether the number depends on what the class token gathers last; taken to be so where it depends on nothing."""
    bare = unwrap(model)
    if bare not in _READS_CLASS:
        grad = None
        if total.requires_grad and used.requires_grad:
            (grad,) = torch.autograd.grad(total, used, retain_graph=True, allow_unused=True)
        if grad is None or not bool(grad.any()):
            return True
        _READS_CLASS[bare] = bool(grad[..., 0, :].any())
    return _READS_CLASS[bare]
