"""Contractions, scheduled and compiled, against the evaluation of their stages with NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from compiler.contraction_runner import Ready

from taimatsu.compiler.groups import Group, Layout, ordered_layout
from taimatsu.compiler.schedule.contraction import prepared, schedule
from taimatsu.compiler.schedule.contraction_plan import Plan, plan
from taimatsu.ir import expression as ex
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Symbol, index
from taimatsu.ir.loops import Allocate, Kernel, Loop, Store, Transpose, statements
from taimatsu.ir.stage_interpreter import evaluate, numpy_dtype
from taimatsu.ir.stages import Cell, Stage
from taimatsu.ir.target import Target
from taimatsu.ir.verifier import verify
from taimatsu.runtime.loader import LoadError, host_machine

try:
    host_machine()
except LoadError as error:
    pytest.skip(str(error), allow_module_level=True)

HOST = Target.host()
NARROW = HOST.without("avx512f") if HOST.is_x86 else HOST
PLAIN = HOST.without("avx", "sse4.2", "sse4.1") if HOST.is_x86 else HOST
TARGETS = pytest.mark.parametrize("target", [HOST, NARROW, PLAIN], ids=["host", "avx2", "plain"])


class Case(NamedTuple):
    """A group with its inputs."""

    group: Group
    windows: dict[Stage, np.ndarray]  # as their shapes are
    symbols: dict[str, int]
    orders: dict[Stage, tuple[int, ...]] = {}
    numbers: tuple[float, ...] = ()


class Maker:
    """Makes windows with random content; remembers the values of symbols."""

    def __init__(self, seed: int = 0, dtype: str = "float32") -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.builder = Builder()
        self.windows: dict[Stage, np.ndarray] = {}
        self.symbols: dict[str, int] = {}

    def symbol(self, name: str, value: int) -> Index:
        self.symbols[name] = value
        return index(Symbol(name, value))

    def numbers(self, shape: Sequence[Index | int]) -> tuple[int, ...]:
        return tuple(index(n).evaluate(lambda s: self.symbols[s.name]) for n in shape)

    def window(
        self,
        shape: Sequence[Index | int],
        order: tuple[int, ...] | None = None,
        dtype: str | None = None,
    ) -> Stage:
        """An input whose dimensions lie in memory in the given order."""
        extents = tuple(map(index, shape))
        stage = Stage("window", extents, dtype or self.dtype)
        stage.cell = Cell(len(self.windows))
        stage.strides = ordered_layout(extents, order or tuple(range(len(extents)))).strides
        values = self.rng.standard_normal(self.numbers(shape))
        self.windows[stage] = values.astype(numpy_dtype(stage.dtype))
        return stage

    def case(self, stages: list[Stage], outputs: list[Stage], **rest) -> Case:
        rows = {s: s.axes for s in stages}
        group = Group("contraction", stages, outputs, rows)
        return Case(group, self.windows, self.symbols, **rest)


def flat(stage: Stage, values: np.ndarray, symbols: dict[str, int]) -> np.ndarray:
    """The memory of a window's cell."""
    steps = [n.evaluate(lambda s: symbols[s.name]) for n in stage.strides]
    size = 1 + sum((n - 1) * s for n, s in zip(values.shape, steps, strict=True))
    memory = np.zeros(max(size, 1), values.dtype)
    view = np.lib.stride_tricks.as_strided(
        memory, values.shape, [s * values.itemsize for s in steps]
    )
    view[...] = values
    return memory


def ready(case: Case, target: Target = HOST) -> Ready:
    layouts: dict[Stage, Layout] = {}
    for stage in case.group.outputs:
        if stage.kind != "update":
            order = case.orders.get(stage, stage.order)
            layouts[stage] = ordered_layout(stage.shape, order)
    launches = schedule(case.group, layouts, target)
    for launch in launches:
        verify(launch.kernel)
    inputs = {s: flat(s, v, case.symbols) for s, v in case.windows.items()}
    return Ready(launches, layouts, inputs, case.symbols, case.numbers, target)


