"""Reads settings from YAML files and checks them against the dataclass that holds them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

T = TypeVar("T")


def stems(folder: Path) -> list[str]:
    """The names of the YAML files in the folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def find(folder: Path, name: str, kind: str) -> Path:
    """The file of that name in the folder, or anywhere where the name is that of a YAML file.

    Raises:
        ValueError: There is none; the message lists what there is.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"unknown {kind} {name!r}{_meant(name, stems(folder))}, or give a YAML file")
    return path


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ValueError: It is not YAML, or not a mapping.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds {type(settings).__name__}, expected lines of the form setting: value")
    return settings


def parse(assignments: list[str]) -> dict[str, Any]:
    """Reads "setting=value" texts; the values are YAML.

    Raises:
        ValueError: There is no "=", or the value is not YAML.
    """
    settings = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"the value of {text!r} cannot be read as YAML: {error}") from error
        if not equals:
            raise ValueError(f"{text!r} is not of the form setting=value")
    return settings


def changed(instance: T, settings: dict[str, Any], fixed: Collection[str] = ()) -> T:
    """The dataclass with other settings.

    Raises:
        ValueError: A setting is unknown, of the wrong type or out of range.
    """
    given: Any = instance
    kind: Any = type(given)
    hints = {f.name: get_type_hints(kind)[f.name] for f in fields(kind) if f.name not in fixed}
    for key, value in settings.items():
        if key not in hints:
            raise ValueError(f"{kind.__name__.lower()} has no setting {key!r}{_meant(str(key), list(hints))}")
        if not _fits(value, hints[key]):
            raise ValueError(f"{kind.__name__.lower()} has {key}={value!r}, expected {_spelt(hints[key])}")
    made: T = replace(given, **settings)
    return made


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    kind = get_origin(hint) or hint
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _spelt(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(_spelt(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return "nothing" if hint is NoneType else str(getattr(hint, "__name__", hint))


def _meant(name: str, options: list[str]) -> str:
    near = get_close_matches(name, options, 1)
    return f"{f'; did you mean {near[0]!r}?' if near else '.'} Choose from {', '.join(options)}"
