r"""Images with human maps: datasets, batches and samplers that feed a guided loss.

A dataset is made from what there is: a table (:func:`from_csv`), the collection of CYBORG (:func:`from_und`), folders
(:func:`from_folders`), fixations (:func:`from_fixations`) or COCO's annotations (:func:`from_coco`). Its samples are
dicts of ``image``, ``target``, ``human_saliency`` and ``annotated``; :func:`collate` makes of them what
``guided(**batch)`` takes. Needs Pillow: ``pip install "saliency-losses[data]"``.

:class:`JointTransform` moves images and maps together by torchvision's transforms, :class:`KorniaJoint` by kornia's, on
whole batches; :class:`SaliencyMap` is a map that torchvision's transforms know.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from saliency_losses.data.coco import from_coco
from saliency_losses.data.collating import collate
from saliency_losses.data.dataset import SaliencyDataset, Verified
from saliency_losses.data.errors import DataError
from saliency_losses.data.files import File
from saliency_losses.data.fixations import from_fixations
from saliency_losses.data.folders import from_folders
from saliency_losses.data.rows import Row
from saliency_losses.data.sampling import AnnotatedBatchSampler
from saliency_losses.data.sources import MapFiles, MapSource
from saliency_losses.data.tabular import from_csv
from saliency_losses.data.und import from_und

if TYPE_CHECKING:
    from saliency_losses.data.joint import JointTransform
    from saliency_losses.data.kornia_joint import KorniaJoint
    from saliency_losses.data.saliency_map import SaliencyMap

__all__ = [
    "AnnotatedBatchSampler",
    "DataError",
    "File",
    "JointTransform",
    "KorniaJoint",
    "MapFiles",
    "MapSource",
    "Row",
    "SaliencyDataset",
    "SaliencyMap",
    "Verified",
    "collate",
    "from_coco",
    "from_csv",
    "from_fixations",
    "from_folders",
    "from_und",
]

_LATER = {"JointTransform": "joint", "KorniaJoint": "kornia_joint", "SaliencyMap": "saliency_map"}


def __getattr__(name: str) -> Any:
    """Imports torchvision and kornia where they are asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