def check(case: Case, target: Target = HOST, tolerance: float = 0.0) -> None:
    """Compiled results agree with the stages' evaluation, and with any number of threads."""
    done = ready(case, target)
    windows = {s: v.copy() for s, v in case.windows.items()}
    by_cell = {s.cell: v for s, v in windows.items()}
    stages = [*windows, *case.group.stages]
    expected = evaluate(stages, lambda s: by_cell[s.cell], case.numbers, case.symbols)
    expected = {s: np.array(v) for s, v in expected.items()}
    results = []
    before = {key: array.copy() for key, array in done.memory.items()}
    for threads in (1, 2, 3):
        for key, array in before.items():
            done.memory[key][...] = array
        done.run(threads)
        results.append([done.result(s) for s in case.group.outputs])
    for later in results[1:]:
        for first, other in zip(results[0], later, strict=True):
            assert np.array_equal(first.view(np.uint8), other.view(np.uint8))
    for stage, made in zip(case.group.outputs, results[0], strict=True):
        wanted = expected[stage].astype(np.float64)
        bound = tolerance or {8: 1e-12, 4: 2e-5, 2: 2e-2}[made.itemsize]
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        assert made.shape == wanted.shape
        assert np.abs(made.astype(np.float64) - wanted).max(initial=0) <= bound * scale


Factor = Callable[..., Expression]


def matmul(
    maker: Maker,
    batch: Sequence[Index | int],
    m: Index | int,
    n: Index | int,
    k: Index | int,
    transposed: tuple[bool, bool] = (False, False),
) -> Stage:
    """``out[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n]``."""
    d = len(batch)
    swapped = (*range(d), d + 1, d)
    a = maker.window([*batch, m, k], swapped if transposed[0] else None)
    b = maker.window([*batch, k, n], swapped if transposed[1] else None)
    return maker.builder.reduce(
        "add",
        [*batch, m, n],
        [k],
        maker.dtype,
        lambda i, r: a[(*i[:d], i[d], r[0])] * b[(*i[:d], r[0], i[d + 1])],
    )


SHAPES = [
    ((), 64, 64, 64),
    ((), 7, 5, 3),
    ((), 1, 300, 70),
    ((), 300, 1, 70),
    ((), 33, 70, 1),
    ((), 40, 50, 0),
    ((), 0, 50, 20),
    ((), 40, 0, 20),
    ((0,), 4, 5, 2000),
    ((), 100, 130, 200),
    ((3,), 17, 19, 23),
    ((2, 2), 9, 33, 40),
    ((), 5, 12, 3000),
]


@TARGETS
@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrix_products(shape, transposed, target):
    maker = Maker()
    out = matmul(maker, *shape, transposed)
    check(maker.case([out], [out]), target)


@TARGETS
@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("shape", [((), 70, 96, 1024), ((), 200, 45, 1040)], ids=str)
def test_long_rows(shape, transposed, target):
    """Rows that compete for the same places in a cache, and such as follow one another there."""
    maker = Maker()
    out = matmul(maker, *shape, transposed)
    check(maker.case([out], [out]), target)


def planned(*shape: int, transposed: tuple[bool, bool] = (False, False)) -> Plan:
    maker = Maker()
    out = matmul(maker, [], *shape, transposed)
    target = replace(
        Target.of("x86_64-unknown-linux-gnu", {"avx512f", "avx512vl"}),
        l1_bytes=32 << 10,
        l2_bytes=1 << 20,
    )
    layouts: dict[Stage, Layout] = {out: ordered_layout(out.shape, out.order)}
    problem, parts = prepared(maker.case([out], [out]).group, layouts, target)
    return plan(problem, target, parts)


def test_rows_that_compete_for_a_cache_are_few_or_packed():
    for length in (1024, 2048, 4096):
        for transposed in (False, True):
            chosen = planned(1024, 1024, length, transposed=(False, transposed))
            (rows,) = chosen.factors.values()
            assert rows <= 6 or 0 in chosen.packed
    chosen = planned(1024, 1024, 1040)
    (rows,) = chosen.factors.values()
    assert rows > 8
    assert 0 not in chosen.packed


