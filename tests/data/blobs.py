"""A smooth blob in a dark image and the same blob in its map, and whether both are in the same place."""

import torch


def blob(height, width, y, x, sigma=3.0):
    """A Gaussian of height one around (y, x)."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))


def centroid(picture):
    """Where the bright part of a picture is, (y, x)."""
    weights = (picture - 0.1 * picture.max()).clamp(min=0).double()
    weights = weights / weights.sum()
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in picture.shape)
    return torch.stack([(weights.sum(1) * rows).sum(), (weights.sum(0) * columns).sum()])


def distance(image, human):
    """How many pixels the blob of an image, (C, H, W), is from that of its map, (H, W); 0 where both left the frame."""
    assert image.shape[-2:] == human.shape[-2:]
    assert float(human.min()) >= 0
    assert float(human.max()) <= 1
    picture = image.amax(0)
    if human.max() < 0.3:
        return 0.0 if picture.max() < 0.4 else float("inf")
    return float((centroid(picture) - centroid(human)).norm())
