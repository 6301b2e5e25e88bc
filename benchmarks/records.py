"""The check that a result file holds what the schema says, and nothing else."""

import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from benchmarks.schema import ROWS, SCHEMA, Errors, Record, Spread

__all__ = ["check_record", "read_record", "stored", "within", "write_record"]


def check_record(record: Mapping[str, Any]) -> None:
    """Nothing, where the record is a result file of this schema.

    Raises:
        ValueError: It is not; the message says where.
    """
    if record.get("schema") != SCHEMA:
        raise ValueError(f"schema: expected {SCHEMA}, got {record.get('schema')!r}; measure anew.")
    _conform(record, Record, "")
    for number, row in enumerate(record["rows"]):
        _conform(row, ROWS[record["suite"]], f"rows[{number}]")
    if not all(within(row["errors"], row["allowed"]) for row in record["parity"]):
        raise ValueError("parity: a comparison failed, so there is nothing to time.")
    if not record["rows"] and not record["left_out"]:
        raise ValueError("rows: nothing was measured, and nothing is said to be left out.")


def within(errors: Errors, allowed: Errors) -> bool:
    """Whether errors are allowed; NaN never is."""
    return errors["value"] <= allowed["value"] and errors["gradient"] <= allowed["gradient"]


def write_record(record: Record, path: Path) -> None:
    """Write strict JSON.

    Raises:
        ValueError: A number is not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def stored(folder: Path) -> list[Path]:
    """The result files of suites in a folder, older versions first; what else lies there is of another kind."""
    files = [path for path in folder.glob("*/*.json") if path.name.partition("--")[0] in ROWS]
    return sorted(files, key=lambda path: ([int(part) for part in path.parent.name.split(".")], path.name))


def read_record(path: Path) -> Any:
    """The record in a file.

    Raises:
        ValueError: It is not strict JSON of this schema.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{path}: {constant} is not JSON.")

    record = json.loads(path.read_text(), parse_constant=refuse)
    try:
        check_record(record)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return record


def _conform(value: Any, kind: Any, where: str) -> None:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin in (Union, types.UnionType):
        if value is not None:
            _conform(value, next(kind for kind in inner if kind is not types.NoneType), where)
    elif origin is Literal:
        _expect(value in inner, where, f"one of {inner}", value)
    elif origin is list:
        _expect(isinstance(value, list), where, "a list", value)
        for number, item in enumerate(value):
            _conform(item, inner[0], f"{where}[{number}]")
    elif origin is dict:
        _expect(isinstance(value, dict), where, "an object", value)
        for key, item in value.items():
            _conform(item, inner[1], f"{where}.{key}")
    elif is_typeddict(kind):
        _expect(isinstance(value, dict), where, "an object", value)
        hints = get_type_hints(kind)
        _expect(value.keys() == hints.keys(), where, f"the keys {sorted(hints)}", sorted(value))
        for key, hint in hints.items():
            _conform(value[key], hint, f"{where}.{key}".lstrip("."))
        if kind is Spread:
            _expect(value["low"] <= value["median"] <= value["high"], where, "low <= median <= high", value)
    elif kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _expect(number and math.isfinite(value), where, "a finite number", value)
    else:
        _expect(type(value) is kind, where, f"{kind.__name__}", value)


def _expect(holds: bool, where: str, what: str, value: Any) -> None:
    if not holds:
        raise ValueError(f"{where or 'record'}: expected {what}, got {value!r}.")