@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("m", [0, 1, 2, 13, 100])
@pytest.mark.parametrize("which", ["m", "n", "k", "batch"])
def test_extents_from_data(which, m, transposed):
    maker = Maker()
    symbol = maker.symbol("s0", m)
    shape = {"batch": 3, "m": 20, "n": 50, "k": 30, which: symbol}
    batch = [shape["batch"]] if which == "batch" else []
    out = matmul(maker, batch, shape["m"], shape["n"], shape["k"], transposed)
    check(maker.case([out], [out]))


class Convolution(NamedTuple):
    """Sizes of a convolution without padding; ``out`` are the result's spatial extents."""

    batch: int
    groups: int
    channels: int  # of the input, in a group
    filters: int  # in a group
    out: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    dilation: int = 1

    def size(self) -> list[int]:
        """The input's spatial extents."""
        reach = zip(self.out, self.kernel, strict=True)
        return [(o - 1) * self.stride + (k - 1) * self.dilation + 1 for o, k in reach]

    def at(self, out: Sequence[Index], tap: Sequence[Index]) -> list[Index]:
        """The input's position under a tap."""
        return [o * self.stride + k * self.dilation for o, k in zip(out, tap, strict=True)]


CONVOLUTIONS = {
    "1d": Convolution(3, 1, 5, 7, (20,), (3,)),
    "2d": Convolution(2, 1, 4, 20, (11, 13), (3, 3)),
    "first": Convolution(3, 1, 1, 16, (26, 26), (3, 3)),
    "pointwise": Convolution(2, 1, 20, 33, (6, 7), (1, 1)),
    "strided": Convolution(2, 1, 3, 18, (7, 9), (3, 2), stride=2),
    "dilated": Convolution(2, 1, 3, 18, (7, 9), (3, 2), dilation=2),
    "grouped": Convolution(2, 3, 4, 6, (5, 6), (3, 3)),
    "depthwise": Convolution(2, 40, 1, 1, (9, 8), (3, 3)),
    "3d": Convolution(2, 1, 2, 17, (4, 5, 6), (2, 3, 2)),
    "one": Convolution(1, 1, 1, 1, (1, 1), (1, 1)),
}


def order_of(d: int, is_last: bool) -> tuple[int, ...] | None:
    """Of (batch, group, channel, *spatial): channels innermost, or in order."""
    return (0, *range(3, 3 + d), 1, 2) if is_last else None


def convolution(maker: Maker, c: Convolution, is_last: bool, batch: Index | int) -> Stage:
    d = len(c.out)
    x = maker.window([batch, c.groups, c.channels, *c.size()], order_of(d, is_last))
    w = maker.window([c.groups, c.filters, c.channels, *c.kernel])
    return maker.builder.reduce(
        "add",
        [batch, c.groups, c.filters, *c.out],
        [c.channels, *c.kernel],
        maker.dtype,
        lambda i, r: x[(i[0], i[1], r[0], *c.at(i[3:], r[1:]))] * w[(i[1], i[2], r[0], *r[1:])],
    )


def weight_gradient(maker: Maker, c: Convolution, is_last: bool, batch: Index | int) -> Stage:
    d = len(c.out)
    x = maker.window([batch, c.groups, c.channels, *c.size()], order_of(d, is_last))
    g = maker.window([batch, c.groups, c.filters, *c.out], order_of(d, is_last))
    return maker.builder.reduce(
        "add",
        [c.groups, c.filters, c.channels, *c.kernel],
        [batch, *c.out],
        maker.dtype,
        lambda i, r: x[(r[0], i[0], i[2], *c.at(r[1:], i[3:]))] * g[(r[0], i[0], i[1], *r[1:])],
    )


