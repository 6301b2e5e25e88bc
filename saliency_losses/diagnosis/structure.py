"""What the modules of a model tell before anything is trained: modes, precision, and what lies behind the layer."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from saliency_losses.diagnosis.facts import Finding
from saliency_losses.diagnosis.survey import Source
from saliency_losses.distributed import is_distributed
from saliency_losses.extractors.base import SaliencyExtractor
from saliency_losses.extractors.modules import unwrap
from saliency_losses.guided import SaliencyGuidedLoss

__all__ = ["behind_the_layer", "modes", "precision"]


def modes(loss: SaliencyGuidedLoss) -> Iterator[Finding]:
    """Evaluation mode, and a weight that switches guidance off."""
    if not unwrap(loss.model).training:
        yield Finding(
            "warning",
            "eval_mode",
            "The model is in eval mode: dropout is off, and BatchNorm uses its running statistics.",
            "Call guided.train() before training and before preflight.",
        )
    if not loss.weighting.needs_saliency:
        yield Finding(
            "warning",
            "no_weight",
            f"The saliency term has weight zero ({loss.weighting}), so no map is taken and nothing of it was examined.",
            "Choose alpha below 1, or saliency_weight above 0.",
        )


def precision(model: nn.Module, images: Any) -> Iterator[Finding]:
    """float16, of the model or of autocast."""
    tensors = [leaf for leaf in pytree.tree_leaves(images) if isinstance(leaf, Tensor)]
    halves = [name for name, p in model.named_parameters() if p.requires_grad and p.dtype == torch.float16]
    if halves or any(tensor.dtype == torch.float16 for tensor in tensors):
        what = f"Trainable parameters ({halves[0]}, ...)" if halves else "The images"
        yield Finding(
            "warning",
            "float16",
            f"{what} are float16, in which gradients of gradients underflow and optimizers lose small updates.",
            "Keep model and images in float32 and call the loss under torch.autocast, best with dtype=torch.bfloat16.",
        )
    kinds = {tensor.device.type for tensor in [*tensors, *model.parameters()]}
    if any(torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16 for kind in kinds):
        yield Finding(
            "warning",
            "autocast_float16",
            "Under autocast to float16 small gradients become zero, those of the saliency term first.",
            "Use torch.autocast(..., dtype=torch.bfloat16), or scale the loss with torch.amp.GradScaler.",
        )


def behind_the_layer(
    source: Source, behind: dict[str, nn.Module], extractor: SaliencyExtractor, training: bool
) -> Iterator[Finding]:
    """What lies between the layer and the score: coupled samples, hooks, SyncBatchNorm, dropout.

    Args:
        source: Where the map is taken.
        behind: The modules that are called after that, by name.
        extractor: Takes it.
        training: Whether the model is in train mode.
    """
    if source.head is not None and source.head.dropout and training:
        yield Finding(
            "note",
            "dropout_before_head",
            f"Dropout is active between the pooling and the classifier {source.head.name!r}: the map is that of all "
            "channels, the logits are those of the channels kept.",
            "Nothing, if that is meant; smaller dropout brings map and logits closer together.",
        )
    if extractor.order < 2:
        return
    norms = [name for name, module in behind.items() if _couples(module)]
    synced = [name for name in norms if isinstance(behind[name], nn.SyncBatchNorm)]
    if synced:
        yield Finding(
            "error" if is_distributed() else "warning",
            "sync_batchnorm",
            f"SyncBatchNorm {synced[0]!r} lies between {source.place} and the score; with several processes it has no "
            "double backward.",
            "Use extractor='cam', or a layer behind it.",
        )
    if norms and getattr(extractor, "batch_statistics", "coupled") == "coupled":
        constant = f"{type(extractor).__name__}(batch_statistics='constant')"
        option = f"{constant}, " if hasattr(extractor, "batch_statistics") else ""
        yield Finding(
            "warning",
            "coupled_samples",
            f"BatchNorm in train mode ({_listed(norms)}) lies between {source.place} and the score, so the map of "
            "one sample depends on the other samples of its batch.",
            f"Use {option}a layer behind them, eval mode for them, or another normalisation, such as GroupNorm.",
        )
    hooked = [name for name, module in behind.items() if module._backward_hooks or module._backward_pre_hooks]
    if hooked:
        yield Finding(
            "warning",
            "backward_hook",
            f"A backward hook is registered on {_listed(hooked)}, between {source.place} and the score: it is also "
            "called for the gradient that makes the map, and what it changes there changes the map.",
            "Remove it while training, or count on two calls for each step.",
        )


def _couples(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
