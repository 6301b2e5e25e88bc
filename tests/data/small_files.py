"""Small files for the tests of datasets."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path, size=(6, 4), mode="RGB", seed=0):
    """A picture of random pixels, (width, height) as Pillow has it; its pixels."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": 3, "RGBA": 4, "LA": 2, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    Image.fromarray(pixels if channels > 1 else pixels[..., 0]).save(path)
    return pixels


def grey(path, pixels):
    """A grey picture of these pixels."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


def write(path, text):
    """A file of text, as written; its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
