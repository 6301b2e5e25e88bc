"""Which divergences are measured, on which maps: the rows that matter most come first."""

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.settings import Settings
from benchmarks.shortest import SHORTEST
from benchmarks.traffic import Direction
from benchmarks.variants import SUM, fusable

__all__ = ["Case", "cases"]

ALL: tuple[Direction, ...] = ("both", "forward", "backward")
BOTH: tuple[Direction, ...] = ("both",)
FIRST = ("mse", "kl", "correlation")


class Case(NamedTuple):
    """A divergence on a batch of square maps, the passes over it, and the variants that take turns."""

    name: str
    batch: int
    size: int
    dtype: str = "float32"
    directions: tuple[Direction, ...] = BOTH
    variants: tuple[str, ...] = ("plain", "eager")
    human_size: int | None = None

    def __str__(self) -> str:
        other = f" against {self.human_size} x {self.human_size}" if self.human_size else ""
        return f"{self.name} {self.batch} x {self.size} x {self.size}{other} {self.dtype}"


def cases(settings: Settings) -> list[Case]:
    """The rows for a device; a few small ones if it is to be quick."""
    if settings.device == "cuda":
        return list(_quick_cuda() if settings.quick else _cuda())
    return list(_quick_cpu() if settings.quick else _cpu())


def _in_order() -> list[str]:
    return [*FIRST, *(name for name in fusable() if name not in FIRST)]


def _quick_cpu() -> Iterator[Case]:
    compiled = ("plain", "eager", "compile")
    yield from (Case(name, 32, 112, directions=ALL, variants=compiled) for name in FIRST)
    yield from (Case(name, 64, 7, directions=ALL) for name in FIRST)
    yield from (Case(name, 32, 112) for name in [*SHORTEST, SUM] if name not in FIRST)


def _cpu() -> Iterator[Case]:
    compiled = ("plain", "eager", "compile")
    for batch, size in ((256, 224), (256, 7)):
        yield from (Case(name, batch, size, directions=ALL, variants=compiled) for name in _in_order())
        yield from (Case(name, batch, size) for name in [*SHORTEST, SUM] if name not in fusable())
    shapes = [(1, 7), (16, 7), (4096, 7), (1024, 14), (1024, 28), (256, 56), (256, 112), (1, 224), (16, 224)]
    for batch, size in [*shapes, (32, 512), (8, 1024)]:
        yield from (Case(name, batch, size) for name in FIRST)


def _quick_cuda() -> Iterator[Case]:
    all_variants = ("plain", "eager", "compile", "triton")
    yield from (Case(name, 1024, 224, directions=ALL, variants=all_variants) for name in FIRST)
    yield from (Case(name, 256, 7, variants=(*all_variants, "triton in compile")) for name in FIRST)


def _cuda() -> Iterator[Case]:
    compiled, plain = ("plain", "eager", "compile", "triton"), ("eager", "triton")
    rest = [name for name in _in_order() if name not in FIRST]
    yield from (Case(name, 1024, 224, directions=ALL, variants=compiled) for name in FIRST)
    yield from (Case(name, 256, 7, directions=ALL, variants=(*compiled, "triton in compile")) for name in FIRST)
    yield from (Case(name, 1024, 224, variants=compiled) for name in rest)
    for batch, size in (
        (1, 7),
        (16, 7),
        (4096, 7),
        (4096, 14),
        (4096, 28),
        (4096, 56),
        (2048, 112),
        (256, 512),
        (64, 1024),
    ):
        yield from (Case(name, batch, size, variants=plain) for name in FIRST)
    yield from (Case("mse", batch, 224, variants=plain) for batch in (1, 4, 16, 32, 64, 128, 256))
    yield from (Case(name, 256, 7, variants=plain) for name in rest)
    for dtype in ("bfloat16", "float16"):
        yield from (Case(name, 1024, 224, dtype, variants=("eager", "compile", "triton")) for name in FIRST)
    yield Case(SUM, 1024, 224, variants=compiled)
    yield from (Case(f"{name}, enlarge", 1024, 14, variants=plain, human_size=224) for name in FIRST)
    for dtype in ("bfloat16", "float16"):
        yield from (Case(name, 1024, 224, dtype, variants=plain) for name in rest)
    yield Case(SUM, 256, 7, variants=compiled)
    for batch, size in ((1, 7), (1, 224), (16, 224), (64, 1024)):
        yield from (Case(name, batch, size, variants=plain) for name in ("kl", "correlation", *rest))
    yield from (Case(name, 256, 7, variants=compiled) for name in rest)
