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
from tests.ops.lowering import Call, Lowered, assert_lowers, collected


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


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("part", SLICES)
def test_regions_of_zeros_are_chosen_by_each_element(part: Callable, settled: bool) -> None:
    x = leaf(4, 5, 3)
    with collected() as calls:
        part(x).sum().backward()
    found = [c for c in calls if c.operation.name == "region_scatter"]
    assert found
    for call in found:
        assert_chosen(call, settled)


def assert_chosen(call: Call, settled: bool) -> None:
    _, src, start = call.inputs
    b = Builder()
    zeros = b.map(call.results[0].shape, "float32", lambda *i: b.constant(0, "float32"))
    source = Stage("window", tuple(map(index, src.shape)), "float32")
    b.stages.append(source)
    made = zeros
    if src.size:
        given = ex.constant(start, "int64") if settled else ex.number(0, "int64")
        made = replaced_region(b, zeros, source, given, **call.attributes)
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
@pytest.mark.parametrize("settled", [True, False])
def test_regions_that_run_over_ends_of_rows(
    settled: bool, constant: bool, size: tuple, stride: tuple, start: int
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
    given = ex.constant(start, "int64") if settled else ex.number(0, "int64")
    made = replaced_region(b, whole, written, given, stride, boxed=False)
    found = evaluate_stages(b.stages, lambda stage: values, [start])[made]
    wanted = values.copy()
    window(wanted.reshape(-1), size, stride, start)[...] = src
    np.testing.assert_array_equal(found, wanted)


# -- indices -----------------------------------------------------------------------------------


def indices(*values: int) -> Any:
    return torch.tensor(values, dtype=torch.int64)


def table() -> Any:
    return torch.arange(12.0).reshape(4, 3)


INDEXED = [
    ("gather", lambda: table().gather(0, indices(1, 0, 2)[None]), 1, (-1, 4)),
    ("scatter", lambda: table().scatter(0, indices(1, 0, 2)[None], 5.0), 1, (-1, 4)),
    ("scatter_add", lambda: table().scatter_add(1, indices(1, 0)[None], table()), 1, (-1, 3)),
    (
        "scatter_reduce",
        lambda: table().scatter_reduce(0, indices(1, 0)[:, None], table(), "mean"),
        1,
        (-1, 4),
    ),
    ("index_select", lambda: table().index_select(1, indices(1, 2)), 1, (-1, 3)),
    ("index_add", lambda: table().index_add(1, indices(1, 2), torch.ones(4, 2)), 1, (-1, 3)),
    ("index_copy", lambda: table().index_copy(0, indices(1), torch.ones(1, 3)), 1, (-1, 4)),
    ("index_fill", lambda: table().index_fill(0, indices(1, -1), 2.0), 1, (-5, 4)),
    ("index_by", lambda: table()[indices(1, -1), indices(0, -2)], 2, (-4, 3)),
    ("index_put_by", lambda: table().index_put((indices(1, -1),), torch.ones(3)), 2, (-5, 4)),
    ("take", lambda: table().take(indices(1, -1)), 1, (-13, 12)),
    ("put", lambda: table().put(indices(1, -1), torch.ones(2)), 1, (-13, 12)),
    ("embedding", lambda: F.embedding(indices(3, 0), table()), 1, (-1, 4)),
    ("one_hot", lambda: F.one_hot(indices(3, 0), 4), 0, (-1, 4)),
]


@pytest.mark.parametrize(("name", "compute", "place", "bad"), INDEXED, ids=[c[0] for c in INDEXED])
def test_indices_outside_stop_a_launch(
    name: str, compute: Callable, place: int, bad: tuple[int, int]
) -> None:
    with collected() as calls:
        compute()
    (call,) = [c for c in calls if c.operation.name == name]
    assert assert_lowers(call, summed=True)
    for value in bad:
        given = call.inputs[place].copy()
        given.reshape(-1)[-1] = value
        inputs = (*call.inputs[:place], given, *call.inputs[place + 1 :])
        for layout in ("plain", "moved", "flat"):
            with pytest.raises(IndexError):
                Lowered(call._replace(inputs=inputs), layout).values()


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_small_indices(kind: Any) -> None:
    index = indices(2, 0, 2).to(kind)
    assert_all_lower(lambda: table().index_select(0, index), "index_select")
    assert_all_lower(lambda: F.embedding(index, table()), "embedding")


def test_index_tensors_broadcast_and_stand_apart() -> None:
    x = leaf(4, 5, 3)
    rows, columns = indices(1, -1), indices(0, 2)
    names = ("index_by", "index_put_by")
    assert_all_lower(lambda: x[rows, :, columns], *names)
    assert_all_lower(lambda: x[:, rows[:, None], columns], *names)
    assert_all_lower(lambda: x[rows[:, None, None], columns], *names)
    assert_all_lower(lambda: x[:, :, rows[:, None]], *names)
    assert_all_lower(lambda: x[indices()], *names)


def test_scatters_of_booleans_join() -> None:
    x = torch.tensor([True, False, False])
    source = torch.tensor([False, True, True])
    index = indices(0, 1, 1)
    assert_all_lower(lambda: x.scatter_add(0, index, source), "scatter_add")
    assert_all_lower(lambda: x.index_put((index,), source, accumulate=True), "index_put_by")
    for reduce in ("sum", "prod", "amax", "amin"):
        assert_all_lower(lambda r=reduce: x.scatter_reduce(0, index, source, r), "scatter_reduce")


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatters_of_whole_numbers(reduce: str, include_self: bool) -> None:
    x = torch.arange(1, 13, dtype=torch.int16).reshape(3, 4)
    index = torch.tensor([[0, 2, 2], [1, 0, 2]])
    assert_all_lower(
        lambda: x.scatter_reduce(0, index, x + 5, reduce, include_self=include_self),
        "scatter_reduce",
    )


def test_zero_dimensional_inputs_have_one_slice() -> None:
    x, index = torch.tensor(2.5), indices(0)
    assert_all_lower(lambda: x.index_select(0, index), "index_select")
    assert_all_lower(lambda: x.index_add(0, index, torch.tensor(1.5)), "index_add")
    assert_all_lower(lambda: x.index_copy(0, index, torch.tensor([1.5])), "index_copy")
    assert_all_lower(lambda: x.index_fill(0, index, 4), "index_fill")


def test_masked_scatter_needs_as_many_elements_as_places() -> None:
    mask = torch.tensor([[True, False, True], [False, True, True]])
    x, source = leaf(2, 3), leaf(4)
    assert_all_lower(lambda: x.masked_scatter(mask, source), "masked_scatter", "masked_collect")
    with collected() as calls:
        x.masked_scatter(mask, source)
    (call,) = [c for c in calls if c.operation.name == "masked_scatter"]
    every = np.ones((2, 3), bool)
    with pytest.raises(IndexError):
        Lowered(call._replace(inputs=(call.inputs[0], every, call.inputs[2]))).values()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9])
