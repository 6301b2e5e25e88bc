"""Loads weights that lie in a file into a network, all but those of a classifier of other classes."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)
_BOOKKEEPING = "num_batches_tracked"  # absent from older files, and without effect on what a network computes


def load_weights(model: nn.Module, path: str, classifier: str) -> None:
    """Loads the weights; the classifier keeps its own where the file's has another shape, which is logged.

    Args:
        model: The network, changed in place.
        path: A ``state_dict`` in a .pt, .pth or .safetensors file.
        classifier: Dotted name of the network's last linear layer.

    Raises:
        ValueError: The file is missing, cannot be read, or holds another network's weights.
    """
    own = model.state_dict()
    found = {_renamed(name): tensor for name, tensor in read_weights(Path(path)).items()}
    fitting = {name: tensor for name, tensor in found.items() if name in own and tensor.shape == own[name].shape}
    head = {name for name in own if name.startswith(f"{classifier}.")}
    missing = sorted(own.keys() - fitting.keys() - head)
    missing = [name for name in missing if not name.endswith(_BOOKKEEPING)]
    if missing:
        name = missing[0]
        what = f"{name!r} of shape {tuple(found[name].shape)}" if name in found else f"no {name!r}"
        raise ValueError(
            f"{path} does not hold weights of this {type(model).__name__}: {len(missing)} of its {len(own)} tensors do "
            f"not fit, for instance the file has {what}, expected shape {tuple(own[name].shape)}. Give a file of the "
            "same architecture."
        )
    model.load_state_dict(fitting, strict=False)
    left = sorted((found.keys() - fitting.keys()) | (head - fitting.keys()))
    if left:
        _LOG.warning("%s: not loaded, since the network has no such layer of that shape: %s", path, ", ".join(left))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name; nothing in it is executed.

    Raises:
        ValueError: The file is missing, of another kind, or cannot be read.
    """
    if not path.is_file():
        raise ValueError(
            f"there is no file of weights {path}; pretrained= takes the path of a .pt, .pth or .safetensors"
        )
    try:
        stored = _READERS[path.suffix](path)
    except KeyError:
        raise ValueError(f"{path} is no file of weights; expected one of {', '.join(_READERS)}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} cannot be read as a state_dict: {reason}") from error
    stored = stored.get("state_dict", stored) if isinstance(stored, Mapping) else stored
    if not isinstance(stored, Mapping) or not stored or not all(isinstance(v, Tensor) for v in stored.values()):
        kind = type(stored).__name__
        raise ValueError(f"{path} holds {kind}, expected a state_dict: save one by torch.save(net.state_dict(), path)")
    return dict(stored)


def _pickled(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f"{path} needs safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


_READERS = {".pt": _pickled, ".pth": _pickled, ".safetensors": _safetensors}


def _renamed(name: str) -> str:
    """The bare network's name for one of a trained study, or of older DenseNet files ("denselayer1.norm.1.weight")."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name.removeprefix("network."))
