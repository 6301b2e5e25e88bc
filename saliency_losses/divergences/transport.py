"""Entropic optimal transport between distributions on one grid, by Sinkhorn's iterations.

The cost of moving mass is a sum over axes, so that the sum over all pairs of positions is one over each axis after the
other, and no matrix of all pairs is held.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["GridCost", "grid_cost", "self_potential", "softmin", "transport_potentials"]

_CHECKED = 20  # iterations between two looks at the error
_REPRESENTABLE = 600.0  # exp(-600) is a normal float64, and so is a sum of what it is multiplied with


class GridCost(NamedTuple):
    """The cost of moving mass between the positions of a grid.

    Attributes:
        axes: The cost along each axis, (n, n).
        largest: From corner to corner.
    """

    axes: Sequence[Tensor]
    largest: float


def grid_cost(size: Sequence[int], p: float, device: torch.device) -> GridCost:
    r""":math:`\sum_{axes} |x_i - x_j|^p / p` between the positions of a grid whose sides have length 1.

    Example:
        >>> grid_cost((2,), 2.0, torch.device("cpu"))
        GridCost(axes=[tensor([[0.0000, 0.1250],
                [0.1250, 0.0000]], dtype=torch.float64)], largest=0.125)
    """
    places = [(torch.arange(side, dtype=torch.float64, device=device) + 0.5) / side for side in size]
    axes = [(x[:, None] - x[None]).abs().pow(p) / p for x in places]
    return GridCost(axes, sum(((side - 1) / side) ** p / p for side in size))


def softmin(logs: Tensor, cost: GridCost, epsilon: float) -> Tensor:
    r""":math:`-\epsilon \log \sum_j \exp(l_j - C_{ij} / \epsilon)` for each position i of maps ``logs``, (B, \*s).

    Where no share of the largest mass can vanish on its way, sums are products with the exponentials of the costs.
    """
    if cost.largest / epsilon > _REPRESENTABLE:
        for axis, along in enumerate(cost.axes, start=1):
            lines = logs.movedim(axis, -1).unsqueeze(-2) - along / epsilon
            logs = lines.logsumexp(-1).movedim(-1, axis)
        return -epsilon * logs
    top = logs.amax(tuple(range(1, logs.ndim)), keepdim=True)
    masses = (logs - top).exp()
    for axis, along in enumerate(cost.axes, start=1):
        masses = (masses.movedim(axis, -1) @ (-along / epsilon).exp()).movedim(-1, axis)
    return -epsilon * (masses.log() + top)


def transport_potentials(
    source: Tensor, target: Tensor, cost: GridCost, epsilon: float, *, tolerance: float, iterations: int
) -> tuple[Tensor, Tensor]:
    r"""The dual potentials f and g of the transport from ``source`` to ``target``, distributions (B, \*s) in float64.

    Sinkhorn's iterations from a blurred problem to the one asked for, each map over-relaxed as its own convergence
    allows, until the mass that arrives elsewhere is below ``tolerance``. A map's result depends on no other map.

    Reference:
        Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, NeurIPS 2013; Thibault, Chizat, Dossal
        and Papadakis, Overrelaxed Sinkhorn-Knopp Algorithm for Regularized Optimal Transport, Algorithms 2021.
    """
    log_source, log_target = source.log(), target.log()
    f, g = torch.zeros_like(source), torch.zeros_like(target)
    for temperature in _annealed(cost, epsilon):
        f = softmin(log_target + g / temperature, cost, temperature)
        g = softmin(log_source + f / temperature, cost, temperature)
    relaxation = source.new_ones(len(source))
    before = torch.full_like(relaxation, math.inf)
    for iteration in range(iterations + 1):
        new = softmin(log_target + g / epsilon, cost, epsilon)
        error = ((log_source + (f - new) / epsilon).exp() - source).abs().flatten(1).sum(1)
        running = error > tolerance
        if iteration == iterations or (iteration % _CHECKED == 0 and not bool(running.any())):
            break
        if iteration % _CHECKED == 0:
            relaxation = _relaxation(relaxation, (error / before).pow(1.0 / _CHECKED))
            before = error
        step = torch.where(running, relaxation, 0.0).view(-1, *[1] * (source.ndim - 1))
        f = f + step * (new - f)
        g = g + step * (softmin(log_source + f / epsilon, cost, epsilon) - g)
    if bool(running.any()):
        warnings.warn(
            f"Optimal transport is not exact for {int(running.sum())} map(s) after {iterations} iterations: up to "
            f"{float(error.amax()):.1g} of the mass arrives elsewhere. Use a larger blur, or more iterations.",
            UserWarning,
            stacklevel=2,
        )
    f = softmin(log_target + g / epsilon, cost, epsilon)
    return f, softmin(log_source + f / epsilon, cost, epsilon)


def self_potential(source: Tensor, cost: GridCost, epsilon: float, *, tolerance: float) -> Tensor:
    r"""The dual potential of the transport from ``source`` to itself, (B, \*s); each iteration halves the error."""
    logs, f = source.log(), torch.zeros_like(source)
    halvings = math.ceil(math.log2(1e3 / tolerance))
    for temperature in (*_annealed(cost, epsilon), *[epsilon] * halvings):
        f = 0.5 * (f + softmin(logs + f / temperature, cost, temperature))
    return f


def _annealed(cost: GridCost, epsilon: float) -> list[float]:
    """Falling temperatures from the largest cost down to the one asked for, which is left out."""
    steps = math.ceil(math.log(max(1.0, cost.largest / epsilon), 4.0))
    return [epsilon * 4.0**step for step in range(steps, 0, -1)]


def _relaxation(current: Tensor, rate: Tensor) -> Tensor:
    """The best over-relaxation of each map, from the rate at which its error fell under the current one."""
    plain = ((rate + current - 1.0).square() / (rate * current.square())).clamp(0.0, 1.0 - 1e-6)
    best = torch.where(rate > current - 1.0, 2.0 / (1.0 + (1.0 - plain).sqrt()), current)
    return torch.where(rate < 1.0, best, 1.0)
