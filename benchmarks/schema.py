"""What a result file holds, and the check that it holds just that."""

import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

__all__ = [
    "ROWS",
    "SCHEMA",
    "Conditions",
    "Copy",
    "DivergenceRow",
    "Errors",
    "LeftOut",
    "ParityRow",
    "Record",
    "ScalingRow",
    "Spread",
    "StepRow",
    "SuiteName",
    "Times",
    "Variant",
    "check_record",
    "read_record",
]

SCHEMA = 1
SuiteName = Literal["divergences", "step", "scaling"]


class Spread(TypedDict):
    """Median and quartiles over rounds."""

    low: float
    median: float
    high: float


class Times(TypedDict):
    """Seconds by the host's clock, until the host goes on (of a GPU alone), and between two events on the GPU."""

    wall: Spread
    host: Spread | None
    device: Spread | None


class Errors(TypedDict):
    """Largest difference from float64, as a share of the largest magnitude there."""

    value: float
    gradient: float


class Variant(TypedDict):
    """One way to compute a divergence, on one pass over one batch."""

    times: Times
    graph: Times | None
    errors: Errors
    peak_maps: float
    launches: int | None
    kernel_seconds: float | None
    bandwidth: float
    copy_share: float


class DivergenceRow(TypedDict):
    """One divergence on one batch; times of all variants were taken in turns."""

    divergence: str
    batch: int
    size: int
    dtype: str
    direction: Literal["forward", "backward", "both"]
    least_bytes: int
    variants: dict[str, Variant]
    ratios: dict[str, Spread]


class StepRow(TypedDict):
    """One training step, as a multiple of the plain one of the same model."""

    model: str
    batch: int
    pixels: int
    name: str
    times: Times
    ratio: Spread
    limit: float | None
    saved_bytes: int
    kernel_share: Spread | None


class ScalingRow(TypedDict):
    """How the cost of one variant grows along one axis: seconds at each point, and the exponent fitted to them."""

    axis: str
    case: str
    variant: str
    points: list[int]
    seconds: list[Spread]
    exponent: Spread
    last_exponent: Spread


class Copy(TypedDict):
    """A copy within the device's memory; bandwidth counts bytes read and bytes written, per second."""

    bytes: int
    seconds: Spread
    bandwidth: float


class ParityRow(TypedDict):
    """What was compared before anything was timed: with float64, or with another way to the same loss."""

    case: str
    errors: Errors
    eager: Errors | None
    passed: bool


class LeftOut(TypedDict):
    """A row that was not measured, and why."""

    row: str
    reason: str


class Conditions(TypedDict):
    """Where and with what something was measured; ``None`` is what cannot be told, or is not used."""

    version: str
    commit: str | None
    dirty: bool | None
    date: str
    python: str
    platform: str
    torch: str
    triton: str | None
    cuda: str | None
    driver: str | None
    device: str
    device_type: str
    threads: int


class Record(Conditions):
    """A result file."""

    schema: int
    suite: SuiteName
    settings: dict[str, Any]
    copy: Copy
    parity: list[ParityRow]
    rows: list[dict[str, Any]]
    left_out: list[LeftOut]


ROWS: dict[SuiteName, Any] = {"divergences": DivergenceRow, "step": StepRow, "scaling": ScalingRow}


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
    if any(not row["passed"] for row in record["parity"]):
        raise ValueError("parity: a comparison failed, so there is nothing to time.")
    if not record["rows"] and not record["left_out"]:
        raise ValueError("rows: nothing was measured, and nothing is said to be left out.")


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
