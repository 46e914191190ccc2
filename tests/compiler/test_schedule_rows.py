"""Reductions, softmax, norms and scans as kernels, against what their stages mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from codegen_kernels import TARGETS
from schedule_runner import Write, check, compiled

from taimatsu.compiler.groups import Group
from taimatsu.ir.index import Symbol
from taimatsu.ir.printer import kernel_text
from taimatsu.ir.stages import Stage

RNG = np.random.default_rng(11)
N = Symbol("n0", 64)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def reduction(
    op: str, over: Sequence[int], dtype: str = "float32", of: Callable | None = None
) -> Write:
    """A reduction of the first input over some of its dimensions."""

    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        kept = [d for d in range(x.ndim) if d not in over]

        def element(i: Any, r: Any) -> Any:
            where: list[Any] = [None] * x.ndim
            for d, c in zip((*kept, *over), (*i, *r), strict=True):
                where[d] = c
            value = x[tuple(where)]
            return value if of is None else of(b, value)

        result = "int64" if op.startswith("arg") else dtype
        shape, extents = [x.shape[d] for d in kept], [x.shape[d] for d in over]
        return [b.reduce(op, shape, extents, result, element)]

    return write


def softmax(dim: int) -> Write:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        rest = [n for d, n in enumerate(x.shape) if d != dim]
        along = [x.shape[dim]]

        def at(i: Any, r: Any) -> tuple:
            return (*i[:dim], *r, *i[dim:])

        def row(i: Any) -> tuple:
            return tuple([c for d, c in enumerate(i) if d != dim])

        most = b.reduce("max", rest, along, "float32", lambda i, r: x[at(i, r)])
        e = b.map(x.shape, "float32", lambda *i: b.exp(x[i] - most[row(i)]))
        total = b.reduce("add", rest, along, "float32", lambda i, r: e[at(i, r)])
        return [b.map(x.shape, "float32", lambda *i: e[i] / total[row(i)])]

    return write


def norm(b: Any, s: Any) -> list[Stage]:
    x = s.window(0)
    n, k = x.shape
    count = b.cast(b.index(k), "float32")
    total = b.reduce("add", [n], [k], "float32", lambda i, r: x[i[0], r[0]])
    mean = b.map([n], "float32", lambda i: total[i] / count)
    squares = b.reduce(
        "add",
        [n],
        [k],
        "float32",
        lambda i, r: (x[i[0], r[0]] - mean[i[0]]) * (x[i[0], r[0]] - mean[i[0]]),
    )
    scale = b.map([n], "float32", lambda i: b.rsqrt(squares[i] / count + 1e-5))
    return [b.map(x.shape, "float32", lambda i, j: (x[i, j] - mean[i]) * scale[i]), mean, scale]


def scan(op: str, dim: int, reverse: bool = False) -> Write:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        dtype = "int64" if op.startswith("arg") else x.dtype
        return [b.scan(op, x.shape, dim, dtype, lambda *i: x[i], reverse)]

    return write


CASES = [
    ((1,), (0,)),
    ((17,), (0,)),
    ((5000,), (0,)),
    ((64, 100), (1,)),
    ((100, 64), (0,)),
    ((100, 7), (0,)),
    ((1000, 10), (1,)),
    ((1000, 10), (0,)),
    ((6, 4, 7, 7), (0, 2, 3)),
    ((6, 7, 7, 4), (0, 1, 2)),
    ((5, 6, 7), (1,)),
    ((5, 6, 7), (0, 2)),
    ((2, 2, 3, 4, 4), (1, 3, 4)),
    ((1, 8), (0,)),
    ((8, 1), (0, 1)),
    ((3, 9000), (1,)),
]


@pytest.mark.parametrize("op", ["add", "mul", "max", "min", "argmax", "argmin"])
@pytest.mark.parametrize(("shape", "over"), CASES)
def test_reductions(op: str, shape: tuple, over: tuple) -> None:
    x = numbers(*shape)
    if op == "mul":
        x = (1 + 0.01 * x).astype(np.float32)
    check(reduction(op, over), {0: x}, tolerance=1e-5)


@pytest.mark.parametrize("shape", [(400_000,), (2, 3, 90_000), (100_000, 3), (3, 120_000)])
@pytest.mark.parametrize("op", ["add", "max", "argmax"])
def test_long_reductions_are_divided(op: str, shape: tuple) -> None:
    over = {1: (0,), 3: (1, 2)}.get(len(shape), (int(shape[0] < shape[-1]),))
    x = numbers(*shape)
    results = []
    for threads in (1, 2, 3):
        made = check(reduction(op, over), {0: x}, tolerance=1e-3, threads=threads)
        results.append(made.values[0])
    assert len(made.launches) == 2
    assert all(np.array_equal(r, results[0]) for r in results)


@pytest.mark.parametrize("columns", [200, 1024])
def test_sums_of_long_columns_are_divided(columns: int) -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0), s.window(1)
        n, k = x.shape
        products = b.reduce("add", [k], [n], "float32", lambda i, r: x[*r, *i] * y[*r, *i])
        return [products, b.reduce("add", [k], [n], "float32", lambda i, r: x[*r, *i])]

    given = {0: numbers(1500, columns), 1: numbers(1500, columns)}
    results = []
    for threads in (1, 2, 3):
        made = check(write, given, tolerance=1e-3, threads=threads)
        results.append(made.values)
    assert len(made.groups) == 1
    assert len(made.launches) == 2
    assert all(np.array_equal(a, b) for r in results for a, b in zip(r, results[0], strict=True))


def test_sums_are_as_exact_as_pairwise_ones() -> None:
    x = RNG.random(3_000_000, np.float32)
    exact = x.astype(np.float64).sum()
    made = compiled(reduction("add", (0,)), {0: x})
    assert abs(made.values[0] - exact) <= 4e-7 * exact
    rows = compiled(reduction("add", (0,)), {0: x[: 64 * 40_000].reshape(-1, 64)})
    exact_rows = x[: 64 * 40_000].reshape(-1, 64).astype(np.float64).sum(0)
    assert np.all(np.abs(rows.values[0] - exact_rows) <= 4e-7 * exact_rows)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_targets(target: str) -> None:
    for op in ("add", "argmin"):
        for over in ((0,), (1,), (0, 1)):
            check(reduction(op, over), {0: numbers(50, 70)}, tolerance=1e-5, target=TARGETS[target])
    check(softmax(1), {0: numbers(40, 50)}, target=TARGETS[target])


@pytest.mark.parametrize("shape", [(40,), (5, 40), (40, 5), (33, 100), (2, 300_000)])
def test_extremes_of_equal_values_and_nan(shape: tuple) -> None:
    """The first one counts; nan counts most."""
    for x in (
        np.zeros(shape, np.float32),
        np.full(shape, -np.inf, np.float32),
        RNG.integers(0, 3, shape).astype(np.float32),
        np.where(RNG.random(shape) < 0.1, np.nan, numbers(*shape)).astype(np.float32),
    ):
        for op in ("argmax", "argmin", "max", "min"):
            for over in [(d,) for d in range(x.ndim)] + [tuple(range(x.ndim))]:
                check(reduction(op, over), {0: x})


def test_integers_and_truth_values() -> None:
    x = RNG.integers(-5, 5, (30, 50))
    for op in ("add", "max", "min", "argmax", "xor"):
        for over in ((0,), (1,), (0, 1)):
            check(reduction(op, over, "int64"), {0: x})
    truth = RNG.random((30, 50)) < 0.05
    for op in ("and", "or"):
        for over in ((0,), (1,), (0, 1)):
            check(reduction(op, over, "bool"), {0: truth})
            check(reduction(op, over, "bool"), {0: ~truth})
    counted = reduction("add", (1,), "int64", lambda b, v: b.cast(v, "int64"))
    check(counted, {0: truth})


def test_float64_and_halves() -> None:
    for over in ((0,), (1,)):
        check(reduction("add", over, "float64"), {0: numbers(30, 50, dtype=np.float64)})
        wide = reduction("add", over, "float32", lambda b, v: b.cast(v, "float32"))
        check(wide, {0: numbers(30, 50, dtype=np.float16)}, tolerance=1e-5)


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((64, 1000), 1), ((200, 10), 1), ((33, 16), 1), ((50, 7), 0), ((4, 21, 6, 7), 1), ((1, 9), 1)],
)
def test_softmax(shape: tuple, dim: int) -> None:
    x = numbers(*shape)
    first = check(softmax(dim), {0: x}, threads=1).values[0]
    for threads in (2, 3):
        again = check(softmax(dim), {0: x}, threads=threads).values[0]
        assert np.array_equal(first, again)


def grouped(
    rows: Callable[[Stage], tuple],
) -> Callable[[list[Stage], Sequence[Stage]], list[Group]]:
    """All stages in one group with the rows that are given."""

    def together(stages: list[Stage], outputs: Sequence[Stage]) -> list[Group]:
        own = [s for s in stages if s.kind != "window"]
        return [Group("loops", own, list(outputs), {s: rows(s) for s in own})]

    return together


def test_softmax_along_an_outer_axis_in_one_kernel() -> None:
    """Rows of pixels: channels are gone through for a vector of pixels at a time."""

    def rows(stage: Stage) -> tuple:
        return (stage.axes[0], *stage.axes[-2:])

    for shape in ((3, 21, 6, 7), (2, 5, 40, 33)):
        made = check(softmax(1), {0: numbers(*shape)}, grouped=grouped(rows), threads=2)
        assert len(made.launches) == 1


def test_reductions_that_keep_axes_inside_of_a_row() -> None:
    """Statistics of channels within samples, and what is computed with them."""

    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        n, h, w, c = x.shape
        mean = b.reduce("add", (n, c), (h, w), "float32", lambda i, r: x[i[0], *r, i[1]])
        most = b.reduce("max", (n, c), (h, w), "float32", lambda i, r: x[i[0], *r, i[1]])
        return [
            b.map(x.shape, "float32", lambda n, h, w, c: x[n, h, w, c] - mean[n, c]),
            b.reduce(
                "add", (n,), (c,), "float32", lambda i, r: mean[i[0], r[0]] + most[i[0], r[0]]
            ),
        ]

    def rows(stage: Stage) -> tuple:
        return stage.axes[:1]

    for shape in ((3, 5, 6, 64), (4, 9, 9, 3), (40, 30, 2, 5), (2, 8, 16, 40)):
        check(write, {0: numbers(*shape)}, grouped=grouped(rows), tolerance=1e-4, threads=2)
        turned = np.moveaxis(numbers(*shape).reshape(shape[0], shape[3], *shape[1:3]), 1, 3)
        check(write, {0: turned}, grouped=grouped(rows), tolerance=1e-4, threads=2)


@pytest.mark.parametrize("shape", [(64, 1000), (200, 10), (1000, 256), (7, 33), (3, 5000)])
def test_norm(shape: tuple) -> None:
    check(norm, {0: numbers(*shape)}, tolerance=2e-5, threads=2)


def test_few_long_rows_in_one_group_are_divided() -> None:
    """Values of the row that later kernels read are kept in temporary memory."""

    def rows(stage: Stage) -> tuple:
        return stage.axes[:1]

    made = check(softmax(1), {0: numbers(2, 100_000)}, grouped=grouped(rows), tolerance=1e-5)
    assert len(made.launches) > 2
    made = check(norm, {0: numbers(3, 90_000)}, grouped=grouped(rows), tolerance=1e-4, threads=3)
    assert len(made.launches) > 2


@pytest.mark.parametrize(
    ("shape", "dim"), [((40, 70), 1), ((70, 40), 0), ((1000,), 0), ((5, 1, 3), 1), ((3, 40, 5), 1)]
)
@pytest.mark.parametrize("op", ["add", "mul", "max", "argmax", "argmin"])
def test_scans(op: str, shape: tuple, dim: int) -> None:
    x = (1 + 0.1 * numbers(*shape)).astype(np.float32)
    for reverse in (False, True):
        check(scan(op, dim, reverse), {0: x}, tolerance=1e-4, threads=2)
    check(scan(op, dim), {0: RNG.integers(-3, 3, shape)})


@pytest.mark.parametrize("shape", [(40, 70), (3, 20, 33), (35, 16), (20, 100)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_scans_along_memory_read_squares_that_are_turned(shape: tuple, dtype: str) -> None:
    x = (9 * numbers(*shape)).astype(dtype)
    for reverse in (False, True):
        write = scan("add", len(shape) - 1, reverse)
        made = check(write, {0: x}, tolerance=1e-3, threads=2)
        assert "transpose" in "".join(kernel_text(n.kernel) for n in made.launches)


@pytest.mark.parametrize("shape", [(40, 33), (3, 500), (1, 7)])
def test_maps_and_reductions_of_scans_in_one_group(shape: tuple) -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        sums = b.scan("add", x.shape, 1, "float32", lambda i, j: x[i, j])
        most = b.reduce("max", x.shape[:1], x.shape[1:], "float32", lambda i, r: sums[i[0], r[0]])
        return [b.map(x.shape, "float32", lambda i, j: sums[i, j] - most[i]), most]

    def rows(stage: Stage) -> tuple:
        return tuple([v for v in stage.axes[:1] if v.extent != 1])

    check(write, {0: numbers(*shape)}, grouped=grouped(rows), tolerance=1e-4, threads=2)


def test_symbolic_extents() -> None:
    def with_symbol(write: Write) -> Write:
        class First:
            def __init__(self, source: Any) -> None:
                self.source = source

            def window(self, slot: int) -> Any:
                shape = self.source.arrays[slot].shape
                return self.source.window(slot, (N, *shape[1:]))

        return lambda b, s: write(b, First(s))  # type: ignore[arg-type]

    cases: list[tuple[Write, tuple[int, ...]]] = [
        (softmax(1), (10,)),
        (softmax(1), (1000,)),
        (norm, (100,)),
        (reduction("add", (0,)), (40,)),
        (reduction("add", (0,)), (4096,)),
        (reduction("add", (0,)), ()),
        (reduction("add", (0, 1)), (33,)),
        (reduction("add", (0, 2)), (3, 17)),
        (reduction("max", (1,)), (20,)),
        (scan("add", 0), (20,)),
        (scan("add", 1), (20,)),
    ]
    for write, rest in cases:
        texts = set()
        for n in (0, 1, 7, 64, 1000):
            made = check(with_symbol(write), {0: numbers(n, *rest)}, {"n0": n}, tolerance=1e-4)
            texts.add("".join(kernel_text(x.kernel) for x in made.launches))
        assert len(texts) == 1


def test_pooling() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        n, c, h, w = (m.constant for m in x.shape)
        shape = (n, c, h // 2, w // 2)

        def element(i: Any, r: Any) -> Any:
            return x[i[0], i[1], i[2] * 2 + r[0], i[3] * 2 + r[1]]

        return [
            b.reduce("max", shape, (2, 2), "float32", element),
            b.reduce("argmax", shape, (2, 2), "int64", element),
            b.reduce("add", shape, (2, 2), "float32", element),
        ]

    check(write, {0: numbers(3, 5, 8, 28)}, threads=2)
    check(write, {0: np.moveaxis(numbers(3, 8, 28, 16), 3, 1)}, threads=2)
