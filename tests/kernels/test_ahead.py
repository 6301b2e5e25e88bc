"""Every kernel compiles for GPUs that are not there, from what is launched, into registers and nothing else."""

import json
import os
import re
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import saliency_losses as sl
from benchmarks import registers
from benchmarks.registers import CAPABILITIES, DTYPES, KINDS, SUMS, Resources
from saliency_losses.divergences.base import Divergence

pytestmark = pytest.mark.ahead


@pytest.fixture(scope="module", autouse=True)
def _not_interpreted() -> None:
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        pytest.fail("Kernels are compiled here, and TRITON_INTERPRET is set: unset it, and run these tests alone.")


def compile_all(
    parts: list[Divergence],
    model: Tensor,
    human: Tensor,
    upstream: Tensor | None = None,
    sizes: tuple[int, ...] = (),
    capabilities: tuple[int, ...] = CAPABILITIES[-1:],
) -> list[Any]:
    """The kernels of forward, then that of backward, which must need no memory for their registers."""
    kernels = []
    for direction, several in registers.launches(parts, model, human, upstream, sizes).items():
        for launch, capability in product(several, capabilities):
            kernel = registers.compiled(launch, capability)
            found = registers.resources(kernel)
            assert found.spills == 0, f"{direction} of {parts} for sm_{capability} needs a stack: {found}"
            assert ".local" not in kernel.asm["ptx"]
            assert kernel.metadata.enable_fp_fusion is (not sizes)
            assert found.warps == launch.options["num_warps"]
            kernels.append(kernel)
    return kernels