def input_gradient(maker: Maker, c: Convolution, is_last: bool, batch: Index | int) -> Stage:
    """Of stride 1: the padded gradient under the flipped kernel."""
    d = len(c.out)
    reach = [(k - 1) * c.dilation for k in c.kernel]
    padded = [o + 2 * n for o, n in zip(c.out, reach, strict=True)]
    g = maker.window([batch, c.groups, c.filters, *padded], order_of(d, is_last))
    w = maker.window([c.groups, c.filters, c.channels, *c.kernel])
    size = [o + n for o, n in zip(c.out, reach, strict=True)]
    return maker.builder.reduce(
        "add",
        [batch, c.groups, c.channels, *size],
        [c.filters, *c.kernel],
        maker.dtype,
        lambda i, r: (
            g[(i[0], i[1], r[0], *[a + t * c.dilation for a, t in zip(i[3:], r[1:], strict=True)])]
            * w[(i[1], r[0], i[2], *[k - 1 - t for k, t in zip(c.kernel, r[1:], strict=True)])]
        ),
    )


@TARGETS
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("make", [convolution, weight_gradient, input_gradient])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_their_gradients(name, make, is_last, symbolic, target):
    sizes = CONVOLUTIONS[name]
    maker = Maker()
    batch = maker.symbol("s0", sizes.batch) if symbolic else sizes.batch
    out = make(maker, sizes, is_last, batch)
    order = order_of(len(sizes.out), is_last) if make is not weight_gradient else None
    orders = {out: order} if order else {}
    check(maker.case([out], [out], orders=orders), target)


# -- views that join dimensions ----------------------------------------------------------------


