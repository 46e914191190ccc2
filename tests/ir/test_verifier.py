"""The verifier accepts what is right and names what is wrong, with the statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from ir.kernels import gather_checked, scale_rows, sum_rows, turned

from taimatsu.ir.expression import (
    Expression,
    across,
    binary,
    cast,
    constant,
    index_value,
    load,
    number,
    unary,
)
from taimatsu.ir.index import Symbol, Var, index
from taimatsu.ir.loops import (
    Allocate,
    Buffer,
    Check,
    If,
    Kernel,
    Loop,
    Prefetch,
    Statement,
    Store,
    Transpose,
)
from taimatsu.ir.stages import Stage
from taimatsu.ir.verifier import verify

F32 = "float32"
N = Symbol("n", 8)
X, Y = Buffer("x", F32, [8, 4]), Buffer("y", F32, [N])
WHERE = Buffer("where", "int64", [8])
ROW, COL = Var("i", 8), Var("j", 4)
ONE, TRUE = constant(1, F32), constant(True, "bool")
REGISTER = Buffer("r", F32, [2], "register")
SQUARE = Buffer("square", F32, [4], "register", lanes=4)
LANES = Buffer("v", F32, [2], "register", lanes=4)


def kernel(*body: Statement, arguments: Iterable[Buffer] = (X, Y, WHERE)) -> Kernel:
    return Kernel("k", arguments, [N], ["float64"], body)


def in_loops(*body: Statement, kind: str = "serial") -> Kernel:
    width = 4 if kind == "vector" else 1
    return kernel(Loop(ROW, "serial", [Loop(COL, kind, body, width=width)]))


def store_to_x(value: Expression) -> Kernel:
    return in_loops(Store(X, [ROW, COL], value))


@pytest.mark.parametrize("make", [scale_rows, sum_rows, gather_checked, turned])
def test_kernels_that_are_right(make: Callable[[], Kernel]) -> None:
    verify(make())


def test_what_is_allowed_at_the_limits() -> None:
    verify(in_loops(Store(X, [index(ROW) * 1, 3], ONE)))
    place = load(WHERE, [ROW])
    verify(in_loops(Store(X, [place, COL], load(X, [place, 0]))))
    # In an If nobody knows which iterations come to it.
    verify(in_loops(If(TRUE, [Store(X, [ROW, index(COL) + 3], ONE)])))
    verify(kernel(Loop(ROW, "parallel", [If(TRUE, [Store(Y, [0], ONE)])])))
    # What is never carried out may be anywhere.
    empty = Buffer("e", F32, [0])
    never = Loop(Var("u", 0), "serial", [Store(X, [0, 0], load(empty, [0]))])
    verify(kernel(never, arguments=[X, empty]))
    unrolled = Loop(Var("u", 2), "unroll", [])
    unrolled.body = (Store(REGISTER, [unrolled.var], ONE),)
    verify(kernel(Allocate(REGISTER, [unrolled])))
    lane = Store(LANES, [0], load(LANES, [1]) * load(REGISTER, [0]))
    inner = Allocate(REGISTER, [Allocate(LANES, [Loop(COL, "vector", [lane], width=4)])])
    verify(kernel(inner))
    own = Allocate(REGISTER, [Store(REGISTER, [0], ONE)])
    verify(in_loops(own, kind="vector"))


Case = tuple[str, Callable[[], Kernel]]
EXPRESSIONS: list[tuple[str, Callable[[], Expression]]] = [
    ("add of float32, float64", lambda: Expression("add", (ONE, constant(1, "float64")), F32)),
    ("add of float32: ", lambda: Expression("add", (ONE, ONE), "float64")),
    ("add takes 2 arguments, not 1", lambda: Expression("add", (ONE,), F32)),
    ("unknown operation plus", lambda: Expression("plus", (ONE,), F32)),
    ("unknown dtype", lambda: Expression("neg", (ONE,), "float8")),
    ("lt of float32", lambda: Expression("lt", (ONE, ONE), F32)),
    ("div of int64", lambda: cast(binary("div", load(WHERE, [0]), load(WHERE, [1])), F32)),
    ("exp of int64", lambda: cast(unary("exp", load(WHERE, [0])), F32)),
    ("floordiv of float32", lambda: binary("floordiv", ONE, ONE)),
    ("and of float32", lambda: binary("and", ONE, ONE)),
    ("mulhi of int64", lambda: cast(binary("mulhi", load(WHERE, [0]), 3), F32)),
    ("neg of bool", lambda: cast(unary("neg", TRUE), F32)),
    ("select by float32", lambda: Expression("select", (ONE, ONE, ONE), F32)),
    (
        "select of bool, float64, float32",
        lambda: Expression("select", (TRUE, constant(1, "float64"), ONE), F32),
    ),
    ("the bits of float32 as float64", lambda: cast(Expression("bitcast", (ONE,), "float64"), F32)),
    ("the constant 1", lambda: Expression("constant", (), F32, 1)),
    (
        "the constant 256",
        lambda: Expression("cast", (Expression("constant", (), "uint8", 256),), F32),
    ),
    ("the kernel has 1 numbers", lambda: number(1, F32)),
    ("an index that is not int64", lambda: Expression("index", (), F32, index(ROW))),
    ("the symbol m is not listed", lambda: cast(index_value(Symbol("m")), F32)),
    ("there is no loop of z around", lambda: cast(index_value(Var("z", 3)), F32)),
    ("the detail 'x'", lambda: Expression("neg", (ONE,), F32, "x")),
    ("a load from float32", lambda: cast(load(X, [0, 0], "float64"), F32)),
    ("1 coordinates for x of rank 2", lambda: load(X, [0])),
    ("a coordinate of dtype float32", lambda: load(X, [ONE, 0])),
    ("the coordinate -1 of x is outside 8", lambda: load(X, [-1, 0])),
    ("the coordinate 8 of x is outside 8", lambda: load(X, [8, 0])),
    ("the coordinate .* of x is outside 8", lambda: load(X, [index(ROW) + 1, 0])),
    ("the coordinate .* of x is outside 4", lambda: load(X, [0, index(COL) - 1])),
    ("is no buffer", lambda: load(Stage("map", (index(3),), F32), [0])),
    ("the buffer z is not in scope", lambda: load(Buffer("z", F32, [1]), [0])),
    ("across takes a register with lanes", lambda: across("add", ONE)),
]


@pytest.mark.parametrize(("message", "make"), EXPRESSIONS)
def test_expressions_that_are_wrong(message: str, make: Callable[[], Expression]) -> None:
    with pytest.raises(AssertionError, match=message) as raised:
        verify(store_to_x(make()))
    assert "x[i, j] = " in str(raised.value)


def with_lanes(*body: Statement) -> Kernel:
    return kernel(Allocate(LANES, body))


def scratch_of(extent: Any, *body: Statement) -> Kernel:
    return kernel(Allocate(Buffer("t", F32, [extent], "scratch"), body))


STATEMENTS: list[Case] = [
    ("a value of float64", lambda: store_to_x(constant(1, "float64"))),
    ("a kernel has at least one statement", lambda: kernel()),
    ("symbols are listed once", lambda: Kernel("k", [], [N, N], [], [Check(TRUE, 1)])),
    ("is no identifier", lambda: Kernel("k", [], [Symbol("a b")], [], [Check(TRUE, 1)])),
    ("numbers are float64 or int64", lambda: Kernel("k", [], [], [F32], [Check(TRUE, 1)])),
    ("the argument x is listed twice", lambda: kernel(Check(TRUE, 1), arguments=[X, X])),
    ("the argument r is a register", lambda: kernel(Check(TRUE, 1), arguments=[REGISTER])),
    ("the code 0", lambda: kernel(Check(TRUE, 0))),
    ("a condition of float32", lambda: kernel(Check(ONE, 1))),
    ("a condition of float32", lambda: kernel(If(ONE, []))),
    ("no loops of kind 'while'", lambda: in_loops(kind="while")),
    ("is the only statement at the top", lambda: in_loops(Check(TRUE, 1), kind="parallel")),
    (
        "is the only statement at the top",
        lambda: kernel(Loop(ROW, "parallel", []), Loop(COL, "serial", [])),
    ),
    ("that of a loop around it already", lambda: in_loops(Loop(ROW, "serial", []))),
    ("which is no constant", lambda: kernel(Loop(Var("u", N), "unroll", []))),
    ("depends on i, which is not unrolled", lambda: in_loops(Loop(Var("u", ROW), "unroll", []))),
    ("is inside of another", lambda: in_loops(Loop(Var("u", 3), "vector", [], 2), kind="vector")),
    (
        "the extent of u differs between lanes",
        lambda: in_loops(Loop(Var("u", COL), "serial", []), kind="vector"),
    ),
    ("vectors of width 3", lambda: kernel(Loop(ROW, "vector", [], width=3))),
    ("0 vectors at once", lambda: kernel(Loop(ROW, "vector", [], width=4, unroll=0))),
    ("serial loops have no width", lambda: kernel(Loop(ROW, "serial", [], width=4))),
    ("all iterations of j write", lambda: in_loops(Store(X, [ROW, 0], ONE), kind="vector")),
    ("all iterations of i write", lambda: kernel(Loop(ROW, "parallel", [Store(Y, [0], ONE)]))),
    ("x of scope argument is allocated", lambda: kernel(Allocate(X, []))),
    ("r is allocated already", lambda: kernel(Allocate(REGISTER, [Allocate(REGISTER, [])]))),
    ("the buffer r is not in scope", lambda: kernel(Store(REGISTER, [0], ONE))),
    (
        "the buffer r is not in scope",
        lambda: kernel(Allocate(REGISTER, []), Store(REGISTER, [0], ONE)),
    ),
    (
        "scratch t inside of a vector loop",
        lambda: in_loops(Allocate(Buffer("t", F32, [1], "scratch"), []), kind="vector"),
    ),
    ("depends on the loop variables", lambda: in_loops(*scratch_of(ROW).body)),
    (
        "extents that are no constants",
        lambda: kernel(Allocate(Buffer("s", F32, [N], "register"), [])),
    ),
    (
        "strides or an origin",
        lambda: kernel(Allocate(Buffer("s", F32, [2], "register", origin=1), [])),
    ),
    ("has 3 lanes", lambda: kernel(Allocate(Buffer("s", F32, [2], "register", lanes=3), []))),
    (
        "has lanes and is no register",
        lambda: kernel(Allocate(Buffer("s", F32, [2], "scratch", lanes=4), [])),
    ),
    (
        "is greater than its size 3",
        lambda: kernel(Allocate(Buffer("s", F32, [2], "scratch", strides=[3], size=3), [])),
    ),
    (
        "has the unknown dtype",
        lambda: kernel(Check(TRUE, 1), arguments=[_untyped()]),
    ),
    (
        "a coordinate of the register r depends on i, which is not unrolled",
        lambda: kernel(Allocate(REGISTER, [Loop(ROW, "serial", [Store(REGISTER, [ROW], ONE)])])),
    ),
    (
        "a coordinate of the register r is n",
        lambda: kernel(Allocate(REGISTER, [Store(REGISTER, [N], ONE)])),
    ),
    (
        "a computed coordinate of the register r",
        lambda: kernel(Allocate(REGISTER, [Store(REGISTER, [load(WHERE, [0])], ONE)])),
    ),
    (
        "which has no lanes",
        lambda: kernel(
            Allocate(REGISTER, [Loop(COL, "vector", [Store(REGISTER, [0], ONE)], width=4)])
        ),
    ),
    (
        "v of 4 lanes in vectors of 8",
        lambda: with_lanes(Loop(ROW, "vector", [Store(LANES, [0], ONE)], width=8)),
    ),
    (
        "seen outside of a vector loop",
        lambda: with_lanes(Store(LANES, [0], load(LANES, [1]))),
    ),
    (
        "seen outside of a vector loop",
        lambda: with_lanes(Store(LANES, [0], load(LANES, [1]) + 1.0)),
    ),
    ("v is not in memory", lambda: with_lanes(Prefetch(LANES, [0]))),
    ("1 coordinates for x", lambda: kernel(Prefetch(X, [0]))),
    ("there is no loop of j around", lambda: kernel(Prefetch(X, [COL, 0]))),
    (
        "a prefetch stands inside of a vector loop",
        lambda: in_loops(Prefetch(X, [ROW, COL]), kind="vector"),
    ),
    ("v is no row of as many vectors", lambda: with_lanes(Transpose(LANES))),
    ("the buffer square is not in scope", lambda: kernel(Transpose(SQUARE))),
    (
        "a transposition stands inside of a vector loop",
        lambda: kernel(Allocate(SQUARE, [Loop(COL, "vector", [Transpose(SQUARE)], width=4)])),
    ),
    (
        "lanes cannot be combined by sub",
        lambda: with_lanes(Store(LANES, [0], across("sub", load(LANES, [1])))),
    ),
    (
        "across stands inside of a vector loop",
        lambda: with_lanes(
            Loop(COL, "vector", [Store(X, [0, COL], across("add", load(LANES, [0])))], width=4)
        ),
    ),
]


def _untyped() -> Buffer:
    buffer = Buffer("s", F32, [2])
    buffer.dtype = "complex64"
    return buffer


@pytest.mark.parametrize(("message", "make"), STATEMENTS)
def test_statements_that_are_wrong(message: str, make: Callable[[], Kernel]) -> None:
    with pytest.raises(AssertionError, match=message):
        verify(make())


def test_messages_show_the_statement_and_not_all_of_it() -> None:
    many = [Store(X, [0, 0], ONE)] * 100
    with pytest.raises(AssertionError) as raised:
        verify(kernel(Loop(ROW, "while", many)))
    lines = str(raised.value).splitlines()
    assert lines[1] == "    while i < 8:"
    assert len(lines) < 20
