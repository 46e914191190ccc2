"""Kernels made by hand that several tests use."""

from __future__ import annotations

from taimatsu.ir.expression import (
    Expression,
    across,
    binary,
    cast,
    constant,
    fma,
    index_value,
    load,
    number,
    select,
    unary,
)
from taimatsu.ir.index import Symbol, Var, index, minimum
from taimatsu.ir.loops import Allocate, Buffer, Check, If, Kernel, Loop, Prefetch, Store, Transpose

F32 = "float32"


def scale_rows(names: str = "ijxyn") -> Kernel:
    """``y[i, j] = x[i, j] * number0 + 1`` over n rows of 10, four rows in a chunk."""
    i_name, j_name, x_name, y_name, n_name = names
    n = Symbol(n_name, 7)
    x = Buffer(x_name, F32, [n, 10])
    y = Buffer(y_name, F32, [n, 10], aligned=True)
    chunk = Var("chunk", (index(n) + 3) // 4)
    i = Var(i_name, minimum(4, index(n) - index(chunk) * 4))
    j = Var(j_name, 10)
    row = index(chunk) * 4 + i
    value = load(x, [row, j]) * number(0, F32) + 1.0
    inner = Loop(j, "vector", [Store(y, [row, j], value)], width=8, unroll=2)
    body = Loop(chunk, "parallel", [Loop(i, "serial", [inner])])
    return Kernel("scale", [x, y], [n], ["float64"], [body])


def sum_rows() -> Kernel:
    """``y[i] = sum of x[i]`` of 5 rows of 13, in 4 lanes that are combined at the end."""
    x, y = Buffer("x", F32, [5, 13]), Buffer("y", F32, [5])
    lanes = Buffer("lanes", F32, [1], "register", lanes=4)
    i, j = Var("i", 5), Var("j", 13)
    zero = Store(lanes, [0], constant(0, F32))
    add = Store(lanes, [0], load(lanes, [0]) + load(x, [i, j]))
    total = Store(y, [i], across("add", load(lanes, [0])))
    rows = [Allocate(lanes, [zero, Loop(j, "vector", [add], width=4), total])]
    return Kernel("sum", [x, y], [], [], [Loop(i, "parallel", rows)])


def gather_checked() -> Kernel:
    """``y[i] = x[where[i]]`` of 6, with a check of the places and 0 where ``keep`` is false."""
    x, y = Buffer("x", F32, [9]), Buffer("y", F32, [6])
    where, keep = Buffer("where", "int32", [6]), Buffer("keep", "bool", [6])
    scratch = Buffer("copy", F32, [9], "scratch", strides=[2], origin=3)
    i, j = Var("i", 6), Var("j", 9)
    copy = Loop(j, "unroll", [Store(scratch, [j], load(x, [j]))])
    place = cast(load(where, [i]), "int64")
    inside = binary("and", binary("ge", place, 0), binary("lt", place, index_value(9)))
    checked = Check(inside, 3)
    zero = Store(y, [i], constant(0, F32))
    store = If(load(keep, [i]), [Store(y, [i], load(scratch, [place]))])
    body = [copy, Loop(i, "serial", [checked, zero, store])]
    return Kernel("gather", [x, y, where, keep], [], [], [Allocate(scratch, body)])


def turned(width: int = 4, dtype: str = F32) -> Kernel:
    """``y[j, i] = x[i, j]`` of a square."""
    x, y = (Buffer(name, dtype, [width, width]) for name in "xy")
    square = Buffer("square", dtype, [width], "register", lanes=width)
    i, j, k, m = (Var(name, width) for name in "ijkm")
    read = Store(square, [i], load(x, [i, j]))
    write = Store(y, [k, m], load(square, [k]))
    body = [
        Prefetch(x, [width, 0]),
        Prefetch(y, [0, 0], is_written=True),
        Loop(i, "unroll", [Loop(j, "vector", [read], width=width)]),
        Transpose(square),
        Loop(k, "unroll", [Loop(m, "vector", [write], width=width)]),
    ]
    return Kernel("turned", [x, y], [], [], [Allocate(square, body)])


def shared_expression() -> Expression:
    """Parts that are used twice, constants of every kind, functions, an own dtype."""
    x = load(Buffer("x", F32, [4]), [Var("i", 4)])
    twice = unary("exp", x * x)
    low = binary("min", twice, constant(float("-inf"), F32))
    picked = select(binary("lt", twice, constant(-0.0, F32)), low, constant(float("nan"), F32))
    wide = cast(fma(picked, twice, x), "float64")
    return wide / cast(index_value(index(Var("i", 4)) * 2 + 1), "float64")
