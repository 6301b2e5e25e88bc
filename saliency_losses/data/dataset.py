"""Images with their classes and human maps, read when they are asked for."""

import copy
import operator
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from saliency_losses.data.caching import Cache
from saliency_losses.data.choosing import rows_of_split, with_fewer_maps
from saliency_losses.data.decoding import Decode
from saliency_losses.data.errors import DataError
from saliency_losses.data.reading import Reading, read_sample
from saliency_losses.data.rows import Row
from saliency_losses.data.transforming import Transform, check_transform, transformed
from saliency_losses.maps.reading import check_size

__all__ = ["SaliencyDataset", "Verified"]


class Verified(NamedTuple):
    """What became of reading every row once.

    Attributes:
        dataset: The rows that can be read.
        errors: What is wrong with the others, a message each, in their order.
    """

    dataset: "SaliencyDataset"
    errors: list[str]


class SaliencyDataset(Dataset[dict[str, Any]]):
    r"""Images, classes and human maps, decoded when they are asked for.

    A sample is a dict: ``image``, float32 (C, H, W) in [0, 1]; ``target``, an int; ``human_saliency``, float32 (H, W)
    in [0, 1], or (K, H, W); ``annotated``, a bool, or (K,). An image without a map has zeros, and says so. Rows come
    from :func:`from_csv`, :func:`from_und`, :func:`from_folders`, :func:`from_fixations` and :func:`from_coco`, or are
    made by hand. A file that cannot be read raises when it is asked for, naming itself and its row; no sample is ever
    skipped or replaced on the way. To leave such rows out, ask for it: :meth:`verified`.

    Pillow reads the first frame and turns it as EXIF says. 16-bit grey keeps its bits, palettes become their colours,
    the alpha of images is dropped, and the alpha of maps is a factor. Coloured maps are refused: their colours have no
    order. A map of another size than its image is resampled by area if the aspect ratio is the same within a pixel.

    Args:
        rows: What there is.
        classes: The names of the classes, where they have names.
        map_names: The names of the K maps of each sample, where there is an axis of them.
        size: (height, width) that all samples get, images antialiased, maps by area; that of each image by default.
        channels: 3, or 1 for grey.
        decode: From a path to a picture, array or tensor, where Pillow cannot read images (DICOM); a function at the
            top of a module, so that workers can have it.
        decode_map: Likewise for maps.
        stretch_maps: Whether a map may have another aspect ratio than its image, and is stretched over it.
        transform: From sample to sample, such as a :class:`~saliency_losses.data.JointTransform`.
        cache_bytes: How many bytes of samples are kept decoded, before the transform; in every worker process anew.

    Raises:
        ValueError: Options that do not fit.
        TypeError: The transform is torchvision's own, which leaves maps behind, or does not return a sample.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from saliency_losses.data.files import File
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Image.new("L", (6, 4), 255).save(pathlib.Path(root, "a.png"))
        ...     row = Row(File(f"{root}/a.png", root, "by hand"), target=1, maps=(None,), where="by hand")
        ...     sample = SaliencyDataset([row], size=(2, 3))[0]
        >>> sample["image"].shape, sample["target"], sample["human_saliency"].shape, sample["annotated"]
        (torch.Size([3, 2, 3]), 1, torch.Size([2, 3]), False)
    """

    def __init__(
        self,
        rows: Iterable[Row],
        *,
        classes: Sequence[str] | None = None,
        map_names: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        channels: int = 3,
        decode: Decode | None = None,
        decode_map: Decode | None = None,
        stretch_maps: bool = False,
        transform: Transform | None = None,
        cache_bytes: int = 0,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels!r}.")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must be zero or more, got {cache_bytes}.")
        if map_names is not None and not list(map_names):
            raise ValueError("map_names is empty, but names the maps of every sample; None is one map without a name.")
        self.rows = tuple(rows)
        self.classes = None if classes is None else tuple(classes)
        self.map_names = None if map_names is None else tuple(map_names)
        self.reading = Reading(None if size is None else check_size(size), channels, decode, decode_map, stretch_maps)
        self.transform = check_transform(transform)
        self._cache = Cache(cache_bytes)
        count = 1 if self.map_names is None else len(self.map_names)
        for row in self.rows:
            if len(row.maps) != count:
                raise ValueError(f"{row.where}: {len(row.maps)} maps, expected {count}, as map_names says.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = operator.index(index)
        if not -len(self.rows) <= index < len(self.rows):
            raise IndexError(f"index {index} of a dataset with {len(self.rows)} samples.")
        index = index % len(self.rows)
        sample = self._cache.get(index, lambda: self._read(self.rows[index]))
        return sample if self.transform is None else transformed(self.transform, sample)

    def __repr__(self) -> str:
        return f"SaliencyDataset({len(self)} samples, {sum(any(row.annotated) for row in self.rows)} annotated)"

    @property
    def annotated(self) -> Tensor:
        """Which samples have a map, (N,) bool, or which maps they have, (N, K); nothing is read."""
        if self.map_names is None:
            return torch.tensor([row.annotated[0] for row in self.rows], dtype=torch.bool)
        each = torch.tensor([row.annotated for row in self.rows], dtype=torch.bool)
        return each.view(len(self.rows), len(self.map_names))

    @property
    def targets(self) -> Tensor:
        """The class of each sample, (N,); nothing is read."""
        return torch.tensor([row.target for row in self.rows], dtype=torch.long)

    def subset(self, chosen: Iterable[int] | Tensor) -> "SaliencyDataset":
        """A dataset of some of the samples, with the same options.

        Args:
            chosen: Their indices, or whether each is chosen, (N,) bool, such as ``~dataset.annotated``.

        Raises:
            IndexError: There is no such sample.
            ValueError: A mask of another length.
        """
        which = torch.as_tensor(chosen if isinstance(chosen, Tensor) else list(chosen))
        if which.dtype == torch.bool:
            if tuple(which.shape) != (len(self.rows),):
                raise ValueError(f"a mask of samples must have shape ({len(self.rows)},), got {tuple(which.shape)}.")
            which = which.nonzero().flatten()
        return self._of(self.rows[int(index)] for index in which)

    def split(self, name: str) -> "SaliencyDataset":
        """A dataset of the samples of one split.

        Raises:
            DataError: No row belongs to it.
        """
        return self._of(rows_of_split(self.rows, name))

    def limit_annotations(self, fraction: float, *, seed: int = 0) -> "SaliencyDataset":
        """The same samples, of which fewer have maps: the annotation curve.

        Of each class the same share of annotated samples keeps its maps, at least one. With the same seed, what a
        smaller share keeps, a larger one keeps too.

        Args:
            fraction: The share of annotated samples that stay so, in [0, 1].
            seed: Which ones.

        Raises:
            ValueError: The share is not in [0, 1].
        """
        return self._of(with_fewer_maps(self.rows, fraction, seed))

    def verified(self, *, workers: int = 1) -> Verified:
        """Read every row once, and leave out those that cannot be read; the transform is not called.

        Args:
            workers: How many threads read.

        Example:
            >>> from saliency_losses.data.files import File
            >>> row = Row(File("/nowhere/a.png", "/nowhere", "train.csv line 2"), 0, (None,), "train.csv line 2")
            >>> dataset, errors = SaliencyDataset([row]).verified()
            >>> len(dataset), errors[0][:46]
            (0, "train.csv line 2: image '/nowhere/a.png' is mi")
        """
        with ThreadPoolExecutor(workers) as pool:
            problems = list(pool.map(self._problem, self.rows))
        good = [row for row, problem in zip(self.rows, problems, strict=True) if problem is None]
        return Verified(self._of(good), [problem for problem in problems if problem is not None])

    def _problem(self, row: Row) -> str | None:
        try:
            self._read(row)
        except DataError as error:
            return str(error)
        return None

    def _read(self, row: Row) -> dict[str, Any]:
        return read_sample(row, self.reading, several=self.map_names is not None)

    def _of(self, rows: Iterable[Row]) -> "SaliencyDataset":
        other = copy.copy(self)
        other.rows = tuple(rows)
        other._cache = Cache(self._cache.limit)
        return other