@TARGETS
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)])
@pytest.mark.parametrize("m", [1, 30])
def test_flattened_images_are_read_as_they_lie(m, order, target):
    """A linear layer after a convolution, and the layer's two gradients."""
    maker = Maker()
    b = maker.builder
    batch = maker.symbol("s0", m)
    x = maker.window([batch, 6, 5, 4], order)
    w, g = maker.window([120, 50]), maker.window([batch, 50])

    def flattened(i: Index, k: Index) -> Expression:
        return x[i, k // 20, k % 20 // 4, k % 4]

    out = b.reduce(
        "add", [batch, 50], [120], "float32", lambda i, r: flattened(i[0], r[0]) * w[r[0], i[1]]
    )
    check(maker.case([out], [out]), target)
    out = b.reduce(
        "add", [120, 50], [batch], "float32", lambda i, r: flattened(r[0], i[0]) * g[r[0], i[1]]
    )
    kept = b.map([120, 50], "float32", lambda i, j: out[i, j] + w[i, j])
    check(maker.case([out, kept], [kept]), target)


def test_views_that_cut_an_axis_unevenly():
    maker = Maker()
    x, w = maker.window([3, 7]), maker.window([20, 9])
    out = maker.builder.reduce(
        "add", [4, 9], [5], "float32", lambda i, r: x[r[0] // 2, i[0] + r[0] % 3] * w[r[0], i[1]]
    )
    check(maker.case([out], [out]))


# -- what is done with the sums ----------------------------------------------------------------


@TARGETS
@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
def test_bias_relu_and_residual(transposed, target):
    maker = Maker()
    m = maker.symbol("s0", 37)
    sums = matmul(maker, [], m, 45, 60, transposed)
    bias, residual = maker.window([45]), maker.window([m, 45], (1, 0))
    b = maker.builder
    biased = b.map([m, 45], "float32", lambda i, j: sums[i, j] + bias[j])
    out = b.map([m, 45], "float32", lambda i, j: b.max(biased[i, j], 0.0) + residual[i, j])
    check(maker.case([sums, biased, out], [out]), target)
    check(maker.case([sums, biased, out], [sums, biased, out], orders={out: (1, 0)}), target)


@TARGETS
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_long_ends_are_done_row_by_row(order, target):
    """More operations on each sum than can be written out for all of a tile."""
    maker = Maker()
    m = maker.symbol("s0", 131)
    sums = matmul(maker, [], m, 75, 40)
    bias, residual = maker.window([75]), maker.window([m, 75])
    b = maker.builder

    def element(i: Index, j: Index) -> Expression:
        value = sums[i, j] + bias[j]
        for _ in range(12):
            value = b.max(value * 0.75, residual[i, j]) - 0.5
        return value

    first = b.map([m, 75], "float32", element)
    second = b.map([m, 75], "float32", lambda i, j: first[i, j] * sums[i, j])
    case = maker.case([sums, first, second], [first, second], orders={second: order})
    layouts = {s: ordered_layout(s.shape, case.orders.get(s, s.order)) for s in (first, second)}
    assert schedule(case.group, layouts, target)[-1].kernel.scratch()
    check(case, target)


def update(maker: Maker, window: Stage, number: int, element: Callable[..., Expression]) -> Stage:
    """An update of all that a window shows."""
    made = maker.builder.map(window.shape, window.dtype, element)
    made.kind = "update"
    made.cell, made.strides = window.cell, window.strides
    made.readers = (window,)
    made.number = number
    return made


@pytest.mark.parametrize("k", [100, 70_000])
def test_momentum_and_weights_are_updated_in_place(k):
    maker = Maker()
    b = maker.builder
    batch = maker.symbol("s0", k)
    sums = matmul(maker, [], 12, 33, batch, (True, False))
    weight, momentum = maker.window([12, 33]), maker.window([12, 33])
    rate = b.cast(b.constant(0.5, "float64"), "float32")
    decayed = b.map([12, 33], "float32", lambda i, j: sums[i, j] + weight[i, j] * 0.1)
    moved = update(maker, momentum, 90, lambda i, j: momentum[i, j] * 0.9 + decayed[i, j])
    faster = b.map([12, 33], "float32", lambda i, j: momentum[i, j] * 0.9 + decayed[i, j])
    from taimatsu.ir.expression import number

    step = number(1, "float64")
    stepped = update(
        maker,
        weight,
        91,
        lambda i, j: weight[i, j] - faster[i, j] * b.cast(step, "float32") * rate,
    )
    stages = [sums, decayed, moved, faster, stepped]
    case = maker.case(stages, [sums, moved, stepped], numbers=(7.0, 0.01))
    done = ready(case)
    check_updates(case, done, weight, momentum)


def check_updates(case: Case, done: Ready, weight: Stage, momentum: Stage) -> None:
    """The recurrence, by NumPy, from the values before."""
    w, m = (case.windows[s].astype(np.float64) for s in (weight, momentum))
    a, b = (case.windows[s].astype(np.float64) for s in list(case.windows)[:2])
    g = a @ b
    done.run(2)
    moved = m * 0.9 + (g + w * 0.1)
    scale = np.abs(g).max()
    assert np.abs(done.result(case.group.outputs[0]) - g).max() <= 1e-5 * scale
    assert np.abs(done.result(case.group.outputs[1]) - moved).max() <= 1e-5 * scale
    assert np.abs(done.result(case.group.outputs[2]) - (w - moved * 0.005)).max() <= 1e-5 * scale


# -- dtypes and factors ------------------------------------------------------------------------


@TARGETS
@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("dtype", ["float64", "int64", "int32"])
def test_other_dtypes(dtype, transposed, target):
    maker = Maker(dtype=dtype)
    out = matmul(maker, [], 19, 27, 35, transposed)
    for stage in maker.windows:
        maker.windows[stage] = (maker.windows[stage] * 10).astype(dtype)
    check(maker.case([out], [out]), target)


@TARGETS
@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("m", [3, 50])
def test_half_precision_is_summed_in_single(dtype, m, transposed, target):
    maker = Maker(dtype=dtype)
    b = maker.builder
    a = maker.window([m, 40], (1, 0) if transposed[0] else None)
    w = maker.window([40, 37], (1, 0) if transposed[1] else None)
    sums = b.reduce(
        "add",
        [m, 37],
        [40],
        "float32",
        lambda i, r: b.cast(a[i[0], r[0]], "float32") * b.cast(w[r[0], i[1]], "float32"),
    )
    out = b.map([m, 37], dtype, lambda i, j: b.cast(sums[i, j], dtype))
    check(maker.case([sums, out], [out]), target)


@TARGETS
@pytest.mark.parametrize("m", [2, 60])
@pytest.mark.parametrize("is_row", [False, True])
def test_factors_that_are_computed(is_row, m, target):
    maker = Maker()
    b = maker.builder
    a, mask = maker.window([m, 70]), maker.window([m, 70])
    scale = maker.window([m] if is_row else [70])
    w = maker.window([70, 90])
    sums = b.reduce(
        "add",
        [m, 90],
        [70],
        "float32",
        lambda i, r: (
            (b.max(a[i[0], r[0]], 0.0) * mask[i[0], r[0]] + scale[i[0] if is_row else r[0]])
            * w[r[0], i[1]]
        ),
    )
    check(maker.case([sums], [sums]), target)
    other = b.reduce(
        "add", [m, 90], [70], "float32", lambda i, r: b.max(a[i[0], r[0]], 0.0) * w[r[0], i[1]]
    )
    check(maker.case([other], [other]), target)


# -- many shapes -------------------------------------------------------------------------------


def test_channels_of_windows_are_packed_where_steps_are_far():
    """Weight gradients of many channels: the memory itself is cut into panels."""
    for channels, filters in ((528, 40), (600, 70)):
        sizes = Convolution(2, 1, channels, filters, (6, 7), (3, 3))
        maker = Maker()
        out = weight_gradient(maker, sizes, True, maker.symbol("s0", 2))
        case = maker.case([out], [out])
        layouts = {out: ordered_layout(out.shape, out.order)}
        launches = schedule(case.group, layouts, HOST)
        images = [x for x in launches if next(iter(case.windows)) in x.memory]
        assert [x.kernel.name for x in images] == ["pack"]
        check(case)


@pytest.mark.parametrize("sizes", [(128, 200, 300), (100, 333, 500)])
def test_results_across_the_vectors_are_turned_in_registers(sizes):
    """Vectors along the rows of a small batch, results that follow one another along the other
    axis: no number is stored on its own.
    """
    maker = Maker()
    rows, columns, terms = sizes
    out = matmul(maker, [], maker.symbol("s0", rows), columns, terms, (False, True))
    bias = maker.window([columns])
    added = maker.builder.map(
        out.shape, "float32", lambda *i: maker.builder.max(out[i] + bias[i[1]], 0.0)
    )
    case = maker.case([out, added], [out, added])
    layouts = {s: ordered_layout(s.shape, s.order) for s in case.group.outputs}
    for target in (HOST, NARROW, PLAIN):
        kernel = schedule(case.group, layouts, target)[-1].kernel
        turns = any(type(s) is Transpose for s in statements(kernel.body))
        assert turns == (target.lanes(4) > 1)
        check(case, target)


def test_small_windows_are_finished_as_one_run():
    """Gradients of filters: the three taps of a row are no vector, but channels and taps follow one
    another.
    """
    maker = Maker()
    sizes = Convolution(3, 1, 50, 70, (5, 6), (3, 3))
    grad = weight_gradient(maker, sizes, True, maker.symbol("s0", 3))
    weight = maker.window(grad.shape)
    new = maker.builder.map(grad.shape, "float32", lambda *i: weight[i] - grad[i] * 0.1)
    case = maker.case([grad, new], [grad, new])
    layouts = {s: ordered_layout(s.shape, s.order) for s in case.group.outputs}
    problem, parts = prepared(case.group, layouts, HOST)
    chosen = plan(problem, HOST, parts)
    if HOST.lanes(4) > 4 and chosen.split is None:
        assert [v.extent for v in chosen.finish[-3:]] == [50, 3, 3]
    for target in (HOST, NARROW, PLAIN):
        check(case, target)


def gathers(kernel: Kernel) -> bool:
    """Whether vectors are loaded whose elements do not follow one another."""
    for lane, stores in vector_loops(kernel.body):
        for node in (n for s in stores for n in ex.walk(s.value)):
            if node.op == "load" and node.detail[0].scope == "argument":
                if node.detail[1][0].stride(lane).hint() > 1:
                    return True
    return False


def vector_loops(body: Iterable[Any]) -> Iterator[tuple[Any, list[Store]]]:
    for statement in body:
        if isinstance(statement, Loop) and statement.kind == "vector":
            yield statement.var, [s for s in statement.body if isinstance(s, Store)]
        elif isinstance(statement, (Loop, Allocate)):
            yield from vector_loops(statement.body)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)])
