"""An error as a finding: a stable code, what happened, what to do."""

import re
import textwrap
from typing import NamedTuple

from saliency_losses.diagnosis.facts import Finding

__all__ = ["as_finding"]


class _Kind(NamedTuple):
    """A kind of error: its code, what its text looks like, and the remedy unless the text names one itself."""

    code: str
    pattern: str
    remedy: str = ""


_KINDS = (
    _Kind("fused_attention", "fused attention|attention.* is not implemented"),
    _Kind(
        "reentrant_checkpoint",
        "reentrant checkpointing|use_reentrant=True",
        "Checkpoint with torch.utils.checkpoint.checkpoint(..., use_reentrant=False).",
    ),
    _Kind("compiled", r"is compiled|compiled module|torch\.compile|aot_autograd"),
    _Kind("sync_batchnorm", "SyncBatchNorm"),
    _Kind("recurrent", "cuDNN recurrent"),
    _Kind("static_graph", r"static_graph=True"),
    _Kind("data_parallel", r"nn\.DataParallel"),
    _Kind("unsynchronised", "nothing synchronises the gradients"),
    _Kind(
        "backward_hook",
        "BackwardHookFunction",
        "Remove register_full_backward_hook from the module that the message is about (forward hooks and "
        "tensor.register_hook do not have this limit), or make the operation behind it not in-place.",
    ),
    _Kind("frozen", "reaches no trainable parameter"),
    _Kind("no_logits", "expected logits of shape|output holds no logits"),
    _Kind("no_head", r"^CAM |^head=|several classifiers|no layer to take by default"),
    _Kind(
        "one_map_per_sample",
        "gives one map per sample|Captum gives one map",
        "Use extractor='cam' or 'grad_cam', or explain one class per sample: classes of shape (B,).",
    ),
    _Kind("layer", r"^Layer |has no layer|does not depend on|^Nothing tells where|vanishes in every channel"),
    _Kind(
        "targets",
        r"^targets |[Cc]lass indices|^Targets |[Ii]nteger targets|^Float classes|float targets",
        "Targets are class indices from 0 to the number of the model's outputs minus one, (B,), -100 to ignore one, or "
        "float probabilities (B, C); other targets need task_loss= and classes=.",
    ),
    _Kind("human_maps", "human_saliency|^annotated "),
    _Kind(
        "out_of_memory",
        "out of memory|can't allocate memory",
        "Take a smaller batch, or a map that costs less: extractor='cam', or a layer nearer to the output.",
    ),
    _Kind("cut", "map cannot be trained through"),
    _Kind(
        "no_double_backward",
        r"derivative for .* is not implemented|once_differentiable|double backward",
        "Something in the model cannot be differentiated twice. Use extractor='cam', or a layer behind it.",
    ),
    _Kind(
        "precision",
        r"not implemented for '(Half|BFloat16)'|same dtype|expected scalar type|dtypes to be equal|should be the same",
        "Bring model and images to one dtype, float32, and call under torch.autocast for mixed precision.",
    ),
    _Kind(
        "device",
        "on the same device|found at least two devices|is on .* the model's map on",
        "Move model, images, targets and human maps to one device.",
    ),
)


def as_finding(error: Exception) -> Finding:
    """The error as a finding.

    Example:
        >>> as_finding(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.")).code
        'out_of_memory'
    """
    text = " ".join(str(error).split())
    for kind in _KINDS:
        if re.search(kind.pattern, text):
            message, advice = (text, kind.remedy) if kind.remedy else _parted(text)
            return Finding("error", kind.code, _short(message), advice)
    return Finding(
        "error",
        "failed",
        _short(f"The step raised {type(error).__name__}: {text}"),
        "Call the model, then the loss, on this batch without preflight and read the traceback.",
    )


def _parted(text: str) -> tuple[str, str]:
    """What happened, and what to do: the first sentence and the others, or what stands around the last semicolon."""
    match = re.search(r"(?<=[.?!])\s+(?=[A-Z'])", text)
    if match is not None:
        return text[: match.start()], text[match.end() :]
    what, _, advice = text.rpartition("; ")
    return (f"{what}.", advice[0].upper() + advice[1:]) if what else (text, "Do as the message says.")


def _short(text: str) -> str:
    return textwrap.shorten(text, 500, placeholder=" ...")
