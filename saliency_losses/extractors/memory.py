"""What was seen of models, kept as long as they live."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.extractors.anatomy import Anatomy
from saliency_losses.extractors.modules import unwrap

__all__ = ["input_sizes", "remember", "remembered"]

# By model and mode, since a model may take another way in training than in evaluation; where tokens are read as maps
# also by the size of the inputs.
_KNOWN: "WeakKeyDictionary[nn.Module, dict[tuple[bool, Any], Anatomy]]" = WeakKeyDictionary()
_MOST_SIZES = 32


def remember(model: nn.Module, inputs: Any, anatomy: Anatomy) -> Anatomy:
    """The anatomy, with the heads that earlier calls found in the same modules."""
    known = remembered(model, inputs)
    if known is not None:
        anatomy.heads.update({name: head for name, head in known.heads.items() if name not in anatomy.heads})
    by_mode = _KNOWN.setdefault(unwrap(model), {})
    by_mode[model.training, input_sizes(inputs) if anatomy.sized else None] = anatomy
    while len(by_mode) > _MOST_SIZES:
        del by_mode[next(iter(by_mode))]
    return anatomy


def remembered(model: nn.Module, inputs: Any) -> Anatomy | None:
    """The anatomy in the model's present mode, for inputs of this size, unless modules were replaced since."""
    by_mode = _KNOWN.get(unwrap(model), {})
    anatomy = by_mode.get((model.training, None)) or by_mode.get((model.training, input_sizes(inputs)))
    return anatomy if anatomy is not None and anatomy.fits(model) else None


def input_sizes(inputs: Any) -> tuple[tuple[int, ...], ...]:
    """Of the inputs that may hold positions to be read."""
    leaves = (leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return tuple(tuple(leaf.shape[1:]) for leaf in leaves if leaf.ndim > 2)
