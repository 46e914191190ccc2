"""Lowering rules of operations that move elements, at the cases that samples do not reach."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
import taimatsu.nn.functional as F
from taimatsu.ir import expression as ex
from taimatsu.ir.builder import Builder
from taimatsu.ir.index import index
from taimatsu.ir.stage_interpreter import evaluate as evaluate_stages
from taimatsu.ir.stages import Stage
from taimatsu.ops.coordinates import ravel
from taimatsu.ops.region_stages import replaced_region
from taimatsu.storage import window
from tests.ops.lowering import Call, assert_lowers, collected


def assert_all_lower(compute: Callable[[], Any], *names: str) -> None:
    """All calls of the named operations (and their gradients') agree with their references."""
    with collected() as calls:
        made = compute()
        if made.requires_grad:
            weight = torch.arange(1.0, made.numel() + 1).reshape(made.shape)
            (made * weight.to(made.dtype)).sum().backward()
    found = [c for c in calls if c.operation.name in names]
    assert {c.operation.name for c in found} == set(names)
    for each in found:
        assert assert_lowers(each, summed=True)


def leaf(*shape: int, dtype: Any = torch.float32) -> Any:
    values = np.random.default_rng(len(shape)).uniform(-2, 2, shape)
    return torch.tensor(values, dtype=dtype, requires_grad=True)


# -- resampling ------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 4), (5, 1), (5, 2), (5, 5), (4, 7), (3, 12), (11, 4)]


@pytest.mark.parametrize(("extent", "out"), SIZES)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_interpolation_of_a_line(mode: str, extent: int, out: int) -> None:
    x = leaf(2, 3, extent)
    names = ("interpolate", "resample_adjoint")
    assert_all_lower(lambda: F.interpolate(x, size=out, mode=mode), *names)
    if mode == "linear":
        assert_all_lower(lambda: F.interpolate(x, size=out, mode=mode, align_corners=True), *names)


@pytest.mark.parametrize("factor", [0.3, 0.7, 1.3, 2.0, 3.7])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_interpolation_by_a_factor(mode: str, factor: float) -> None:
    x = leaf(1, 2, 7)
    names = ("interpolate", "resample_adjoint")
    assert_all_lower(lambda: F.interpolate(x, scale_factor=factor, mode=mode), *names)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 3), (13, 5)])
def test_interpolation_of_images(mode: str, size: tuple[int, int], antialias: bool) -> None:
    if mode == "lanczos" and not antialias:
        return
    x = leaf(1, 2, 5, 6)
    names = ("interpolate", "resample_adjoint")
    assert_all_lower(lambda: F.interpolate(x, size=size, mode=mode, antialias=antialias), *names)


def test_interpolation_of_bytes_rounds() -> None:
    x = torch.tensor(np.random.default_rng(0).integers(0, 256, (1, 2, 5, 6)), dtype=torch.uint8)
    assert_all_lower(lambda: F.interpolate(x, size=(7, 4), mode="bilinear"), "interpolate")
    assert_all_lower(lambda: F.interpolate(x, size=(7, 4)), "interpolate")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("pair", list(itertools.product((-2, 0, 1, 3), repeat=2)))
def test_borders(mode: str, pair: tuple[int, int]) -> None:
    x = leaf(2, 3, 5)
    assert_all_lower(lambda: F.pad(x, pair, mode), "border_pad", "resample_adjoint")


def test_borders_of_one_element() -> None:
    x = leaf(2, 3, 1)
    assert_all_lower(lambda: F.pad(x, (2, 1), "replicate"), "border_pad", "resample_adjoint")
    assert_all_lower(lambda: F.pad(x, (1, 1), "circular"), "border_pad", "resample_adjoint")


