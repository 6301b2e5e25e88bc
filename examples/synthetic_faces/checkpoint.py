"""What a training leaves in its folder, written so that it can be killed at any moment and goes on from there."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

SETTINGS, CHECKPOINT, LOG, MODEL = "settings.json", "checkpoint.pt", "log.jsonl", "model.pt"


def write(path: Path, save: Callable[[BinaryIO], Any]) -> None:
    """Writes a file at once: whoever dies meanwhile leaves the old one, and a ``.part`` that the next one overwrites.

    Raises:
        OSError: It cannot be written; the message says where.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{path} cannot be written ({error}). What it held before is untouched: make room, or make the folder "
            "writable, and start the same training again; it goes on from its last epoch."
        ) from error


def save(folder: Path, state: dict[str, Any], log: list[dict[str, float]]) -> None:
    """Writes the checkpoint, then the log that goes with it."""
    write(folder / CHECKPOINT, lambda file: torch.save({**state, "log": log}, file))
    write(folder / LOG, lambda file: file.writelines(json.dumps(entry).encode() + b"\n" for entry in log))


def finish(folder: Path, model: dict[str, Any]) -> None:
    """Writes the trained model, which takes the checkpoint's place."""
    write(folder / MODEL, lambda file: torch.save(model, file))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def resume(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What the folder holds: "model" and "log" of a finished training, what :func:`save` got, or nothing yet.

    Raises:
        ValueError: It is another training's, or a file is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=1)
    if (folder / SETTINGS).exists():
        _check_same(folder, json.loads((folder / SETTINGS).read_text(encoding="utf-8")), json.loads(text))
    else:
        write(folder / SETTINGS, lambda file: file.write(text.encode() + b"\n"))
    if (folder / MODEL).exists():
        (folder / CHECKPOINT).unlink(missing_ok=True)
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
        return {"model": read(folder / MODEL), "log": [json.loads(line) for line in lines]}
    return read(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else {}


def read(path: Path) -> dict[str, Any]:
    """Tensors and plain values from a file; no code in it is run.

    Raises:
        ValueError: It is damaged, or holds something else.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read: it is damaged, or holds something else than tensors and plain values. Delete "
            f"it, and the training starts again from its first epoch. ({why})"
        ) from error
    return state


def _check_same(folder: Path, there: Any, here: Any) -> None:
    old, new = dict(_flat("", there)), dict(_flat("", here))
    differing = [
        f"{name} is {old.get(name, 'absent')!r} there and {new.get(name, 'absent')!r} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, "absent") != new.get(name, "absent")
    ]
    if differing:
        raise ValueError(
            f"{folder} holds a training with other settings: {'; '.join(differing)}. Give another folder, go back to "
            "those settings, or delete this folder to train anew."
        )


def _flat(prefix: str, settings: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, value)
    else:
        yield prefix, settings
