"""Fixations that belong to no cluster."""

from typing import Any

import torch
from torch import Tensor

from saliency_losses.maps.points import PerSample, check_weights, read_points

__all__ = ["denoise_fixations"]


def denoise_fixations(
    fixations: PerSample,
    weights: PerSample | None = None,
    *,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    distance: float | None = None,
) -> Any:
    r"""Weights that leave stray fixations out: zero for those that HDBSCAN finds in no cluster of their sample.

    Where it finds no cluster at all, or a sample has fewer fixations than a cluster needs, nothing says which are
    stray, and all are kept. Runs on the CPU, once per sample.

    Args:
        fixations: As for :func:`fixations_to_map`.
        weights: Durations, in the form of the fixations; one each by default. Fixations of weight zero take no part.
        min_cluster_size: How many fixations make a cluster.
        min_samples: How many neighbours a fixation's density is judged by; ``min_cluster_size`` by default.
        distance: Cut the hierarchy of clusters at this distance in pixels, a degree of visual angle for instance. By
            default clusters are chosen by their stability, and a sample's only cluster is not found.

    Returns:
        The weights of :func:`fixations_to_map`, in the form of the fixations: (N,), (B, N), or a list of (N_i,).

    Raises:
        ValueError: A shape or option that does not fit; the message names the sample.
        ModuleNotFoundError: scikit-learn is not installed.

    Example:
        >>> gazed = torch.tensor([[20, 20], [21, 20], [20, 21], [21, 22], [22, 21], [80, 5]])
        >>> denoise_fixations(gazed, distance=10.0)
        tensor([1., 1., 1., 1., 1., 0.])

    Reference:
        Campello, Moulavi and Sander, Density-Based Clustering Based on Hierarchical Density Estimates, PAKDD 2013;
        of eye tracking: Dowling, Piland et al., VISER: Visually-Informed System for Enhanced Robustness in Open-Set
        Iris Presentation Attack Detection, arXiv:2603.17859, 2026.
    """
    if min_cluster_size < 2:
        raise ValueError(f"min_cluster_size must be at least 2, got {min_cluster_size}.")
    if distance is not None and not distance > 0:
        raise ValueError(f"distance must be positive, in pixels, got {distance}.")
    try:
        from sklearn.cluster import HDBSCAN
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "denoise_fixations needs scikit-learn: pip install 'saliency-losses[examples]'."
        ) from error
    points = read_points(fixations, weights)
    check_weights(points.weight)
    kept = torch.zeros_like(points.weight)
    positions = torch.stack([points.x, points.y], dim=2)
    for index, (xy, weight) in enumerate(zip(positions.cpu(), points.weight.cpu(), strict=True)):
        used = weight > 0
        found = xy[used].double().numpy()
        keep = used.clone()
        if len(found) >= max(min_cluster_size, min_samples or 0):
            clusters = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, copy=True).fit(found)
            labels = clusters.labels_ if distance is None else clusters.dbscan_clustering(distance, min_cluster_size)
            if (labels >= 0).any():
                keep[used] = torch.from_numpy(labels >= 0)
        kept[index] = torch.where(keep, weight, 0.0).to(kept)
    if points.single:
        return kept[0]
    return (
        kept if isinstance(fixations, Tensor) else [row[: len(one)] for row, one in zip(kept, fixations, strict=True)]
    )