@pytest.mark.parametrize("shape", [(2, 3), (2, 0), (1, 3)])
def test_constant_pads(shape: tuple[int, ...]) -> None:
    x = leaf(*shape)
    assert_all_lower(lambda: F.pad(x, (1, 2, 0, 1), value=1.5), "constant_pad")
    assert_all_lower(lambda: F.pad(x, (1, 0, -1, 1)), "constant_pad")


# -- regions ---------------------------------------------------------------------------------

SLICES = [
    lambda x: x[1],
    lambda x: x[:, 2],
    lambda x: x[..., -1],
    lambda x: x[1:3],
    lambda x: x[:, 1:4:2],
    lambda x: x[2:3, :, 1:],
    lambda x: x.diagonal(),
    lambda x: x.diagonal(1, 1, 2),
    lambda x: x.diagonal(-1, 0, 1),
    lambda x: x.permute(2, 0, 1)[1:, 1],
    lambda x: x[:0],
    lambda x: x.reshape(-1)[7:10],
    lambda x: x.reshape(-1)[3:40:13],
    lambda x: x.reshape(4, 15)[1:3, 4:11],
]


@pytest.mark.parametrize("part", SLICES)
def test_gradients_of_slices(part: Callable) -> None:
    x = leaf(4, 5, 3)
    assert_all_lower(lambda: part(x), "region_scatter")


@pytest.mark.parametrize("part", SLICES)
def test_regions_of_zeros_are_chosen_by_each_element(part: Callable) -> None:
    x = leaf(4, 5, 3)
    with collected() as calls:
        part(x).sum().backward()
    found = [c for c in calls if c.operation.name == "region_scatter"]
    assert found
    for call in found:
        assert_chosen(call)


def assert_chosen(call: Call) -> None:
    _, src, start = call.inputs
    b = Builder()
    zeros = b.map(call.results[0].shape, "float32", lambda *i: b.constant(0, "float32"))
    source = Stage("window", tuple(map(index, src.shape)), "float32")
    b.stages.append(source)
    made = zeros
    if src.size:
        made = replaced_region(b, zeros, source, ex.number(0, "int64"), **call.attributes)
    assert made.kind == "map"
    values = evaluate_stages(b.stages, lambda stage: src, [start])
    np.testing.assert_array_equal(values[made], call.results[0])


@pytest.mark.parametrize("part", SLICES)
def test_gradients_of_writes_into_slices(part: Callable) -> None:
    x = leaf(4, 5, 3)
    y = torch.ones(part(x).shape, requires_grad=True)

    def write() -> Any:
        whole = x * 2
        part(whole).copy_(y)
        return whole * 3 + part(whole).sum()

    assert_all_lower(write, "region_scatter")


@pytest.mark.parametrize("start", range(14))
@pytest.mark.parametrize(
    ("size", "stride"), [((2,), (1,)), ((2, 2), (3, 1)), ((2,), (4,)), ((3,), (2,))]
)
@pytest.mark.parametrize("constant", [True, False])
def test_regions_that_run_over_ends_of_rows(
    constant: bool, size: tuple, stride: tuple, start: int
) -> None:
    values = np.zeros((1, 5, 1, 3)) if constant else np.arange(15.0).reshape(1, 5, 1, 3)
    if start + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) >= 15:
        return
    src = 20 + np.arange(np.prod(size)).reshape(size)
    b = Builder()
    whole = b.map((1, 5, 1, 3), "float64", lambda *i: b.constant(0, "float64"))
    if not constant:
        whole = b.map(
            whole.shape, "float64", lambda *i: b.cast(b.index(i[1] * 3 + i[3]), "float64")
        )
    written = b.map(size, "float64", lambda *i: b.cast(b.index(ravel(i, size) + 20), "float64"))
    made = replaced_region(b, whole, written, ex.number(0, "int64"), stride, boxed=False)
    found = evaluate_stages(b.stages, lambda stage: values, [start])[made]
    wanted = values.copy()
    window(wanted.reshape(-1), size, stride, start)[...] = src
    np.testing.assert_array_equal(found, wanted)
