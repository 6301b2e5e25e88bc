"""A small folder in the layout of the UND collection of CYBORG."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48


def write_und_folder(root: Path, *, train: int = 8, held_out: int = 4, unannotated: int = 2) -> Path:
    """Tables, images, maps for all but the first ``unannotated`` training images, and masks; fakes have a bright spot.

    Returns:
        The folder that paths in tables start at.
    """
    rng = np.random.default_rng(0)

    def image(path: str, fake: bool) -> str:
        pixels = rng.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        if fake:
            pixels[20:28, 20:28] = 250
        save(root / path, pixels)
        return f"{'Synthetic' if fake else 'Real'},/{path}"

    def table(name: str, lines: list[str]) -> None:
        path = root / "csvs" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))

    def both(folder: str, count: int, prefix: str = "p") -> list[str]:
        kinds = ("0_real", "1_fake")
        return [image(f"{folder}/{kinds[i % 2]}/{prefix}{i}_{kinds[i % 2][2:]}.png", i % 2 == 1) for i in range(count)]

    validation = [f"test,{line}" for line in both("val", held_out, "v")]
    table("original", [f"train,{line}" for line in both("train/original_data", train)] + validation)
    table("large_dataset_7x", [f"train,{line}" for line in both("train/7x_data", 7 * train)] + validation)
    for source in ("ffhq", "celeba-hq"):
        lines = [f"test,{image(f'test/0_real/{source}/{i:05}.png', False)}" for i in range(held_out)]
        table(f"gan_test_sets/{source}", lines)
    for generator in ("progan", "stylegan3"):
        lines = [f"test,{image(f'test/1_fake/{generator}/{i:05}.png', True)}" for i in range(held_out)]
        table(f"gan_test_sets/{generator}", lines)

    for index in range(train):
        name = f"p{index}_{'fake' if index % 2 else 'real'}.png"
        drawn = np.zeros((SIDE, SIDE), np.uint8)
        drawn[2 * index : 2 * index + 8, 20:28] = 255
        if index >= unannotated:
            save(root / "train" / "heatmaps" / name, drawn)
        save(root / "train" / "masks" / "parts" / name, drawn.T)
        save(root / "train" / "masks" / "face" / name, np.full_like(drawn, 255))
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
