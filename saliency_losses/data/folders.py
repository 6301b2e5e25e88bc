"""Datasets in folders: a folder of images for each class, and their maps in folders of the same names."""

import os
from collections.abc import Sequence
from typing import Any

from saliency_losses.data.dataset import SaliencyDataset
from saliency_losses.data.errors import DataError
from saliency_losses.data.files import File, check_folder
from saliency_losses.data.labels import read_classes
from saliency_losses.data.matching import MapFolder, check_shared, list_files
from saliency_losses.data.rows import Row
from saliency_losses.data.sources import MapFiles

__all__ = ["from_folders"]

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")


def from_folders(
    images: str | os.PathLike[str],
    maps: str | os.PathLike[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    suffixes: Sequence[str] = _SUFFIXES,
    **options: Any,
) -> SaliencyDataset:
    """A dataset of a folder with a folder of images for each class.

    The map of ``images/real/a.jpg`` is ``maps/real/a.jpg``, or ``maps/real/a`` with any other suffix; an image without
    one is not annotated.

    Args:
        images: The folder of the classes' folders.
        maps: The folder of maps; no map at all by default.
        classes: The names of the classes' folders in the order of their integers; all, sorted, by default.
        suffixes: What images end in, in small letters; other files are left out.
        **options: Of :class:`~saliency_losses.data.SaliencyDataset`.

    Raises:
        DataError: A folder that does not fit; the message names it.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("images/real/a.jpg", "images/fake/b.jpg", "maps/fake/b.png"):
        ...         file = pathlib.Path(folder, name)
        ...         file.parent.mkdir(parents=True, exist_ok=True)
        ...         file.touch()
        ...     dataset = from_folders(f"{folder}/images", f"{folder}/maps")
        >>> dataset.classes, dataset.targets, dataset.annotated
        (('fake', 'real'), tensor([0, 1]), tensor([ True, False]))
    """
    base = check_folder(images, "images")
    names = [name for name in list_files(base) if name.lower().endswith(tuple(suffixes))]
    loose = [name for name in names if os.sep not in name]
    if loose:
        raise DataError(f"{base!r}: {loose[0]!r} lies in no class's folder; expected {base!r}/CLASS/{loose[0]}.")
    if not names:
        raise DataError(f"images {base!r} holds no file that ends in one of {', '.join(suffixes)}; see suffixes=.")
    labels = read_classes([], classes or sorted({name.split(os.sep)[0] for name in names}))
    folder = None if maps is None else MapFolder.open(maps)
    if folder is not None and os.path.commonpath([folder.folder, base]) == base:
        raise DataError(
            f"maps {folder.folder!r} lies in the folder of images {base!r}, so that maps would be images, too. Put it "
            "beside that folder."
        )
    found = [None if folder is None else folder.find(name, _where(base, name)) for name in names]
    if folder is not None:
        folder.check_any(found, names)
    rows = [
        _row(name, file, base, labels.index(name.split(os.sep)[0], base))
        for name, file in zip(names, found, strict=True)
    ]
    check_shared(rows, "Rename one of the images.")
    return SaliencyDataset(rows, classes=labels.classes, **options)


def _row(name: str, file: File | None, base: str, target: int) -> Row:
    where = _where(base, name)
    source = None if file is None else MapFiles(where, "mean", (file,))
    return Row(File(os.path.join(base, name), base, where), target, (source,), where)


def _where(base: str, name: str) -> str:
    """How messages name an image."""
    return os.path.join(os.path.basename(base), name)
