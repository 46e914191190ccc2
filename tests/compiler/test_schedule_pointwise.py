"""Maps and updates as kernels, against what their stages mean."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from codegen_kernels import TARGETS
from schedule_runner import check, compiled

from taimatsu.compiler.groups import Group, Layout
from taimatsu.ir import expression as ex
from taimatsu.ir.index import Symbol, index
from taimatsu.ir.loops import Loop, statements
from taimatsu.ir.printer import kernel_text
from taimatsu.ir.stages import Stage

RNG = np.random.default_rng(7)
N = Symbol("n0", 64)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def update(b: Any, window: Any, element: Any, readers: tuple = ()) -> Stage:
    """Writes elements into what a window sees."""
    stage = b.map(window.shape, window.dtype, element)
    stage.kind = "update"
    stage.cell = window.stage.cell
    stage.strides = window.stage.strides
    stage.offset = window.stage.offset
    stage.readers = (window.stage, *readers)
    return stage


def alone(stages: list[Stage], outputs: Any) -> list[Group]:
    """All stages in one group, whose rows are all axes."""
    own = [s for s in stages if s.kind != "window"]
    return [Group("loops", own, list(outputs), {s: s.axes for s in own})]


def chain(b: Any, s: Any) -> list[Stage]:
    x, y = s.window(0), s.window(1)
    return [
        b.map(
            x.shape,
            "float32",
            lambda *i: b.tanh(x[i]) * b.sigmoid(y[i]) + b.exp(x[i]),
        )
    ]


@pytest.mark.parametrize("shape", [(1,), (15,), (16,), (17,), (1000,), (7, 1, 9), (100003,)])
def test_chain(shape: tuple[int, ...]) -> None:
    check(chain, {0: numbers(*shape), 1: numbers(*shape)})


def test_no_elements_and_no_dimensions() -> None:
    check(chain, {0: numbers(0), 1: numbers(0)})
    check(chain, {0: numbers(), 1: numbers()})
    check(chain, {0: numbers(3, 0, 2), 1: numbers(3, 0, 2)})


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_targets(target: str) -> None:
    check(chain, {0: numbers(999), 1: numbers(999)}, target=TARGETS[target])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads: int) -> None:
    check(chain, {0: numbers(300_000), 1: numbers(300_000)}, threads=threads)


def test_contiguous_maps_of_all_sizes_are_one_code() -> None:
    texts = set()
    for shape in ((17,), (40, 50), (3, 5, 7, 9), (200_000,)):
        made = compiled(chain, {0: numbers(*shape), 1: numbers(*shape)})
        texts.add(kernel_text(made.launches[0].kernel))
    assert len(texts) == 1


def test_chunks_follow_from_extents() -> None:
    small = compiled(chain, {0: numbers(100), 1: numbers(100)}).launches[0]
    large = compiled(chain, {0: numbers(500_000), 1: numbers(500_000)}).launches[0]

    def chunks(launch: Any) -> int:
        total = launch.extents["total"].value()
        found: int = launch.kernel.chunks.evaluate(lambda symbol: total)
        return found

    assert chunks(small) == 1
    assert chunks(large) > 8
    assert large.bytes.value() == 3 * 4 * 500_000
    assert large.flops.value() == 5 * 500_000


@pytest.mark.parametrize("shape", [(1, 7), (5, 33), (16, 16), (65, 130), (1000, 3)])
def test_transposition(shape: tuple[int, int]) -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        return [b.map(shape[::-1], "float32", lambda i, j: x[j, i] + 1.0)]

    check(write, {0: numbers(*shape)}, threads=2)


def test_sum_of_what_is_read_along_and_across() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y, z = s.window(0), s.window(1), s.window(2)
        return [b.map((150, 200), "float32", lambda i, j: x[j, i] * y[i, j] + z[j, i])]

    arrays = {0: numbers(200, 150), 1: numbers(150, 200), 2: numbers(200, 150)}
    check(write, arrays, threads=2)


def test_permutation_of_four_axes() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        n, h, w, c = x.shape
        return [b.map((n, c, h, w), "float32", lambda n, c, h, w: x[n, h, w, c])]

    check(write, {0: numbers(3, 5, 7, 20)})
    check(write, {0: numbers(2, 33, 17, 64)}, threads=3)


def test_results_in_another_order() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        made = b.map(x.shape, "float32", lambda *i: x[i] * 2.0)
        made.order = (0, 2, 3, 1)
        return [made]

    check(write, {0: numbers(3, 5, 4, 6)})
    check(write, {0: np.asfortranarray(numbers(3, 5, 4, 6))})


def test_results_with_a_halo() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        return [b.map(x.shape, "float32", lambda *i: x[i] * 2.0)]

    def layout(stage: Stage) -> Layout:
        return Layout((index(20), index(1)), index(200), index(42))

    check(write, {0: numbers(6, 15)}, layouts=layout)


@pytest.mark.parametrize("shape", [(10, 20, 30), (1000, 3, 5), (3, 5, 5000)])
def test_broadcasting(shape: tuple[int, ...]) -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y, z = s.window(0), s.window(1), s.window(2)
        return [b.map(shape, "float32", lambda i, j, k: x[i, j, k] * y[j] + z[k])]

    check(write, {0: numbers(*shape), 1: numbers(shape[1]), 2: numbers(shape[2])}, threads=2)


def test_strided_windows() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0), s.window(1)
        return [b.map(x.shape, "float32", lambda i, j: x[i, j] - y[i, j])]

    check(write, {0: numbers(40, 60)[::2, ::3], 1: numbers(20, 20).T})


def test_gather_with_checks() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        table, rows = s.window(0), s.window(1)
        most = table.shape[0].constant - 1

        def element(n: Any, d: Any) -> Any:
            return table[b.max(b.min(rows[n], most), 0), d]

        made = b.map((rows.shape[0], table.shape[1]), "float32", element)
        return [b.check(made, [b.inside(rows[made.axes[0]], table.shape[0])], "out of range")]

    table, rows = numbers(30, 50), RNG.integers(0, 30, 77)
    check(write, {0: table, 1: rows}, threads=2)
    rows[70] = 30
    with pytest.raises(IndexError, match="out of range"):
        compiled(write, {0: table, 1: rows})


def test_symbolic_extents() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0, (N, 12)), s.window(1)
        return [
            b.map(x.shape, "float32", lambda i, j: x[i, j] + y[j]),
            b.map((12, N), "float32", lambda i, j: x[j, i] * 2.0),
            b.map(x.shape, "float32", lambda i, j: -x[i, j]),
        ]

    texts = set()
    for n in (0, 1, 2, 17, 64, 3000):
        arrays = {0: numbers(n, 12), 1: numbers(12)}
        made = check(write, arrays, {"n0": n}, threads=2)
        texts.add("".join(kernel_text(x.kernel) for x in made.launches))
    assert len(texts) == 1


def test_halves() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)

        def element(*i: Any) -> Any:
            return b.cast(b.exp(b.cast(x[i], "float32")) * 3.0, x.dtype)

        return [b.map(x.shape, x.dtype, element)]

    for dtype in (np.float16, ml_dtypes.bfloat16):
        check(write, {0: numbers(100, dtype=dtype)}, tolerance=1e-2)


def test_integers_and_truth_values() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0), s.window(1)
        return [
            b.map(x.shape, "bool", lambda i: (x[i] > 3) & y[i]),
            b.map(x.shape, "int64", lambda i: x[i] * 3 + b.index(i)),
            b.map(x.shape, "uint8", lambda i: b.cast(x[i], "uint8")),
        ]

    check(write, {0: RNG.integers(0, 9, 500), 1: RNG.integers(0, 2, 500).astype(bool)})


def test_numbers_are_read_at_launch() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        scale = ex.cast(ex.number(1, "float64"), "float32")
        shift = ex.cast(ex.number(0, "int64"), "float32")
        return [b.map(x.shape, "float32", lambda i: x[i] * scale + shift)]

    check(write, {0: numbers(50)}, numbers=[3, 0.5])


def momentum(b: Any, s: Any) -> list[Stage]:
    p, g, m = s.window(0), s.window(1), s.window(2)
    rate = ex.cast(ex.number(0, "float64"), "float32")
    moved = b.map(p.shape, "float32", lambda *i: m[i] * 0.9 + g[i])
    written = update(b, m, lambda *i: moved[i])
    return [written, update(b, p, lambda *i: p[i] - rate * moved[i])]


@pytest.mark.parametrize("shape", [(5,), (30, 40), (100_000,)])
def test_updates(shape: tuple[int, ...]) -> None:
    arrays = {k: numbers(*shape) for k in range(3)}
    made = check(momentum, arrays, numbers=[0.1], threads=2)
    assert not np.array_equal(made.arrays[0], arrays[0])


def test_update_of_a_part() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0), s.window(1)
        return [update(b, x, lambda i, j: x[i, j] * 2.0 + y[j])]

    check(write, {0: numbers(20, 30)[::2, 5:25:3], 1: numbers(7)})


def test_old_values_are_read_before_they_are_overwritten() -> None:
    """One kernel that writes two arrays, each from the old content of both."""

    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0), s.window(1)
        total = b.map(x.shape, "float32", lambda i: x[i] + y[i])
        return [
            update(b, x, lambda i: total[i] * y[i], (y.stage,)),
            update(b, y, lambda i: total[i] * x[i], (x.stage,)),
        ]

    x, y = numbers(1000), numbers(1000)
    made = compiled(write, {0: x, 1: y}, grouped=alone)
    np.testing.assert_allclose(made.arrays[0], (x + y) * y, rtol=1e-6)
    np.testing.assert_allclose(made.arrays[1], (x + y) * x, rtol=1e-6)


def test_rows_are_vectors() -> None:
    made = compiled(chain, {0: numbers(1000), 1: numbers(1000)})
    loops = [x for x in statements(made.launches[0].kernel.body) if isinstance(x, Loop)]
    assert [x.kind for x in loops] == ["parallel", "vector"]


def part_of(s: Any, window: Any, begin: int, count: int) -> Any:
    """A window of the same cell from an element on."""
    made = s.window(0, (count,))
    made.stage.cell = window.stage.cell
    made.stage.offset = begin
    return made


@pytest.mark.parametrize("begin", [1, 5000])
def test_what_is_overwritten_is_read_elsewhere(begin: int) -> None:
    """The old values count, whatever the order of iterations."""

    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        old, new = part_of(s, x, 0, 5000), part_of(s, x, begin, 5000)
        return [update(b, new, lambda i: old[i] * 2.0 + 1.0, (old.stage,))]

    x = numbers(10_000)
    made = compiled(write, {0: x}, grouped=alone, threads=2)
    wanted = x.copy()
    wanted[begin : begin + 5000] = x[:5000] * np.float32(2.0) + np.float32(1.0)
    np.testing.assert_array_equal(made.arrays[0], wanted)
    assert len(made.launches) == (2 if begin == 1 else 1)


def test_transposition_in_place() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x = s.window(0)
        return [update(b, x, lambda i, j: x[j, i] * 2.0)]

    x = numbers(70, 70)
    made = compiled(write, {0: x}, grouped=alone)
    np.testing.assert_array_equal(made.arrays[0], x.T * np.float32(2.0))


def test_what_was_written_is_read_elsewhere() -> None:
    """A window after an update of the same group, at other elements than it writes."""

    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0), s.window(1)
        twice = b.map(y.shape, "float32", lambda i: y[i] * 2.0)
        written = update(b, x, lambda i: twice[i] + x[i])
        after = s.window(0)
        after.stage.cell, after.stage.after = x.stage.cell, written
        last = x.shape[0] - 1
        return [
            written,
            b.map(x.shape, "float32", lambda i: after[last - i] - twice[i]),
            b.map(x.shape, "float32", lambda i: after[i] + twice[i]),
        ]

    x, y = numbers(5000), numbers(5000)
    made = compiled(write, {0: x, 1: y}, grouped=alone, threads=2)
    new = y * np.float32(2.0) + x
    np.testing.assert_array_equal(made.arrays[0], new)
    np.testing.assert_allclose(made.values[0], new[::-1] - y * 2, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(made.values[1], new + y * 2, rtol=1e-6, atol=1e-6)


def test_what_was_written_apart_is_read_in_the_same_kernel() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, y = s.window(0), s.window(1)
        first, second = part_of(s, x, 0, 500), part_of(s, x, 500, 500)
        twice = b.map(y.shape, "float32", lambda i: y[i] * 2.0)
        written = update(b, first, lambda i: twice[i] + first[i])
        second.stage.after = written
        return [written, b.map(y.shape, "float32", lambda i: second[i] - twice[i])]

    x, y = numbers(1000), numbers(500)
    made = compiled(write, {0: x, 1: y}, grouped=alone)
    assert len(made.launches) == 1
    np.testing.assert_allclose(made.arrays[0][:500], y * 2 + x[:500], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(made.values[0], x[500:] - y * 2, rtol=1e-6, atol=1e-6)
