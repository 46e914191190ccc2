"""Scatters as kernels, against what their stages mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_kernels import TARGETS
from schedule_runner import Write, check, compiled

from taimatsu.compiler.groups import Group
from taimatsu.ir.stages import Stage

RNG = np.random.default_rng(13)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def into_rows(op: str) -> Write:
    """Rows of the third input come into the rows of the first that the second says."""

    def write(b: Any, s: Any) -> list[Stage]:
        x, rows, values = s.window(0), s.window(1), s.window(2)
        most = x.shape[0].constant - 1
        start = b.map(x.shape, "float32", lambda i, j: x[i, j] * 0.5)

        def where(n: Any, d: Any) -> tuple:
            return b.max(b.min(rows[n], most), 0), d

        made = b.scatter(start, values.shape, where, lambda n, d: values[n, d], op)
        return [b.check(made, [b.inside(rows[made.axes[0]], x.shape[0])], "out of range")]

    return write


@pytest.mark.parametrize("op", ["add", "replace", "max", "min", "mul"])
@pytest.mark.parametrize("sizes", [(10, 64, 300), (1000, 50, 77), (5, 3, 20), (3, 1, 5)])
def test_rows(op: str, sizes: tuple[int, int, int]) -> None:
    rows, columns, points = sizes
    arrays = {
        0: numbers(rows, columns),
        1: RNG.integers(0, rows, points),
        2: numbers(points, columns),
    }
    results = []
    for threads in (1, 2, 3):
        results.append(check(into_rows(op), arrays, tolerance=1e-4, threads=threads).values[0])
    assert all(np.array_equal(r, results[0]) for r in results)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_targets(target: str) -> None:
    arrays = {0: numbers(9, 21), 1: RNG.integers(0, 9, 40), 2: numbers(40, 21)}
    check(into_rows("add"), arrays, tolerance=1e-5, target=TARGETS[target])


def test_checks() -> None:
    arrays = {0: numbers(9, 21), 1: RNG.integers(0, 9, 40), 2: numbers(40, 21)}
    arrays[1][39] = 9
    with pytest.raises(IndexError, match="out of range"):
        compiled(into_rows("add"), arrays)


def test_counts() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        values = s.window(0)
        start = b.map([10], "int64", lambda i: b.constant(0, "int64"))
        one = b.constant(1, "int64")
        return [b.scatter(start, values.shape, lambda n: (values[n],), lambda n: one)]

    check(write, {0: RNG.integers(0, 10, 1000)}, threads=2)


@pytest.mark.parametrize("op", ["add", "replace"])
def test_places_within_rows(op: str) -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, places, values = s.window(0), s.window(1), s.window(2)

        def element(n: Any, k: Any) -> Any:
            return values[n, k]

        return [b.scatter(x, places.shape, lambda n, k: (n, places[n, k]), element, op)]

    arrays = {0: numbers(40, 30), 1: RNG.integers(0, 30, (40, 17)), 2: numbers(40, 17)}
    check(write, arrays, tolerance=1e-5, threads=2)


def test_places_within_columns() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        x, places, values = s.window(0), s.window(1), s.window(2)

        def element(k: Any, n: Any) -> Any:
            return values[k, n]

        return [b.scatter(x, places.shape, lambda k, n: (places[k, n], n), element)]

    arrays = {0: numbers(30, 40), 1: RNG.integers(0, 30, (17, 40)), 2: numbers(17, 40)}
    check(write, arrays, tolerance=1e-5, threads=2)


def test_nothing_comes_in() -> None:
    arrays = {0: numbers(5, 6), 1: RNG.integers(0, 5, 0), 2: numbers(0, 6)}
    check(into_rows("add"), arrays)


def test_initial_values_that_no_kernel_made_are_computed_in_the_copy() -> None:
    def write(b: Any, s: Any) -> list[Stage]:
        rows, values = s.window(0), s.window(1)
        start = b.map((7, 20), "float32", lambda i, j: b.constant(0.5, "float32"))
        return [
            b.scatter(start, values.shape, lambda n, d: (rows[n], d), lambda n, d: values[n, d])
        ]

    def alone(stages: list[Stage], outputs: Any) -> list[Group]:
        return [Group("scatter", list(outputs), list(outputs))]

    arrays = {0: RNG.integers(0, 7, 30), 1: numbers(30, 20)}
    made = check(write, arrays, tolerance=1e-5, grouped=alone)
    assert len(made.launches) == 2
