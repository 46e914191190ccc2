"""Axes shrink to what is read of them, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from compiler.stage_executor import StageExecutor
from hypothesis import given, settings
from hypothesis import strategies as st

import taimatsu as torch
from taimatsu.compiler.demand import folded, shrink
from taimatsu.compiler.zeros import NOWHERE, where_holds, where_nonzero
from taimatsu.config import config
from taimatsu.evaluate import interpreter
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression, constant, index_value, select
from taimatsu.ir.index import Index, Symbol, Var, index, minimum
from taimatsu.ir.loops import row_major
from taimatsu.ir.stages import Cell, Stage
from taimatsu.recorder.base import registered

F = torch.nn.functional
recorded = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 each operation is a program of its own"
)


def window(b: Builder, *shape: Any) -> Stage:
    made = Stage("window", tuple(map(index, shape)), "float32")
    made.cell = Cell(len(b.stages))
    made.strides = row_major(made.shape)
    return b._add(made)


def extents(stage: Stage) -> list[str]:
    return [str(n) for n in stage.shape]


# -- stages ------------------------------------------------------------------------------------


def test_a_slice_shrinks_what_it_is_cut_from() -> None:
    b = Builder()
    x = window(b, Symbol("n0", 9), 40, 8)
    y = b.map(x.shape, "float32", lambda *i: b.exp(x[i]))
    z = b.map(x.shape, "float32", lambda *i: y[i] + 1.0)
    last = b.map([x.shape[0], 3, 8], "float32", lambda n, t, c: z[n, t + 37, c])
    shrink(b.stages, [last])
    assert extents(z) == extents(y) == ["n0", "3", "8"]
    (load,) = [n for n in (y.value.args[0],) if n.op == "load"]
    assert load.detail[1][1] == index(y.axes[1]) + 37


def test_what_somebody_holds_keeps_its_size() -> None:
    b = Builder()
    x = window(b, 40, 8)
    y = b.map(x.shape, "float32", lambda *i: b.exp(x[i]))
    z = b.map([3, 8], "float32", lambda t, c: y[t, c])
    shrink(b.stages, [y, z])
    assert extents(y) == ["40", "8"]


def test_several_readers_get_all_that_they_read() -> None:
    b = Builder()
    x = window(b, 40)
    y = b.map(x.shape, "float32", lambda i: b.exp(x[i]))
    low = b.map([3], "float32", lambda i: y[i + 5])
    high = b.reduce("add", [], [4], "float32", lambda i, r: y[2 * r[0] + 20])
    shrink(b.stages, [low, high])
    assert extents(y) == ["22"]  # from 5 to 26
    assert str(low.value.detail[1][0]) == str(low.axes[0])
    assert high.value.detail[1][0] == 2 * index(high.reduce_axes[0]) + 15


def test_computed_places_may_be_anywhere() -> None:
    b = Builder()
    x = window(b, 40)
    y = b.map(x.shape, "float32", lambda i: b.exp(x[i]))
    z = b.map([3], "float32", lambda i: y[b.cast(x[i], "int64")])
    shrink(b.stages, [z])
    assert extents(y) == ["40"]


def test_unread_stages_ask_for_nothing() -> None:
    b = Builder()
    x = window(b, 40)
    y = b.map(x.shape, "float32", lambda i: b.exp(x[i]))
    b.map([40], "float32", lambda i: y[i] * 2.0)
    z = b.map([3], "float32", lambda i: y[i])
    shrink(b.stages, [z])
    assert extents(y) == ["3"]


def test_a_scan_keeps_the_axis_it_goes_along() -> None:
    b = Builder()
    x = window(b, 40, 8)
    y = b.scan("add", x.shape, 0, "float32", lambda *i: x[i])
    z = b.map([3, 2], "float32", lambda t, c: y[t, c])
    shrink(b.stages, [z])
    assert extents(y) == ["40", "2"]


def test_sums_go_over_terms_that_may_differ_from_zero() -> None:
    b = Builder()
    x, w = window(b, 20, 5), window(b, 20, 7)
    g = b.map([20, 5], "float32", lambda i, j: b.where(b.index(i) < 12, x[i, j], 0.0))
    s = b.reduce("add", [5, 7], [20], "float32", lambda i, r: g[r[0], i[0]] * w[r[0], i[1]])
    shrink(b.stages, [s])
    assert [str(v.extent) for v in s.reduce_axes] == ["12"]
    assert extents(g) == ["12", "5"]
    assert g.value.op == "load"  # the condition holds everywhere


def test_a_greatest_value_counts_zeros() -> None:
    b = Builder()
    x = window(b, 20)
    g = b.map([20], "float32", lambda i: b.where(b.index(i) < 12, x[i], 0.0))
    s = b.reduce("max", [], [20], "float32", lambda i, r: g[r[0]])
    shrink(b.stages, [s])
    assert [str(v.extent) for v in s.reduce_axes] == ["20"]


def test_maps_put_zeros_where_they_read_beyond() -> None:
    b = Builder()
    x = window(b, 20)
    g = b.map([20], "float32", lambda i: b.where(b.index(i) < 12, b.exp(x[i]), 0.0))
    h = b.map([20], "float32", lambda i: g[i] + 1.0)
    shrink(b.stages, [h])
    assert extents(g) == ["12"]
    assert h.value.args[0].op == "select"


def test_products_with_infinities_are_not_zero_in_maps() -> None:
    b = Builder()
    x = window(b, 20)
    zero = b.map([20], "float32", lambda i: b.where(b.index(i) < 12, x[i], 0.0))
    y = b.map([20], "float32", lambda i: zero[i] * x[i])
    z = b.map([20], "float32", lambda i: y[i] + 1.0)
    shrink(b.stages, [z])
    assert extents(y) == ["20"]


# -- programs ----------------------------------------------------------------------------------


@pytest.fixture
def executor() -> Iterator[StageExecutor]:
    with StageExecutor().installed() as made:
        yield made


def carried_out(executor: StageExecutor, function: Callable[[], Any]) -> list[Stage]:
    """The stages of a program that must give what the reference gives."""
    registered.execute = interpreter.execute
    wanted = [t.numpy().copy() for t in function()]
    registered.execute = executor
    got = [t.numpy() for t in function()]
    for value, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-4)
    return [s for g in executor.groups for s in g.stages]


def shapes(stages: list[Stage]) -> set[tuple[str, ...]]:
    return {tuple(extents(s)) for s in stages}


@recorded
def test_a_pool_drops_rows_of_all_convolutions_before_it(executor: StageExecutor) -> None:
    x, v, w = torch.randn(3, 1, 28, 28), torch.randn(4, 1, 3, 3), torch.randn(5, 4, 3, 3)

    def function() -> tuple:
        h = F.max_pool2d(F.relu(F.conv2d(x, v)), 2)
        return (F.max_pool2d(F.relu(F.conv2d(h, w)), 2),)

    found = shapes(carried_out(executor, function))
    assert {s[-1] for s in found} == {"24", "12", "10", "5"}


@recorded
def test_gradients_of_what_a_pool_drops_are_not_computed(executor: StageExecutor) -> None:
    x, v, w = torch.randn(3, 1, 28, 28), torch.randn(4, 1, 3, 3), torch.randn(6, 4, 3, 3)
    v.requires_grad_()
    w.requires_grad_()

    def function() -> tuple:
        v.grad = w.grad = None
        h = F.max_pool2d(F.relu(F.conv2d(x, v)), 2)
        F.max_pool2d(F.relu(F.conv2d(h, w)), 2).square().sum().backward()
        return v.grad, w.grad

    stages = carried_out(executor, function)
    sizes = {n for s in stages for n in (*extents(s)[2:], *(str(v.extent) for v in s.reduce_axes))}
    assert not sizes & {"26", "13", "11", "28", "15"}
    assert {"24", "12", "10"} <= sizes


@recorded
def test_the_last_word_alone_is_decoded(executor: StageExecutor) -> None:
    x, v, w = torch.randn(2, 9, 8), torch.randn(8, 16), torch.randn(16, 50)

    def function() -> tuple:
        return ((F.relu(x @ v) @ w)[:, -1].softmax(-1),)

    assert all("9" not in s for s in shapes(carried_out(executor, function)))


@recorded
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pool", [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 3, 0)])
def test_gradients_agree_with_the_reference(
    executor: StageExecutor, padding: int, stride: int, pool: tuple[int, int, int]
) -> None:
    x, v, w = torch.randn(2, 2, 41, 38), torch.randn(3, 2, 3, 3), torch.randn(4, 3, 2, 2)

    def function() -> tuple:
        leaves = [t.detach().requires_grad_() for t in (x, v, w)]
        h = F.relu(F.conv2d(leaves[0], leaves[1], stride=stride, padding=padding))
        h = F.max_pool2d(h, *pool)
        h = F.avg_pool2d(F.conv2d(h, leaves[2]).tanh(), 2, ceil_mode=False, padding=0)
        (h[..., :1] ** 2).sum().backward()
        return tuple(t.grad for t in leaves)

    carried_out(executor, function)


@recorded
def test_zeros_around_joined_parts(executor: StageExecutor) -> None:
    x, w = torch.randn(6, 10), torch.randn(14, 5)

    def function() -> tuple:
        a = x.clone().requires_grad_()
        joined = torch.cat([a.exp(), F.pad(a[:, 2:5], (1, 0)).sin()], 1)
        (joined[1:4] @ w)[:, 1:3].square().sum().backward()
        return (a.grad, F.pad(x, (3, 2, 1, 0)).exp()[:, :4])

    carried_out(executor, function)


# -- where values are zero ---------------------------------------------------------------------

EXTENTS = (5, 7)


@st.composite
def indices(draw: Any, axes: tuple[Var, ...]) -> Index:
    total = index(draw(st.integers(-6, 6)))
    for var in axes:
        atom = index(var)
        form = draw(st.sampled_from(["plain", "quotient", "minimum", "clamp", "remainder"]))
        if form == "quotient":
            atom = atom // draw(st.integers(2, 3))
        elif form == "remainder":
            atom = atom % draw(st.integers(2, 4))
        elif form == "minimum":
            atom = minimum(atom, draw(st.integers(0, 6)))
        elif form == "clamp":
            atom = minimum(-minimum(-(atom - 2), 0), draw(st.integers(0, 6)))
        total = total + atom * draw(st.integers(-2, 2))
    return total


@st.composite
def conditions(draw: Any, axes: tuple[Var, ...], depth: int = 2) -> Expression:
    if depth == 0 or draw(st.booleans()):
        left, right = (index_value(draw(indices(axes))) for _ in range(2))
        return Expression(
            draw(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"])), (left, right), "bool"
        )
    if draw(st.integers(0, 3)) == 0:
        return ~draw(conditions(axes, depth - 1))
    a, b = (draw(conditions(axes, depth - 1)) for _ in range(2))
    return a & b if draw(st.booleans()) else a | b


def truth(node: Expression, at: dict[Var, int]) -> Any:
    if node.op == "index":
        return node.detail.evaluate(lambda v: at[v])
    if node.op == "constant":
        return node.detail
    args = [truth(a, at) for a in node.args]
    return {
        "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
        "and": lambda a, b: a and b, "or": lambda a, b: a or b, "not": lambda a: not a,
        "select": lambda c, a, b: a if c else b,
    }[node.op](*args)  # fmt: skip


def places(axes: tuple[Var, ...]) -> Iterator[dict[Var, int]]:
    for where in product(*(range(v.extent.constant) for v in axes)):
        yield dict(zip(axes, where, strict=True))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_conditions_hold_only_in_their_ranges(data: Any) -> None:
    axes = tuple(Var(f"x{d}", n) for d, n in enumerate(EXTENTS))
    condition = data.draw(conditions(axes))
    for wanted in (True, False):
        ranges = where_holds(condition, wanted)
        for at in places(axes):
            if truth(condition, at) == wanted:
                assert ranges is not NOWHERE
                assert all(low <= at[v] < high for v, (low, high) in ranges.items())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_values_are_zero_outside_of_their_ranges(data: Any) -> None:
    axes = tuple(Var(f"x{d}", n) for d, n in enumerate(EXTENTS))
    one, two = constant(1.0, "float32"), constant(2.0, "float32")
    inner = select(data.draw(conditions(axes)), one, 0.0)
    value = select(data.draw(conditions(axes)), inner, data.draw(st.sampled_from([0.0, two])))
    ranges = where_nonzero(value, lambda source: None)
    for at in places(axes):
        if truth(value, at):
            assert ranges is not NOWHERE
            assert all(low <= at[v] < high for v, (low, high) in ranges.items())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_decided_is_so_everywhere(data: Any) -> None:
    axes = tuple(Var(f"x{d}", n) for d, n in enumerate(EXTENTS))
    condition = data.draw(conditions(axes, 0))
    made = folded(condition)
    if made is not None:
        assert all(truth(condition, at) == made.detail for at in places(axes))


def test_ranges_are_found() -> None:
    x = Var("x", 15)
    at = index(x) - 2
    inside = (index_value(at) >= 0) & (index_value(at) < 11)
    assert where_holds(inside) == {x: (2, 13)}
    half = index_value(index(x) // 2) < 5
    assert where_holds(half) == {x: (0, 10)}
    assert where_holds(inside & half) == {x: (2, 10)}
    assert where_holds(~half) == {x: (10, 15)}
    assert where_holds(half & ~half) is NOWHERE


def test_borders_around_what_is_left_have_one_condition_each() -> None:
    b = Builder()
    x = window(b, 20)
    g = b.map([11], "float32", lambda i: b.where(b.index(i) < 10, b.exp(x[i]), 0.0))

    def element(i: Index) -> Expression:
        at = i - 2
        inside = (b.index(at) >= 0) & (b.index(at) < 11)
        return b.where(inside, g[minimum(-minimum(-at, 0), 10)], 0.0)

    h = b.map([14], "float32", element)
    s = b.reduce("max", [], [14], "float32", lambda i, r: h[r[0]])
    shrink(b.stages, [s])
    assert extents(g) == ["10"]
    at = index(h.axes[0]) - 2
    condition, value, zero = h.value.args
    assert [repr(c) for c in condition.args] == [
        repr(index_value(at) >= 0),
        repr(index_value(at) < 10),
    ]
    assert value.detail == (g, (minimum(-minimum(-at, 0), 9),))
    assert zero.detail == 0