@pytest.mark.parametrize("channels", [6, 37])
@pytest.mark.parametrize("make", [convolution, input_gradient])
def test_weights_of_windows_are_turned_as_rows(make, channels, kernel):
    """Taps and channels that lie one after the other are read in whole lines, not one by one."""
    maker = Maker()
    sizes = Convolution(4, 1, channels, 70, (12, 12), kernel)
    out = make(maker, sizes, True, sizes.batch)
    case = maker.case([out], [out])
    layouts = {out: ordered_layout(out.shape, out.order)}
    target = Target.of("x86_64-unknown-linux-gnu", {"avx512f", "avx512vl"})
    launches = schedule(case.group, layouts, target)
    packs = [x.kernel for x in launches if x.kernel.name == "pack"]
    assert packs
    assert not any(gathers(kernel) for kernel in packs)
    for target in (HOST, NARROW, PLAIN):
        check(case, target)


@pytest.mark.parametrize("seed", range(40))
def test_random_products(seed):
    """Shapes, layouts, symbols and outputs drawn at random."""
    rng = np.random.default_rng(seed)
    target = (HOST, NARROW, PLAIN)[seed % 3]
    maker = Maker(seed, ("float32", "float32", "float64")[int(rng.integers(3))])
    names = iter(["s0", "s1", "s2", "s3", "s4"])

    def extent(most: int) -> Index | int:
        size = int(rng.integers(1, most)) if rng.random() < 0.8 else 1
        return maker.symbol(next(names), size) if rng.random() < 0.3 else size

    batch = [extent(5) for _ in range(int(rng.integers(0, 3)))]
    transposed = (bool(rng.integers(2)), bool(rng.integers(2)))
    m, n = extent(90), extent(90)
    out = matmul(maker, batch, m, n, extent(150), transposed)
    shape = [*batch, m, n]
    order = tuple(int(d) for d in rng.permutation(len(shape)))
    bias = maker.window([n])
    b = maker.builder
    added = b.map(shape, maker.dtype, lambda *i: b.max(out[i] + bias[i[-1]], 0.25))
    outputs = [added] if rng.random() < 0.5 else [out, added]
    check(maker.case([out, added], outputs, orders={added: order}), target)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("make", [convolution, weight_gradient, input_gradient])
def test_random_convolutions(make, seed):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 4))
    sizes = Convolution(
        batch=int(rng.integers(1, 7)),
        groups=int(rng.choice([1, 1, 1, 2, 5])),
        channels=int(rng.choice([1, 2, 3, 8, 20, 33])),
        filters=int(rng.choice([1, 2, 6, 16, 40])),
        out=tuple(int(n) for n in rng.integers(1, (40, 12, 6)[d - 1], d)),
        kernel=tuple(int(n) for n in rng.integers(1, 4, d)),
        stride=1 if make is input_gradient else int(rng.integers(1, 3)),
        dilation=int(rng.integers(1, 3)),
    )
    maker = Maker(seed)
    batch = maker.symbol("s0", sizes.batch) if rng.random() < 0.5 else sizes.batch
    out = make(maker, sizes, bool(rng.integers(2)), batch)
    order = order_of(d, bool(rng.integers(2))) if make is not weight_gradient else None
    case = maker.case([out], [out], orders={out: order} if order else {})
    check(case, (HOST, NARROW, PLAIN)[seed % 3])
