"""The contract of divergences, as a check for this package's and for yours."""

import copy
import pickle
from functools import partial
from typing import get_args

import torch

from saliency_losses.divergences.base import Divergence, Reads
from saliency_losses.testing.cells import check_sizes, check_unknown
from saliency_losses.testing.derivatives import check_derivatives
from saliency_losses.testing.independence import check_memory, check_rows
from saliency_losses.testing.probes import Probe, draw, probe_size, special
from saliency_losses.testing.requirement import require
from saliency_losses.testing.transforms import check_transforms

__all__ = ["check_divergence"]


def check_divergence(divergence: Divergence) -> None:
    """Check that a divergence keeps the contract.

    One finite value per pair of maps, in at least float32 whatever the input and the autocast mode; first and second
    derivatives that agree with finite differences; flat, empty, one-hot and extreme maps; human maps of the declared
    kind, at another size too; maps that do not depend on each other unless declared; maps and cells that are unknown
    change nothing; the same value for maps in any memory layout, which stay as they are; transforms of ``torch.func``.
    Where it declares to hold statistics of the model's map fixed, such as under ``MinMax(detach=True)``, derivatives
    are only checked to be finite.

    Args:
        divergence: To check, of a class that pickles: one at the top level of a module.

    Raises:
        TypeError: It is no divergence.
        AssertionError: A part of the contract is broken; the message names it.

    Example:
        >>> from saliency_losses.divergences import KL
        >>> check_divergence(KL(direction="model_human"))
    """
    if not isinstance(divergence, Divergence):
        raise TypeError(f"check_divergence expects an instance of a subclass of Divergence, got {divergence!r}.")
    with torch.random.fork_rng():
        torch.manual_seed(1)  # not that of the directions in check_gradients: a map must not be one of them
        size = probe_size(divergence)
        probe = draw(divergence, size)
        _declarations(divergence)
        _values(divergence, probe)
        _precision(divergence, probe)
        if not divergence.holds_statistics:
            check_derivatives(divergence, probe, size)
        _special_maps(divergence, probe)
        check_rows(divergence, probe)
        check_memory(divergence, probe)
        if probe.human is not None:
            check_sizes(divergence, probe.model, size)
            check_unknown(divergence, probe.model, probe.human)
        if not divergence.holds_statistics:
            check_transforms(divergence, *probe)
        for again in (pickle.loads(pickle.dumps(divergence)), copy.deepcopy(divergence)):
            require(repr(again) == repr(divergence), "must survive pickling and copying")
            require(torch.equal(again(*probe), divergence(*probe)), "must give the same values when pickled or copied")


def _declarations(divergence: Divergence) -> None:
    low, high = divergence.human_range
    require(divergence.reads in get_args(Reads), f"must read one of {get_args(Reads)}, declares {divergence.reads!r}")
    require(divergence.scope in ("sample", "batch"), f"scope must be 'sample' or 'batch', got {divergence.scope!r}")
    require(low < high, f"must accept some human map, but its range is from {low:g} to {high:g}")


def _values(divergence: Divergence, probe: Probe) -> None:
    state = torch.get_rng_state()
    copied = probe.each(torch.clone)
    value = divergence(*copied)
    require(copied.equals(probe), "must not write into its inputs")
    require(value.shape == (5,), f"must return one value per map, got {tuple(value.shape)} for 5 maps")
    require(value.dtype == torch.float64, f"must compute float64 maps in float64, got {value.dtype}")
    require(bool(value.isfinite().all()), "must be finite")
    require(torch.equal(divergence(*probe), value), "must be deterministic")
    require(torch.equal(torch.get_rng_state(), state), "must draw no random numbers")
    if probe.human is None:
        require(torch.equal(divergence(probe.model, probe.model.abs()), value), "a prior must not read the human map")
        return
    if any(part.reads != "nothing" for _, part in divergence.terms()):
        try:
            divergence(probe.model)
        except ValueError:
            other = divergence(probe.model, probe.human.roll(1, -1))
            require(not torch.equal(other, value), "must depend on the human map, or declare reads = 'nothing'")
        else:
            raise AssertionError("The contract is broken: must ask for a human map, or declare reads = 'nothing'.")


def _precision(divergence: Divergence, probe: Probe) -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        low = probe.each(partial(torch.Tensor.to, dtype=dtype))
        low.model.requires_grad_()
        value = divergence(*low)
        require(value.dtype == torch.float32, f"must compute {dtype} maps in float32, got {value.dtype}")
        with torch.no_grad():
            same = divergence(*low.each(torch.Tensor.double))
            quiet = divergence(*low)
        require(torch.allclose(value.double(), same, rtol=1e-4, atol=1e-5), f"must be accurate for {dtype} maps")
        require(value.requires_grad and not quiet.requires_grad, "must follow grad mode")
        require(torch.allclose(quiet, value), "must give the same value under no_grad")
        (grad,) = torch.autograd.grad(value.sum(), low.model)
        held = grad.dtype == dtype and bool(grad.isfinite().all())
        require(held, f"must give {dtype} maps a finite gradient in {dtype}")
    low = probe.each(torch.Tensor.float)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = divergence(*low)
    require(torch.equal(mixed, divergence(*low)) and mixed.dtype == torch.float32, "must not follow autocast")


def _special_maps(divergence: Divergence, probe: Probe) -> None:
    low, high = divergence.human_range
    humans = [("no", None)] if probe.human is None else list(special(probe.human, low=low, high=high))
    for name, maps in special(probe.model, low=float("-inf"), high=float("inf")):
        for other, human in humans:
            count = min(len(maps), len(maps if human is None else human))
            leaf = maps[:count].clone().requires_grad_()
            value = divergence(leaf, None if human is None else human[:count])
            (grad,) = torch.autograd.grad(value.sum(), leaf)
            finite = bool(value.isfinite().all() and grad.isfinite().all())
            require(finite, f"must be finite for {name} model maps and {other} human maps")