@pytest.mark.parametrize("right", [False, True])
def test_search_among_any_number_of_elements(n: int, right: bool) -> None:
    values = np.sort(np.random.default_rng(n).integers(0, 6, n).astype(np.float32))
    sequence = torch.tensor(values)
    wanted = torch.tensor([-1.0, 0.0, 2.0, 2.5, 3.0, 5.0, 7.0, float("nan"), float("inf")])
    assert_all_lower(lambda: torch.searchsorted(sequence, wanted, right=right), "searchsorted")
    assert_all_lower(lambda: torch.searchsorted(sequence, 2.0, right=right), "searchsorted")


# -- joining -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 8, 9, 20])
@pytest.mark.parametrize("dim", [0, 1])
def test_joins_of_few_and_many(count: int, dim: int) -> None:
    parts = [leaf(2 + i % 3, 3) if dim == 0 else leaf(3, 2 + i % 3) for i in range(count)]
    assert_all_lower(lambda: torch.cat([p * i for i, p in enumerate(parts)], dim), "cat")
    assert_all_lower(lambda: torch.stack([parts[0] * i for i in range(count)], dim), "stack")


@pytest.mark.parametrize("shift", [-7, -1, 0, 2, 5, 11])
def test_rolls_by_any_shift(shift: int) -> None:
    x = leaf(4, 5)
    assert_all_lower(lambda: x.roll(shift), "roll")
    assert_all_lower(lambda: x.roll((shift, 1), (0, 1)), "roll")


# -- sliding blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_sliding_blocks(dilation: int, padding: int, stride: int) -> None:
    x = leaf(2, 3, 6, 7)
    window = {"kernel_size": (2, 3), "dilation": dilation, "padding": padding, "stride": stride}
    assert_all_lower(lambda: F.unfold(x, **window), "im2_col", "col2_im")


@pytest.mark.parametrize("limits", [(0, 0), (-1, 1), (0.5, 3)])
def test_histograms(limits: tuple[float, float]) -> None:
    x = torch.tensor(np.random.default_rng(0).uniform(-2, 2, (5, 7)), dtype=torch.float32)
    assert_all_lower(lambda: torch.histc(x, 6, *limits), "histc")
    assert_all_lower(lambda: torch.histc(torch.ones(3), 2), "histc")
    assert_all_lower(lambda: torch.histc(torch.ones(0), 2), "histc")
