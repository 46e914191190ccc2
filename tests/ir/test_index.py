"""Index algebra: what arithmetic simplifies to has the values of what it was made from."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taimatsu.ir.index import (
    Index,
    Minimum,
    Product,
    Quotient,
    Remainder,
    Symbol,
    Var,
    bounds,
    ceil_div,
    index,
    is_at_most,
    is_below,
    minimum,
)

N, M = Symbol("n", 12), Symbol("m", 5)
SYMBOLS = (N, M)

# A value, and how to compute it with plain integers.
Pair = tuple[Index, Callable[[dict[Any, int]], int]]


class Space:
    """Loop variables with extents (constant, symbolic, or of the variables before) and values."""

    def __init__(self, extents: list[Index | int]) -> None:
        self.variables = [Var(f"i{k}", extent) for k, extent in enumerate(extents)]

    def values(self, symbols: dict[Any, int], draws: list[int]) -> dict[Any, int] | None:
        """Values of all atoms; None where a loop is empty."""
        values: dict[Any, int] = dict(symbols)
        for var, draw in zip(self.variables, draws, strict=True):
            extent = var.extent.evaluate(values.__getitem__)
            if extent <= 0:
                return None
            values[var] = draw % extent
        return values


I_, J_, K_, L_ = range(4)
SPACE = Space([7, index(N), index(M) * 4, 3])
SPACE.variables[L_].extent = index(SPACE.variables[I_]) + 1  # a triangle


def dividends(value: Index) -> Iterator[Index]:
    """What quotients and remainders inside of an index divide: never negative, by contract."""
    waiting = [atom for atom, _ in value.terms]
    while waiting:
        atom = waiting.pop()
        if isinstance(atom, Product):
            waiting += atom.factors
        elif isinstance(atom, (Quotient, Remainder, Minimum)):
            if not isinstance(atom, Minimum):
                yield atom.left
            waiting += [inner for side in (atom.left, atom.right) for inner, _ in side.terms]


def leaves() -> st.SearchStrategy[Pair]:
    atoms = [*SPACE.variables, *SYMBOLS]
    return st.one_of(
        st.sampled_from(atoms).map(lambda a: (index(a), lambda v, a=a: v[a])),
        st.integers(0, 20).map(lambda c: (index(c), lambda v, c=c: c)),
    )


def combine(children: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    n, m = index(N), index(M)
    divisors = st.sampled_from([index(2), index(3), index(8), n, m, n * m, n * 6, n * m * 4])

    def add(a: Pair, b: Pair) -> Pair:
        return a[0] + b[0], lambda v: a[1](v) + b[1](v)

    def multiply(a: Pair, b: Pair) -> Pair:
        return a[0] * b[0], lambda v: a[1](v) * b[1](v)

    def scale(a: Pair, k: int) -> Pair:
        return a[0] * k, lambda v: a[1](v) * k

    def quotient(a: Pair, d: Index) -> Pair:
        return a[0] // d, lambda v: a[1](v) // d.evaluate(v.__getitem__)

    def remainder(a: Pair, d: Index) -> Pair:
        return a[0] % d, lambda v: a[1](v) % d.evaluate(v.__getitem__)

    def least(a: Pair, b: Pair) -> Pair:
        return minimum(a[0], b[0]), lambda v: min(a[1](v), b[1](v))

    return st.one_of(
        st.builds(add, children, children),
        st.builds(scale, children, st.integers(0, 9)),
        st.builds(multiply, children, children),
        st.builds(quotient, children, divisors),
        st.builds(remainder, children, divisors),
        st.builds(least, children, children),
    )


PAIRS = st.recursive(leaves(), combine, max_leaves=6)
POINTS = st.tuples(
    st.fixed_dictionaries({N: st.integers(1, 40), M: st.integers(1, 9)}),
    st.lists(st.integers(0, 10**6), min_size=4, max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(PAIRS, POINTS)
def test_simplified_indices_keep_their_values(pair: Pair, point: Any) -> None:
    values = SPACE.values(*point)
    assert values is not None
    made, plain = pair
    assert made.evaluate(values.__getitem__) == plain(values)
    for divided in dividends(made):
        assert divided.evaluate(values.__getitem__) >= 0


@settings(max_examples=300, deadline=None)
@given(PAIRS, PAIRS, POINTS)
def test_differences_and_what_is_decided_about_them(a: Pair, b: Pair, point: Any) -> None:
    """Values of differences may be negative; minima and comparisons must hold all the same."""
    values = SPACE.values(*point)
    assert values is not None
    left, right = a[1](values), b[1](values)
    assert (a[0] - b[0]).evaluate(values.__getitem__) == left - right
    assert minimum(a[0] - b[0], b[0]).evaluate(values.__getitem__) == min(left - right, right)
    assert ceil_div(a[0], 4).evaluate(values.__getitem__) == -(-left // 4)
    if is_at_most(a[0], b[0]):
        assert left <= right
    if is_below(a[0] - 3, b[0]):
        assert 0 <= left - 3 < right


@settings(max_examples=300, deadline=None)
@given(PAIRS, POINTS)
def test_bounds_hold(pair: Pair, point: Any) -> None:
    values = SPACE.values(*point)
    assert values is not None
    low, high = bounds(pair[0] - 5)
    value = pair[1](values) - 5
    assert low is None or low <= value
    assert high is None or value <= high


@settings(max_examples=300, deadline=None)
@given(PAIRS, PAIRS, POINTS)
def test_substitution_is_evaluation_at_the_substituted(a: Pair, b: Pair, point: Any) -> None:
    """A variable replaced by an index within its extent."""
    values = SPACE.values(*point)
    assert values is not None
    i = SPACE.variables[I_]
    inside = b[0] % 7
    replaced = a[0].substitute({i: inside})
    moved = {**values, i: b[1](values) % 7}
    if moved[SPACE.variables[L_]] <= moved[i]:  # still within the triangle
        assert replaced.evaluate(values.__getitem__) == a[1](moved)


def test_equality_is_by_structure_and_not_by_order() -> None:
    i, j = Var("i", 8), Var("i", 8)  # two variables, although their names are the same
    assert index(i) + j == index(j) + i
    assert hash(index(i) + j) == hash(index(j) + i)
    assert index(i) * j == index(j) * i
    assert index(i) != index(j)
    assert (index(i) + 4) % 3 == (index(i) + 1) % 3
    assert index(Symbol("n", 3)) == index(Symbol("n", 7))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda i, j, n, m: (i * n + j) // n, lambda i, j, n, m: i),
        (lambda i, j, n, m: (i * n + j) % n, lambda i, j, n, m: j),
        (lambda i, j, n, m: ((i * n + j) * 4 + 3) // 4, lambda i, j, n, m: i * n + j),
        (lambda i, j, n, m: (i * n + j) // (m * n), lambda i, j, n, m: index(0)),
        (lambda i, j, n, m: (i * n + j) % (m * n), lambda i, j, n, m: i * n + j),
        (lambda i, j, n, m: minimum(i, m - 1), lambda i, j, n, m: i),
        (lambda i, j, n, m: minimum(n // 8 * 8, n), lambda i, j, n, m: n // 8 * 8),
        (lambda i, j, n, m: (j * 6 + 8) // 4, lambda i, j, n, m: j + 2 + j * 2 // 4),
        (lambda i, j, n, m: (i * 256 + j % 256) // 32768, lambda i, j, n, m: i // 128),
        (lambda i, j, n, m: (i * 256 + j % 256) % 32768 // 256, lambda i, j, n, m: i % 128),
        (lambda i, j, n, m: (i * 256 + j % 256) % 32768 % 256, lambda i, j, n, m: j % 256),
        (lambda i, j, n, m: (i * 12 + 9) % 30, lambda i, j, n, m: (i * 4 + 3) % 10 * 3),
        (lambda i, j, n, m: j - j, lambda i, j, n, m: index(0)),
        # What is divided by sizes of data and put together again: rows of flattened batches.
        (lambda i, j, n, m: i // (n * 64) * n * 64 + i % (n * 64), lambda i, j, n, m: i),
        (lambda i, j, n, m: i % m * n + i // m * m * n + 3, lambda i, j, n, m: i * n + 3),
        (lambda i, j, n, m: i % (n + 1) * 2 + i // (n + 1) * (n * 2 + 2), lambda i, j, n, m: i * 2),
        (lambda i, j, n, m: j % 7 * 5 + j // 7 * 35, lambda i, j, n, m: j * 5),
        # Digits of flattened rows: a dimension of known size within one that comes from data.
        (lambda i, j, n, m: (i * 32 + j % 32) % (n * 32) % 32, lambda i, j, n, m: j % 32),
        (lambda i, j, n, m: (i * 32 + j % 32) // (n * 32), lambda i, j, n, m: i // n),
        (lambda i, j, n, m: (i * 32 + j % 32) % (n * 32) // 32, lambda i, j, n, m: i % n),
        (lambda i, j, n, m: i % (n * 32) % 32, lambda i, j, n, m: i % 32),
        (lambda i, j, n, m: i % (n * 32) // 32, lambda i, j, n, m: i // 32 % n),
    ],
)
def test_what_simplifies(made: Any, expected: Any) -> None:
    n, m = Symbol("n"), Symbol("m")
    i, j = Var("i", m), Var("j", n)
    atoms = [index(atom) for atom in (i, j, n, m)]
    assert made(*atoms) == expected(*atoms)


def test_what_must_not_simplify() -> None:
    n, i = Symbol("n"), Var("i", 9)
    assert (index(i) // 8).terms == ((Quotient(index(i), index(8)), 1),)
    assert (index(i) % 8).terms == ((Remainder(index(i), index(8)), 1),)
    apart = index(i) // 7 * 42 + index(i) % 7 * 5
    assert len(apart.terms) == 2
    assert apart.evaluate(lambda atom: 8) == 47
    assert minimum(i, index(n)).terms == ((Minimum(index(i), index(n)), 1),)
    assert not is_below(index(i), index(n))
    assert not is_at_most(index(i) * n, index(n) * 7)
    assert is_at_most(index(i) * n, index(n) * 8)


def test_the_last_block_of_rows_is_not_past_the_end() -> None:
    n, chunk = Symbol("n"), Var("c", 5)
    begin = index(chunk) * 47
    row = Var("i", minimum(47, index(n) - begin))
    assert is_below(begin + row, index(n))
    assert not is_below(begin + row + 1, index(n))


def test_strides_and_their_limits() -> None:
    n, i, j = Symbol("n"), Var("i", 9), Var("j", 9)
    address = index(i) * n * 4 + index(j) * 3 + index(j) // 2
    assert address.stride(i) == index(n) * 4
    assert address.coefficient(j) == 3
    assert not address.is_affine_in(j)
    for broken in (address, index(j) * j):
        with pytest.raises(ValueError, match="not affine"):
            broken.stride(j)
    quotient = Quotient(index(j), index(2))
    with pytest.raises(ValueError, match="not affine"):
        index(Product((j, quotient))).stride(j)


def test_numbers() -> None:
    assert index(5).value() == 5
    assert index(True).value() == 1
    with pytest.raises(ValueError, match="no constant"):
        index(Symbol("n")).value()
    with pytest.raises(TypeError):
        index("n")  # type: ignore[arg-type]
    assert (index(Symbol("n", 6)) * 2 + Var("i", 3)).hint() == 12


def test_indices_keep_no_hash_of_another_process() -> None:
    n = Symbol("n")
    value = (index(n) * Symbol("m") + 3) // 7 + index(n) * n
    hash(value)
    script = (
        "import pickle, sys; from taimatsu.ir.index import Symbol, index; n = Symbol('n');"
        "value = pickle.load(sys.stdin.buffer);"
        "assert {value: 1}[(index(n) * Symbol('m') + 3) // 7 + index(n) * n] == 1"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", script]
    root = Path(__file__).parents[2]
    subprocess.run(command, input=pickle.dumps(value), check=True, cwd=root, env=environment)
