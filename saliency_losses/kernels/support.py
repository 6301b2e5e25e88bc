"""Why a kernel cannot evaluate a divergence; importable without Triton."""

import importlib.util
import os
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import takewhile

import torch
from torch import Tensor

from saliency_losses.divergences.base import Divergence
from saliency_losses.kernels.plan import plan_of

__all__ = ["LONGEST_SHORT_ROW", "slow_reasons", "unsupported_reasons"]

LONGEST_SHORT_ROW = 4096
_OLDEST = (3, 6)
_MOST_CELLS = 2**28
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _triton() -> str | None:
    """The version of the installed Triton, which some builds distribute under another name."""
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        return version("triton")
    except PackageNotFoundError:
        return version(packages_distributions()["triton"][0])


_TRITON = _triton()


def unsupported_reasons(
    divergence: Divergence, weights: Tensor, model: Tensor, human: Tensor | None, known: Tensor | None
) -> list[str]:
    r"""Every reason why no kernel evaluates this divergence on these maps; none if one does.

    Args:
        divergence: One, not a sum.
        weights: Of the rows, (P, B).
        model: The model's maps, (B, \*s).
        human: The human maps, (B, \*S).
        known: Weight of their pixels.

    Example:
        >>> from saliency_losses.divergences import SSIM
        >>> unsupported_reasons(SSIM(), torch.ones(1, 1), torch.ones(1, 8, 8), torch.ones(1, 8, 8), None)[0]
        'there is no kernel for SSIM'
    """
    reasons = [*plan_of(divergence)[1], *_of_installation(), *_of_device(model)]
    maps = [model] if human is None else [model, human]
    if known is not None:
        reasons.append("there is no kernel for partly known human maps")
    reasons += [f"there is no kernel for maps of {tensor.dtype}" for tensor in maps if tensor.dtype not in _DTYPES]
    if human is not None and human.requires_grad:
        reasons.append("the kernel gives no gradient of the human map, which requires one")
    if weights.requires_grad:
        reasons.append("the kernel gives no gradient of the weights of the maps, which require one")
    if torch.autograd.forward_ad._current_level >= 0:
        reasons.append("the kernel has no forward-mode derivative")
    if torch._C._are_functorch_transforms_active():
        reasons.append("the kernel has no rule for transforms of torch.func")
    if any(type(tensor) not in (Tensor, torch.nn.Parameter) for tensor in maps) and not torch.compiler.is_compiling():
        reasons.append("the kernel does not know subclasses of Tensor")
    if max(tensor[0].numel() for tensor in maps) > _MOST_CELLS:
        reasons.append(f"a map has more cells than the kernel counts, {_MOST_CELLS}")
    return reasons


def slow_reasons(model: Tensor) -> list[str]:
    r"""Why PyTorch is faster where a kernel would do, so that ``"auto"`` takes it.

    Args:
        model: The model's maps, (B, \*s).

    Example:
        >>> slow_reasons(torch.ones(1, 7, 7))
        ['on the CPU Triton only interprets kernels']
    """
    return ["on the CPU Triton only interprets kernels"] if model.device.type == "cpu" else []


def _of_device(model: Tensor) -> list[str]:
    if model.device.type == "cuda":
        if torch.version.hip:
            return ["the kernel is for NVIDIA GPUs"]
        if torch.compiler.is_compiling():
            return []
        capability = torch.cuda.get_device_capability(model.device)
        return [] if capability >= (8, 0) else [f"the kernel needs compute capability 8.0, this GPU has {capability}"]
    if model.device.type == "cpu" and _interprets():
        return []
    return [f"the kernel runs on CUDA devices (and in Triton's interpreter on the CPU), the maps are on {model.device}"]


def _interprets() -> bool:
    """Whether Triton was asked to interpret kernels on the CPU, which is for tests of the kernels."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "on", "true", "y", "yes")


def _of_installation() -> list[str]:
    if _TRITON is None:
        return ["Triton is not installed (it comes with PyTorch for CUDA on Linux)"]
    if tuple(int(number) for number in takewhile(str.isdecimal, _TRITON.split(".")[:2])) < _OLDEST:
        return [f"the kernel needs Triton {'.'.join(map(str, _OLDEST))} or newer, found {_TRITON}"]
    return []
