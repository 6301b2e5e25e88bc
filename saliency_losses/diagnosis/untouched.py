"""Looking at a model without leaving a trace."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["random_state", "untouched"]


@contextmanager
def untouched(module: nn.Module, *loaders: Any) -> Iterator[None]:
    """Whatever happens inside the block, the module is afterwards what it was, also where the block raises.

    Buffers are copies inside the block, so that even graphs that hold the originals stay valid. Modes and plain
    attributes are set back; so is random state, see :func:`random_state`. Parameters and their ``grad`` are not
    protected: the block must use ``torch.autograd.grad``.

    Args:
        module: With everything below it.
        loaders: Whose generators are set back too.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with untouched(norm):
        ...     _ = norm(torch.rand(8, 2))
        >>> int(norm.num_batches_tracked)
        0
    """
    before = [(part, dict(vars(part)), dict(part._buffers)) for part in module.modules()]
    copies: dict[int, Tensor] = {}
    with random_state(*loaders):
        try:
            with torch.inference_mode(False), torch.no_grad():
                for part, _, buffers in before:
                    for name, buffer in buffers.items():
                        if buffer is not None:
                            part._buffers[name] = copies.setdefault(id(buffer), buffer.clone())
            yield
        finally:
            for part, attributes, buffers in before:
                vars(part).clear()
                vars(part).update(attributes)
                part._buffers.clear()
                part._buffers.update(buffers)


@contextmanager
def random_state(*loaders: Any) -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had been drawn in the block.

    Those of Python, of NumPy if it is loaded, of PyTorch on the CPU and on CUDA devices, and those of the loaders' own
    generators.
    """
    cuda: Any = torch.cuda
    devices = range(cuda.device_count()) if cuda.is_initialized() else ()
    found = (getattr(owner, "generator", None) for loader in loaders for owner in (loader, _sampler(loader)))
    generators = {id(one): one for one in found if isinstance(one, torch.Generator)}.values()
    states = [(generator, generator.get_state()) for generator in generators]
    python, numpy = random.getstate(), sys.modules.get("numpy")
    drawn = numpy.random.get_state() if numpy is not None else None
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            if numpy is not None:
                numpy.random.set_state(drawn)
            for generator, state in states:
                generator.set_state(state)


def _sampler(loader: Any) -> Any:
    return getattr(loader, "sampler", None)
