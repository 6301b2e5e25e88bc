"""Walking the graph behind a tensor."""

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node

__all__ = ["leaves_behind", "nodes_behind"]


def nodes_behind(start: Node | None, stop: Node | None = None) -> Iterator[Node]:
    """The nodes of the graph behind ``start``, it included, not going past ``stop``."""
    todo = [start]
    seen: set[Node | None] = {None, stop}
    while todo:
        node = todo.pop()
        if node in seen or node is None:
            continue
        seen.add(node)
        yield node
        todo.extend(following for following, _ in node.next_functions)


def leaves_behind(tensor: Tensor) -> Iterator[Tensor]:
    """The leaves that the tensor depends on.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> [leaf is x for leaf in leaves_behind(x.exp().sum())]
        [True]
    """
    leaves = (getattr(node, "variable", None) for node in nodes_behind(tensor.grad_fn))
    return (leaf for leaf in leaves if leaf is not None)
