"""Random orders that are functions of a key, on any machine and beside any other random state."""

import hashlib

import torch

__all__ = ["permutation"]


def permutation(count: int, *key: int | str) -> list[int]:
    """The numbers below ``count`` in a random order; another one for every key.

    Example:
        >>> permutation(5, 0, "epoch", 1) == permutation(5, 0, "epoch", 1), sorted(permutation(3, 7))
        (True, [0, 1, 2])
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order
