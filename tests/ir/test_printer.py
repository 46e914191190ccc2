"""The text of kernels: readable, canonical, complete."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ir.kernels import gather_checked, scale_rows, shared_expression, sum_rows, turned

from taimatsu.ir.expression import Expression, constant, index_value, load
from taimatsu.ir.index import Index, Product, Symbol, Var, index
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
from taimatsu.ir.printer import expression_text, kernel_text, statement_text

SCALE = """\
a0: argument float32[$n, 10] strides [10, 1] origin 0 size 10*$n
a1: argument float32[$n, 10] strides [10, 1] origin 0 size 10*$n aligned
symbols $n
numbers float64
parallel i0 < (($n + 3) // (4)):
  serial i1 < min(4, $n + -4*i0):
    vector i2 < 10 width 8 unroll 2:
      a1[4*i0 + i1, i2] = ((a0[4*i0 + i1, i2] * number[0]:float32) + 1.0:float32)"""

SUM = """\
a0: argument float32[5, 13] strides [13, 1] origin 0 size 65
a1: argument float32[5] strides [1] origin 0 size 5
symbols
numbers
parallel i0 < 5:
  allocate r0: register float32[1] strides [1] origin 0 size 1 lanes 4:
    r0[0] = 0.0:float32
    vector i1 < 13 width 4:
      r0[0] = (r0[0] + a0[i0, i1])
    a1[i0] = across['add'](r0[0])"""

GATHER = """\
a0: argument float32[9] strides [1] origin 0 size 9
a1: argument float32[6] strides [1] origin 0 size 6
a2: argument int32[6] strides [1] origin 0 size 6
a3: argument bool[6] strides [1] origin 0 size 6
symbols
numbers
allocate t0: scratch float32[9] strides [2] origin 3 size 20:
  unroll i0 < 9:
    t0[i0] = a0[i0]
  serial i1 < 6:
    %0 = cast.int64(a2[i1])
    check ((%0 >= 0:int64) & (%0 < index(9))) else 3
    a1[i1] = 0.0:float32
    if a3[i1]:
      a1[i1] = t0[{cast.int64(a2[i1])}]"""

TURNED = """\
a0: argument float32[4, 4] strides [4, 1] origin 0 size 16
a1: argument float32[4, 4] strides [4, 1] origin 0 size 16
symbols
numbers
allocate r0: register float32[4] strides [1] origin 0 size 4 lanes 4:
  prefetch a0[4, 0]
  prefetch a1[0, 0] to write
  unroll i0 < 4:
    vector i1 < 4 width 4:
      r0[i0] = a0[i0, i1]
  transpose r0
  unroll i2 < 4:
    vector i3 < 4 width 4:
      a1[i2, i3] = r0[i2]"""

EXPRESSION = """\
%0 = x[i]
%1 = exp((%0 * %0))
(cast.float64(fma(select((%1 < -0.0:float32), min(%1, -inf:float32), \
nan 0x7ff8000000000000:float32), %1, %0)) / cast.float64(index(2*i'1 + 1)))"""


@pytest.mark.parametrize(
    ("kernel", "text"),
    [(scale_rows, SCALE), (sum_rows, SUM), (gather_checked, GATHER), (turned, TURNED)],
)
def test_the_text_of_kernels(kernel: Callable[[], Kernel], text: str) -> None:
    assert kernel_text(kernel()) == text


def test_the_text_of_an_expression() -> None:
    shared = shared_expression()
    assert expression_text(shared) == EXPRESSION
    assert repr(shared) == expression_text(shared)


def test_names_do_not_matter() -> None:
    assert kernel_text(scale_rows("abcdn")) == SCALE
    assert kernel_text(scale_rows("iiiin")) == SCALE
    assert kernel_text(scale_rows("ijxym")) == SCALE.replace("$n", "$m")
    named = scale_rows()
    named.name = "other"
    assert kernel_text(named) == SCALE


def test_hints_and_the_order_of_terms_do_not_matter() -> None:
    n, i = Symbol("n", 3), Var("i", 4)
    x = Buffer("x", "float32", [100, 4])

    def body(symbol: Symbol, place: Index) -> Kernel:
        store = Store(x, [place, 0], constant(1, "float32"))
        return Kernel("k", [x], [symbol], [], [Loop(i, "serial", [store])])

    one = kernel_text(body(n, index(n) + i))
    assert kernel_text(body(Symbol("n", 9), index(i) + n)) == one
    assert kernel_text(body(n, index(n) - i)) != one


def test_a_variable_that_two_loops_share_is_printed_as_two() -> None:
    x = Buffer("x", "float32", [4])

    def kernel(first: Var, second: Var) -> str:
        loops = [
            Loop(v, "serial", [Store(x, [v], constant(0, "float32"))]) for v in (first, second)
        ]
        return kernel_text(Kernel("k", [x], [], [], loops))

    i = Var("i", 4)
    assert kernel(i, i) == kernel(i, Var("j", 4))


def test_what_is_not_bound_is_marked() -> None:
    store = Store(Buffer("lost", "float32", [4]), [Var("v", 4)], constant(0, "float32"))
    assert statement_text(store) == "lost[v] = 0.0:float32"
    text = kernel_text(Kernel("k", [], [], [], [store]))
    assert text.splitlines()[-1] == "?lost.0[?v.0] = 0.0:float32"


NUMBERS = [
    *[0.0, -0.0, 1.0, 0.1, 0.1 + 2**-56, float("inf"), float("-inf"), 5e-324],
    *[float("nan"), -float("nan"), 1, True, 0, False, -(2**63), 2**64 - 1],
]


def test_constants_are_told_apart_exactly() -> None:
    texts = {
        expression_text(Expression("constant", (), dtype, value))
        for value in NUMBERS
        for dtype in ("float64", "float32", "int64")
    }
    assert len(texts) == 3 * len(NUMBERS)


# -- completeness: whatever is changed shows -----------------------------------------------------


def fields(thing: Any) -> Iterator[tuple[Any, str]]:
    """Every field of every part that a kernel is made of, with the part it belongs to."""
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, (tuple, list)):
            waiting.extend(part)
            continue
        for name in getattr(type(part), "__slots__", ()):
            yield part, name
            waiting.append(getattr(part, name))


# Not part of what the code is, or (terms, hashes) not fields to change but results.
MEANINGLESS = {(Kernel, "name"), (Buffer, "name"), (Var, "name"), (Symbol, "hint")}
OTHERS: dict[str, Any] = {
    "dtype": "float64",
    "kind": "serial",
    "scope": "scratch",
    "op": "other",
    "name": "z",
}


def changes(part: Any, name: str) -> list[Any]:
    """Other values for a field."""
    value = getattr(part, name)
    if name == "detail" and type(value) is tuple:  # of a load
        source, where = value
        return [
            (changed(source, "buffer"), where),
            (source, where[:-1]),
            (source, (*where, index(1))),
        ]
    return [changed(value, name)]


def changed(value: Any, name: str) -> Any:
    if name == "buffer":
        return Buffer("b", "int8", [3], "register", lanes=2)
    if name == "condition":
        return constant(False, "bool")
    if name == "value":
        return constant(77, "int16")
    if name in OTHERS:
        return OTHERS[name] if value != OTHERS[name] else value + "2"
    if isinstance(value, Index):
        return value + 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "2"
    if value is None:
        return "something"
    if isinstance(value, Var):
        return Var("w", value.extent + 1)
    assert isinstance(value, tuple), (value, name)
    if value:
        return value[:-1]
    return {"symbols": (Symbol("z"),), "numbers": ("int64",)}.get(name, (constant(1, "int8"),))


CHANGED = (Kernel, Buffer, Loop, Store, If, Check, Transpose, Prefetch, Allocate, Expression)


@pytest.mark.parametrize("make", [scale_rows, sum_rows, gather_checked, turned])
def test_every_field_of_every_node_shows(make: Callable[[], Kernel]) -> None:
    kernel = make()
    before = kernel_text(kernel)
    met = set()
    for part, name in list(fields(kernel)):
        if not isinstance(part, CHANGED) or (type(part), name) in MEANINGLESS:
            continue
        if name == "var":
            continue  # a loop's variable is its extent, and where it is used
        value = getattr(part, name)
        for other in changes(part, name):
            setattr(part, name, other)
            assert kernel_text(kernel) != before, (part, name)
        setattr(part, name, value)
        met.add((type(part), name))
    assert kernel_text(kernel) == before
    assert len(met) >= 14


def test_all_kinds_of_parts_are_among_the_changed() -> None:
    met = {
        type(p)
        for make in (scale_rows, sum_rows, gather_checked, turned)
        for p, _ in fields(make())
    }
    assert met >= set(CHANGED)
    assert set(Statement.__subclasses__()) <= set(CHANGED)


@pytest.mark.parametrize(
    "other",
    [
        lambda i, j, n: index(i) + 1,
        lambda i, j, n: index(i) * 2,
        lambda i, j, n: index(j),
        lambda i, j, n: index(n),
        lambda i, j, n: index(Symbol("m")),
        lambda i, j, n: index(i) * n,
        lambda i, j, n: index(i) * j,
        lambda i, j, n: index(i) // 2,
        lambda i, j, n: index(i) % 2,
        lambda i, j, n: index(i) % 3,
        lambda i, j, n: (index(i) + index(i) // 2) // n,
        lambda i, j, n: (index(i) + index(i)) // n,
    ],
)
def test_indices_are_told_apart(other: Callable[..., Index]) -> None:
    n, i, j = Symbol("n"), Var("i", 8), Var("j", 8)
    texts = {kernel_text(_with_index(i, j, n, made)) for made in (index(i), other(i, j, n))}
    assert len(texts) == 2


def _with_index(i: Var, j: Var, n: Symbol, place: Index) -> Kernel:
    x = Buffer("x", "int64", [8, 8])
    store = Store(x, [place, 0], index_value(place))
    loops = Loop(i, "serial", [Loop(j, "serial", [store])])
    return Kernel("k", [x], [n], [], [loops])


def test_products_are_printed_in_one_order() -> None:
    n, m = Symbol("n"), Symbol("m")
    assert Product((n, m)) == Product((m, n))
    assert expression_text(index_value(index(n) * m)) == "index($m*$n)"


# -- size and time -------------------------------------------------------------------------------


def chain(length: int) -> Kernel:
    """Each value used twice: written out, the text would have 2**length parts."""
    x = Buffer("x", "float32", [4])
    i = Var("i", 4)
    value = load(x, [i])
    for k in range(length):
        value = value * value + float(k)
    return Kernel("k", [x], [], [], [Loop(i, "serial", [Store(x, [i], value)])])


def test_text_is_linear_in_size() -> None:
    assert len(kernel_text(chain(300))) < 300 * 60


def test_long_chains_are_printed_without_recursion() -> None:
    value = load(Buffer("x", "float32", [4]), [0])
    for _ in range(5000):
        value = value + 1.0
    text = expression_text(value)
    assert text.count("+ 1.0:float32") == 5000
    assert max(map(len, text.splitlines())) < 300


def test_printing_is_fast() -> None:
    """A millisecond for 300 nodes; ten times that fails, whatever else the machine does."""
    kernel = chain(150)
    best = min(_seconds(lambda: kernel_text(kernel)) for _ in range(20))
    assert best < 10e-3


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def test_copies_have_the_same_text() -> None:
    kernel = gather_checked()
    assert kernel_text(copy.deepcopy(kernel)) == kernel_text(kernel)


def test_the_printer_needs_no_numpy() -> None:
    root = Path(__file__).parents[2]
    lines = (root / "taimatsu/ir/printer.py").read_text(encoding="utf-8").splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    standard = ("__future__", "struct", "collections.abc", "typing")
    allowed = (*standard, "taimatsu.ir.expression", "taimatsu.ir.index", "taimatsu.ir.loops")
    assert {line.split()[1] for line in imports} <= set(allowed)