def empty(rows: int, cells: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Maps of which nobody looks at the cells; few long rows are split, many are not."""
    return torch.empty(rows, cells, dtype=dtype), torch.empty(rows, cells, dtype=dtype)


FEW, MANY = 2, 600
# Rows that share a program, of the size of a block or just past it, whole or in several visits, of one program or more.
SHAPES = [(FEW, cells) for cells in (1, 49, 196, 197, 1024, 4096, 4097, 50176)] + [(MANY, 4097), (MANY, 50176)]


@pytest.mark.parametrize(("rows", "cells"), [(FEW, 49), (FEW, 50176), (MANY, 50176)])
@pytest.mark.parametrize("parts", [*KINDS, *SUMS])
def test_every_divergence_and_sums_of_them_for_every_gpu(parts: str, rows: int, cells: int) -> None:
    compile_all(registers.divergences(parts), *empty(rows, cells), capabilities=CAPABILITIES)


@pytest.mark.parametrize("parts", [*KINDS, SUMS[-1]])
def test_the_longest_rows_that_are_on_chip_whole(parts: str) -> None:
    compile_all(registers.divergences(parts), *empty(FEW, 4096))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "cells"), SHAPES)
def test_every_length_of_rows_in_every_dtype(rows: int, cells: int, dtype: torch.dtype) -> None:
    compile_all([sl.create_divergence("kl")], *empty(rows, cells, dtype))


@pytest.mark.parametrize(("rows", "cells"), [(FEW, 49), (MANY, 5000)])
@pytest.mark.parametrize("human", DTYPES)
def test_human_maps_of_another_dtype(human: torch.dtype, rows: int, cells: int) -> None:
    compile_all([sl.create_divergence("mse")], empty(rows, cells, torch.float16)[0], empty(rows, cells, human)[1])


@pytest.mark.parametrize(("rows", "cells"), [(FEW, 49), (MANY, 5000)])
@pytest.mark.parametrize("name", sl.divergences.list_normalizers())
def test_every_normalizer(name: str, rows: int, cells: int) -> None:
    compile_all([sl.create_divergence("mae", normalize=name, human_normalize=name)], *empty(rows, cells))


@pytest.mark.parametrize(("rows", "cells"), [(FEW, 49), (MANY, 5000)])
@pytest.mark.parametrize(
    "divergence",
    [
        sl.create_divergence("kl", normalize="sum"),
        sl.create_divergence("kl", direction="model_human", floor=1e-7),
        sl.create_divergence("js", normalize=sl.divergences.create_normalizer("softmax", standardize=False)),
        sl.create_divergence("dice", squared=False),
        sl.create_divergence("right_reasons", human="never_here"),
        sl.create_divergence("mse", normalize=sl.divergences.create_normalizer("max_abs", positive=True)),
        sl.create_divergence("mse", normalize=sl.divergences.create_normalizer("minmax", detach=True)),
    ],
    ids=str,
)
def test_options_that_change_a_kernel(divergence: Divergence, rows: int, cells: int) -> None:
    compile_all([divergence], *empty(rows, cells))


ENLARGED = (7, 7, 224, 224, 0)


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [(parts, ENLARGED) for parts in (*KINDS, SUMS[-1])]
    + [("mse+kl", sizes) for sizes in ((7, 7, 14, 14, 0), (14, 14, 224, 224, 1), (5, 6, 51, 70, 0))],
)
def test_maps_that_are_enlarged(parts: str, sizes: tuple[int, ...]) -> None:
    height, width, taller, wider, _ = sizes
    model, human = torch.rand(2, height * width), torch.rand(2, taller * wider)
    compile_all(registers.divergences(parts), model, human, sizes=sizes)


def strided(rows: int, cells: int, stride: int, offset: int = 0) -> Tensor:
    return torch.empty(offset + rows * stride + cells).as_strided((rows, cells), (stride, 1), offset)


@pytest.mark.parametrize(("rows", "cells"), [(FEW, 49), (MANY, 5008)])
@pytest.mark.parametrize(
    ("stride", "offset"), [(0, 0), (1, 0), (6000, 0), (6001, 0), (6000, 1)], ids=["0", "1", "16n", "odd", "unaligned"]
)
def test_rows_however_far_apart(stride: int, offset: int, rows: int, cells: int) -> None:
    maps = strided(rows, cells, stride, offset)
    upstream = torch.empty(16 * rows).as_strided((rows,), (min(stride, 16),))
    compile_all([sl.create_divergence("mse")], maps, maps, upstream)


@pytest.mark.parametrize(("batches", "cells"), [((1, 2, 16, 17), 49), ((600, 608, 1031), 50176)])
def test_batches_of_every_size_share_their_kernels(batches: tuple[int, ...], cells: int) -> None:
    forms = set()
    for rows in batches:
        kernels = compile_all([sl.create_divergence("mse")], *empty(rows, cells))
        forms.add(tuple(kernel.hash for kernel in kernels))
    assert len(forms) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "cells"), [(FEW, 1024), (FEW, 4096), (FEW, 50176), (MANY, 50176)])
def test_maps_are_read_and_written_many_bytes_at_a_time(rows: int, cells: int, dtype: torch.dtype) -> None:
    wide = r"v4\.b32|0x10" if dtype == torch.float32 else r"v[24]\.b32|0x8|0x10"
    *forward, backward = compile_all([sl.create_divergence("mse")], *empty(rows, cells, dtype))
    for kernel in (forward[0], backward):
        loads = re.findall(r"(?:ld|cp\.async\.\w+\.shared)\.global.*", kernel.asm["ptx"])
        assert sum(re.search(wide, load) is not None for load in loads) >= 2, loads
    stores = re.findall(r"st\.global.*", backward.asm["ptx"])
    assert all(re.search(wide, store) for store in stores), stores


def described(launch: Any) -> tuple[Any, ...]:
    """A launch, with tensors as what their kernels are compiled for."""
    arguments = [
        (argument.shape, argument.dtype) if isinstance(argument, Tensor) else argument for argument in launch.arguments
    ]
    return launch.kernel, launch.grid, arguments, launch.options


def test_the_launcher_launches_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    from saliency_losses.kernels import launch
    from saliency_losses.kernels.plan import Plan, plan_of

    launched: list[Any] = []
    monkeypatch.setattr(launch, "_run", lambda found, maps: launched.append(found))
    plan = Plan((plan_of(sl.create_divergence("kl"))[0],))
    for rows, cells in ((FEW, 49), (FEW, 5000), (MANY, 5000)):
        model, human = empty(rows, cells)
        weights, upstream = torch.ones(1, rows), torch.ones(rows)
        written = launch.forward(model, human, weights, plan)
        expected = launch.forward_launches(model, human, weights, *written, plan)
        assert [described(one) for one in launched] == [described(one) for one in expected]
        launched.clear()
        gradient = launch.backward(model, human, weights, written[2], upstream, plan)
        expected = [launch.backward_launch(model, human, weights, written[2], upstream, gradient, plan)]
        assert [described(one) for one in launched] == [described(one) for one in expected]
        launched.clear()


def test_fusion_of_multiplication_and_addition_is_what_the_launch_says() -> None:
    maps = torch.rand(2, 49)
    launch = registers.launches([sl.create_divergence("mse")], maps, maps.clone())["forward"][0]
    exact = launch._replace(options={**launch.options, "enable_fp_fusion": False})
    assert "fma" in registers.compiled(launch, 90).asm["ptx"]
    assert registers.compiled(exact, 90).metadata.enable_fp_fusion is False


def test_kernels_are_not_compiled_where_they_are_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(2, 49)
    launch = registers.launches([sl.create_divergence("mse")], maps, maps.clone())["forward"][0]
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET is set: unset it"):
        registers.compiled(launch, 90)


@pytest.mark.parametrize(
    ("found", "resident"),
    [
        (Resources(warps=16, registers=32, spills=0, shared=64), 64),
        (Resources(warps=16, registers=33, spills=0, shared=64), 48),
        (Resources(warps=4, registers=255, spills=0, shared=64), 8),
        (Resources(warps=1, registers=32, spills=0, shared=64), 32),
        (Resources(warps=8, registers=32, spills=0, shared=100 * 1024), 16),
    ],
)
def test_resident_warps(found: Resources, resident: int) -> None:
    assert found.resident == resident


def test_registers_are_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["registers", "--output", str(tmp_path / "new" / "kernels.json")])
    monkeypatch.setattr(registers, "KINDS", ("mse",))
    monkeypatch.setattr(registers, "SUMS", ())
    monkeypatch.setattr(registers, "SHAPES", ((FEW, 49),))
    monkeypatch.setattr(registers, "DTYPES", DTYPES[:1])
    registers.main()
    assert "4 kernels, 0 with spills" in capsys.readouterr().out
    rows = json.loads((tmp_path / "new" / "kernels.json").read_text())["rows"]
    assert {row["arch"] for row in rows} == {"sm_80", "sm_90"}
    assert {row["direction"] for row in rows} == {"forward", "backward"}
    assert all(row["registers"] > 0 and row["parts"] == "mse" and row["cells"] == 49 for row in rows)
