"""Sorting and selection of lines against plain definitions: every dtype, ties, NaN, both zeros."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from taimatsu.ops import lines, truths
from taimatsu.ops.lines import distinct, in_order, place_of_kth
from taimatsu.runtime import threads

DTYPES = ("?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d")
FLOATS = ("e", "f", "d")
SHAPES = ((3, 5), (2, 600), (2, 3, 70), (0, 3), (3, 0), (1,), (1300,), (3, 1100), (40, 7, 3))
ODD = (0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-7, -1e-7, 1.0)


@pytest.fixture(params=[1, 3], ids=lambda n: f"{n} threads", autouse=True)
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small shares, so that small arrays are shared, and lines are long."""
    for module, name, value in (
        (lines, "_SORTED", 1 << 10),
        (lines, "_SEARCHED", 1 << 10),
        (lines, "_FEW", 64),
        (lines, "_LONG", 1 << 10),
        (truths, "_SHARE", 1 << 10),
    ):
        monkeypatch.setattr(module, name, value)
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield
    threads.set_num_threads(before)


def arrays(dtype: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Few and many different elements, sorted ones, odd ones; with strides of all kinds."""
    random = np.random.default_rng(3)
    if dtype in FLOATS:
        normal = random.standard_normal(shape).astype(dtype)
        made = [normal, np.sort(normal, -1), np.round(normal) * random.choice([1, -1], shape)]
        made.append(random.choice(np.array(ODD), shape))
    elif dtype == "?":
        made = [random.integers(0, 2, shape)]
    else:
        limits = np.iinfo(dtype)
        ranges = ((limits.min, limits.max), (max(limits.min, -3), 4), (limits.max - 1, limits.max))
        made = [random.integers(*r, shape, dtype, endpoint=True) for r in ranges]
    for x in made:
        x = x.astype(dtype)
        yield x
        if x.ndim == 2:
            yield x[::-1, ::-1]
            yield x.T


def stable_order(x: np.ndarray, dim: int, descending: bool) -> np.ndarray:
    """By definition: a stable sort, of the reversed line where it descends."""
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    order = np.argsort(np.flip(x, dim), axis=dim, kind="stable")
    return x.shape[dim] - 1 - np.flip(order, dim)


def assert_same(made: np.ndarray, expected: np.ndarray) -> None:
    """The same bits."""
    assert made.dtype == expected.dtype
    assert made.shape == expected.shape
    assert made.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_order_is_the_stable_one(dtype: str, shape: tuple[int, ...]) -> None:
    for x in arrays(dtype, shape):
        for dim in range(x.ndim):
            for descending in (False, True):
                order = stable_order(x, dim, descending)
                values, places = in_order(x, dim, descending)
                assert_same(places, order)
                assert_same(values, np.take_along_axis(x, order, dim))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_first_are_those_of_the_order(dtype: str, shape: tuple[int, ...]) -> None:
    for x in arrays(dtype, shape):
        for dim in range(x.ndim):
            n = x.shape[dim]
            for count in sorted({k for k in (0, 1, 2, n // 9, n // 2, n) if k <= n}):
                for descending in (False, True):
                    order = stable_order(x, dim, descending).take(np.arange(count), axis=dim)
                    values, places = in_order(x, dim, descending, count)
                    assert_same(places, order)
                    assert_same(values, np.take_along_axis(x, order, dim))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kth_is_that_of_the_order(dtype: str, shape: tuple[int, ...]) -> None:
    for x in arrays(dtype, shape):
        n = x.shape[-1]
        order = stable_order(x, -1, False)
        for k in {k for k in (0, n // 9, n // 2, n - 1) if 0 <= k < n}:
            assert_same(place_of_kth(x, k), order[..., k].copy())


@pytest.mark.parametrize("dtype", ["q", "d"])
def test_order_where_the_last_bits_decide(dtype: str) -> None:
    """Keys of 64 bits leave no room for positions: what was dropped counts all the same."""
    random = np.random.default_rng(5)
    bits = random.integers(0, 4, (3, 3000)) + (random.integers(-2, 3, (3, 3000)) << 61)
    x = bits.view(dtype)
    for descending in (False, True):
        assert_same(in_order(x, 1, descending)[1], stable_order(x, 1, descending))


@pytest.mark.parametrize("places", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 5, 3000])
def test_distinct_elements(dtype: str, size: int, places: bool) -> None:
    for x in arrays(dtype, (size,)):
        values, counts = np.unique(x, return_counts=True, equal_nan=False)
        made, which, counted = distinct(x, places)
        np.testing.assert_array_equal(made, values)
        assert made.dtype == x.dtype
        assert_same(counted, counts)
        if places:
            assert which.dtype == np.int64
            np.testing.assert_array_equal(made[which], x)
            assert (np.bincount(which) == counts).all()


@pytest.mark.parametrize("dtype", [*DTYPES, "F"])
@pytest.mark.parametrize(
    "shape", [(), (0,), (5,), (3, 0), (40, 50), (7, 2, 30, 5), (5000,)], ids=str
)
def test_places_that_are_not_zero(dtype: str, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(7)
    odd = random.choice([0.0, -0.0, np.nan, 3.0], shape) if dtype in (*FLOATS, "F") else 0
    for x in (random.integers(0, 2, shape), odd * np.ones(shape), np.ones(shape)):
        given = np.asarray(x).astype(dtype)
        for y in (given, given.T):
            made = truths.places_of(y)
            assert made.flags.c_contiguous
            assert_same(made, np.argwhere(y))
            for d, column in enumerate(truths.coordinates_of(y)):
                assert_same(column, made[:, d].copy())
