"""Whether checks may look at numbers."""

import torch
from torch import Tensor

__all__ = ["looks_at_values"]


def looks_at_values(tensor: Tensor) -> bool:
    """Whether a check may look at the tensor's numbers: on the CPU, where nobody waits for them, and never in a graph.

    Example:
        >>> looks_at_values(torch.zeros(2))
        True
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
