"""What a result file holds."""

from typing import Any, Literal, TypedDict

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
    """One divergence on one batch of square maps; times of all variants were taken in turns."""

    divergence: str
    batch: int
    size: int
    human_size: int
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
    allowed: Errors


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
