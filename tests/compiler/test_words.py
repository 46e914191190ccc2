"""The words of schedules: what they make of a tree, and that it computes the same to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from taimatsu.compiler.schedule.words import (
    cache_write,
    compute_at,
    distribute,
    fuse,
    parallel,
    reorder,
    rfactor,
    simplify,
    split,
    unroll,
    vectorize,
)
from taimatsu.ir.expression import Expression, binary, constant, fma, index_value, load
from taimatsu.ir.index import Symbol, Var, index
from taimatsu.ir.interpreter import run
from taimatsu.ir.loops import Allocate, Buffer, If, Kernel, Loop, Statement, Store
from taimatsu.ir.printer import kernel_text
from taimatsu.ir.verifier import verify

F32 = "float32"
N = Symbol("n")
Body = tuple[Statement, ...]


class Nest:
    """A tree with its arguments: compares what it computes, and shows it."""

    def __init__(self, body: Body, *buffers: Buffer) -> None:
        self.body = body
        self.buffers = buffers

    def kernel(self, body: Body) -> Kernel:
        made = Kernel("k", self.buffers, [N], [], body)
        verify(made)
        return made

    def lines(self, body: Body) -> list[str]:
        """The statements' text, without the arguments'."""
        text = kernel_text(self.kernel(body)).splitlines()
        return text[len(self.buffers) + 2 :]

    def results(self, body: Body, n: int, backwards: bool = False) -> list[np.ndarray]:
        made = self.kernel(body)
        generator = np.random.default_rng(n)
        arrays = []
        for buffer in self.buffers:
            size = buffer.size.evaluate(lambda symbol: n)
            arrays.append(generator.standard_normal(size).astype(buffer.dtype))
        chunks = range(made.chunks.evaluate(lambda symbol: n))
        order = reversed(chunks) if backwards else chunks
        assert run(made, arrays, {"n": n}, chunks=order, backwards=backwards) == 0
        return arrays

    def assert_same(self, body: Body, sizes: Sequence[int] = (1, 5, 8)) -> None:
        """The tree computes the same, to the bit, with lanes and chunks in any order."""
        for n in sizes:
            for backwards in (False, True):
                expected = self.results(self.body, n)
                made = self.results(body, n, backwards)
                for a, b in zip(expected, made, strict=True):
                    assert np.array_equal(a, b), n


def doubled() -> tuple[Nest, Var]:
    """``y[i] = 2 x[i]`` of n."""
    x, y = Buffer("x", F32, [N]), Buffer("y", F32, [N])
    i = Var("i", N)
    return Nest((Loop(i, "serial", [Store(y, [i], load(x, [i]) * 2.0)]),), x, y), i


def matmul() -> tuple[Nest, Var, Var, Var, Buffer]:
    """``c[i, j] = 0; c[i, j] += a[i, k] b[k, j]`` for 6 x 8, over n."""
    a, b = Buffer("a", F32, [6, N]), Buffer("b", F32, [N, 8])
    c = Buffer("c", F32, [6, 8])
    i, j, k = Var("i", 6), Var("j", 8), Var("k", N)
    update = Store(c, [i, j], fma(load(a, [i, k]), load(b, [k, j]), load(c, [i, j])))
    inner = [Store(c, [i, j], constant(0, F32)), Loop(k, "serial", [update])]
    return Nest((Loop(i, "serial", [Loop(j, "serial", inner)]),), a, b, c), i, j, k, c


def row_sums() -> tuple[Nest, Var, Var, Buffer]:
    """``y[i] = y[i] + x[i, k]``, three rows of n."""
    x, y = Buffer("x", F32, [3, N]), Buffer("y", F32, [3])
    i, k = Var("i", 3), Var("k", N)
    add = Store(y, [i], load(y, [i]) + load(x, [i, k]))
    return Nest((Loop(i, "serial", [Loop(k, "serial", [add])]),), x, y), i, k, y


def smoothed() -> tuple[Nest, Var, Buffer]:
    """``t[i] = x[i]^2`` of n + 2, then ``y[i] = t[i] + t[i + 1] + t[i + 2]`` of n."""
    size = index(N) + 2
    x, y = Buffer("x", F32, [size]), Buffer("y", F32, [N])
    t = Buffer("t", F32, [size], "scratch")
    p, i = Var("p", size), Var("i", N)
    first = Loop(p, "serial", [Store(t, [p], load(x, [p]) * load(x, [p]))])
    total = load(t, [i]) + load(t, [index(i) + 1]) + load(t, [index(i) + 2])
    second = Loop(i, "serial", [Store(y, [i], total)])
    return Nest((Allocate(t, [first, second]),), x, y), i, t


# -- loops -----------------------------------------------------------------------------------


def test_split() -> None:
    nest, i = doubled()
    assert nest.lines(nest.body) == [
        "serial i0 < $n:",
        "  a1[i0] = (a0[i0] * 2.0:float32)",
    ]
    body, outer, inner = split(nest.body, i, 4)
    assert nest.lines(body) == [
        "serial i0 < (($n + 3) // (4)):",
        "  serial i1 < min(4, $n + -4*i0):",
        "    a1[4*i0 + i1] = (a0[4*i0 + i1] * 2.0:float32)",
    ]
    nest.assert_same(body)
    nest.assert_same(parallel(vectorize(body, inner, 4), outer))


def test_split_of_constants_has_constant_blocks() -> None:
    nest, i, *_ = matmul()
    body, _, inner = split(nest.body, i, 3)
    assert inner.extent == 3
    body, _, inner = split(body, inner, 2)
    assert nest.lines(body)[:3] == [
        "serial i0 < 2:",
        "  serial i1 < 2:",
        "    serial i2 < min(2, -2*i1 + 3):",
    ]
    nest.assert_same(body)


def test_fuse() -> None:
    nest, i, j, _, _ = matmul()
    body, _ = fuse(nest.body, i, j)
    assert nest.lines(body) == [
        "serial i0 < 48:",
        "  a2[((i0) // (8)), ((i0) % (8))] = 0.0:float32",
        "  serial i1 < $n:",
        "    a2[((i0) // (8)), ((i0) % (8))] = fma(a0[((i0) // (8)), i1], "
        "a1[i1, ((i0) % (8))], a2[((i0) // (8)), ((i0) % (8))])",
    ]
    nest.assert_same(body)
    with pytest.raises(ValueError, match=r"\[fuse\] expected a loop and nothing else"):
        fuse(nest.body, j, i)
    triangle = Var("t", i)
    body = (Loop(i, "serial", [Loop(triangle, "serial", [])]),)
    with pytest.raises(ValueError, match="the extent i of t depends on i"):
        fuse(body, i, triangle)


def test_distribute_and_reorder() -> None:
    nest, _, j, k, _ = matmul()
    body = distribute(nest.body, j)
    assert nest.lines(body) == [
        "serial i0 < 6:",
        "  serial i1 < 8:",
        "    a2[i0, i1] = 0.0:float32",
        "  serial i2 < 8:",
        "    serial i3 < $n:",
        "      a2[i0, i2] = fma(a0[i0, i3], a1[i3, i2], a2[i0, i2])",
    ]
    nest.assert_same(body)
    second = body[0].body[1].var  # type: ignore[attr-defined]
    body = reorder(body, k, second)
    assert nest.lines(body)[3:] == [
        "  serial i2 < $n:",
        "    serial i3 < 8:",
        "      a2[i0, i3] = fma(a0[i0, i2], a1[i2, i3], a2[i0, i3])",
    ]
    nest.assert_same(body)


def test_the_order_of_sums_is_kept() -> None:
    nest, _, k, _ = row_sums()
    body, outer, inner = split(nest.body, k, 2)
    assert inner.extent != 2
    with pytest.raises(ValueError, match="is not fixed"):
        reorder(body, inner, outer)
    x, y = Buffer("x", F32, [4, 6]), Buffer("y", F32, [1])
    i, j = Var("i", 4), Var("j", 6)
    add = Store(y, [0], load(y, [0]) + load(x, [i, j]))
    body = (Loop(i, "serial", [Loop(j, "serial", [add])]),)
    with pytest.raises(ValueError, match="iterations of i, j may use one element of y"):
        reorder(body, j, i)
    with pytest.raises(ValueError, match="expected all the loops from the outermost on: i, j"):
        reorder(body, i, Var("z", 3))


I4, J4 = Var("i", 4), Var("j", 4)
PLACES: list[tuple[list[Any], list[Any], bool]] = [
    ([I4, J4], [I4, J4], True),
    ([I4, J4], [I4, index(J4) + 1], True),  # for each i the order of j is as it was
    ([I4, J4], [index(I4) + 1, index(J4) - 1], False),
    ([index(I4) * 4 + J4, 0], [index(I4) * 4 + J4, 0], True),
    ([index(I4) * 3 + J4, 0], [index(I4) * 3 + J4, 0], False),
    ([index(I4) + J4, 0], [index(I4) + J4, 0], False),
    ([index(I4) * 4 + J4, 0], [index(I4) * 5 + J4, 0], False),
    ([index(I4) // 2, J4], [index(I4) // 2, J4], True),
    ([load(Buffer("w", "int64", [4]), [I4]), J4], [0, J4], True),
    ([load(Buffer("w", "int64", [4]), [I4]), 0], [0, 0], False),
]


@pytest.mark.parametrize(("stored", "loaded", "allowed"), PLACES)
def test_what_may_be_reordered(stored: list[Any], loaded: list[Any], allowed: bool) -> None:
    y = Buffer("y", F32, [32, 8])
    store = Store(y, stored, load(y, loaded) + 1.0)
    body = (Loop(I4, "serial", [Loop(J4, "serial", [store])]),)
    if allowed:
        reorder(body, J4, I4)
        return
    with pytest.raises(ValueError, match="their order matters"):
        reorder(body, J4, I4)


def test_distribute_refuses_what_later_iterations_use() -> None:
    y, z = Buffer("y", F32, [9]), Buffer("z", F32, [9])
    i = Var("i", 8)
    first = Store(y, [i], constant(1, F32))
    second = Store(z, [i], load(y, [index(i) + 1]))
    with pytest.raises(ValueError, match=r"\[distribute\] iterations of i may use one element"):
        distribute((Loop(i, "serial", [first, second]),), i)


def test_vectorize_unroll_parallel() -> None:
    nest, i, j, k, _ = matmul()
    body = parallel(vectorize(nest.body, j, 4, unroll=2), i)
    assert nest.lines(body)[:3] == [
        "parallel i0 < 6:",
        "  vector i1 < 8 width 4 unroll 2:",
        "    a2[i0, i1] = 0.0:float32",
    ]
    nest.assert_same(body)
    assert nest.lines(unroll(nest.body, i))[0] == "unroll i0 < 6:"
    nest.assert_same(unroll(nest.body, i))
    with pytest.raises(ValueError, match="expected a constant extent"):
        unroll(nest.body, k)
    with pytest.raises(ValueError, match="alone at the top"):
        parallel(nest.body, j)
    with pytest.raises(ValueError, match="expected a serial loop; i is parallel"):
        vectorize(body, i, 4)
    with pytest.raises(ValueError, match="there is no loop of z; there are: i, j, k"):
        unroll(nest.body, Var("z", 4))


def test_simplify() -> None:
    x = Buffer("x", "int64", [4])
    one, none, two = Var("i", 1), Var("j", 0), Var("k", 2)
    store = Store(x, [index(two) * 2 + one], index_value(index(one) + two))
    other = Store(x, [0], constant(5, "int64"))
    dead = [
        Loop(none, "serial", [other]),
        If(constant(False, "bool"), [other]),
        If(_unknown(x), []),
    ]
    live = If(constant(True, "bool"), [Loop(one, "serial", [store])])
    body: Body = (Loop(two, "serial", [*dead, live]),)
    nest = Nest(body, x)
    assert nest.lines(simplify(body)) == ["serial i0 < 2:", "  a0[2*i0] = index(i0)"]
    nest.assert_same(simplify(body))


def _unknown(x: Buffer) -> Expression:
    return binary("lt", load(x, [0]), 3)


# -- buffers ---------------------------------------------------------------------------------


def test_cache_write_of_one_element() -> None:
    nest, _, j, _, c = matmul()
    body, register = cache_write(nest.body, j, c)
    assert nest.lines(body) == [
        "serial i0 < 6:",
        "  serial i1 < 8:",
        "    allocate r0: register float32[1, 1] strides [1, 1] origin 0 size 1:",
        "      r0[0, 0] = 0.0:float32",
        "      serial i2 < $n:",
        "        r0[0, 0] = fma(a0[i0, i2], a1[i2, i1], r0[0, 0])",
        "      a2[i0, i1] = r0[0, 0]",
    ]
    assert register.lanes == 1
    nest.assert_same(body)


def test_cache_write_loads_what_is_read_first() -> None:
    nest, i, _, y = row_sums()
    body, _ = cache_write(nest.body, i, y)
    assert nest.lines(body) == [
        "serial i0 < 3:",
        "  allocate r0: register float32[1] strides [1] origin 0 size 1:",
        "    r0[0] = a1[i0]",
        "    serial i1 < $n:",
        "      r0[0] = (r0[0] + a0[i0, i1])",
        "    a1[i0] = r0[0]",
    ]
    nest.assert_same(body)


def tiled_matmul() -> tuple[Nest, Body]:
    """2 x 2 vectors of 4 in registers, the loop over k around them."""
    nest, i, j, k, c = matmul()
    body, _, rows = split(nest.body, i, 2)
    body = distribute(distribute(body, j), rows)
    (block,) = body
    first, second = block.body  # type: ignore[attr-defined]
    parts = [(first, None), (second, k)]
    for nest_of_part, reduction in parts:
        row, column = nest_of_part.var, nest_of_part.body[0].var
        body, vector, lane = split(body, column, 4)
        if reduction is not None:
            body = reorder(body, row, vector, lane, reduction)[:]
            body = reorder(body, reduction, row, vector, lane)
        body = vectorize(unroll(unroll(body, row), vector), lane, 4)
    body, _ = cache_write(body, block.var, c)
    return nest, body


def test_cache_write_of_a_tile_in_lanes() -> None:
    nest, body = tiled_matmul()
    assert nest.lines(body) == [
        "serial i0 < 3:",
        "  allocate r0: register float32[2, 2] strides [2, 1] origin 0 size 4 lanes 4:",
        "    unroll i1 < 2:",
        "      unroll i2 < 2:",
        "        vector i3 < 4 width 4:",
        "          r0[i1, i2] = 0.0:float32",
        "    serial i4 < $n:",
        "      unroll i5 < 2:",
        "        unroll i6 < 2:",
        "          vector i7 < 4 width 4:",
        "            r0[i5, i6] = fma(a0[2*i0 + i5, i4], a1[i4, 4*i6 + i7], r0[i5, i6])",
        "    unroll i8 < 2:",
        "      unroll i9 < 2:",
        "        vector i10 < 4 width 4:",
        "          a2[2*i0 + i8, 4*i9 + i10] = r0[i8, i9]",
    ]
    nest.assert_same(body)


def test_cache_write_says_what_it_expects() -> None:
    nest, i, j, _, c = matmul()
    wide = vectorize(nest.body, j, 4)
    with pytest.raises(ValueError, match="expected j to go over one vector of c"):
        cache_write(wide, i, c)
    with pytest.raises(ValueError, match="no access to other in i"):
        cache_write(nest.body, i, Buffer("other", F32, [1]))
    doubling, outer = doubled()
    whole = (Loop(Var("z", 1), "serial", doubling.body),)
    with pytest.raises(ValueError, match="expected a known extent"):
        cache_write(whole, whole[0].var, doubling.buffers[1])
    assert outer.extent == index(N)


@pytest.mark.parametrize("op", ["add", "max", "fma"])
def test_rfactor(op: str) -> None:
    nest, i, k, y = row_sums()
    x = nest.buffers[0]
    before: Expression = load(y, [i])
    value = load(x, [i, k])
    made = fma(value, value, before) if op == "fma" else binary(op, before, value)
    nest = Nest((Loop(i, "serial", [Loop(k, "serial", [Store(y, [i], made)])]),), x, y)
    body, partial = rfactor(nest.body, k, 4, unroll=2)
    assert partial.lanes == 4
    for n in (1, 4, 7, 21):
        first, second = nest.results(nest.body, n)[1], nest.results(body, n)[1]
        assert np.allclose(first, second, rtol=1e-5, atol=1e-5)
        assert np.array_equal(second, nest.results(body, n, backwards=True)[1])
    if op == "add":
        assert nest.lines(body) == [
            "serial i0 < 3:",
            "  allocate r0: register float32[1] strides [1] origin 0 size 1 lanes 4:",
            "    r0[0] = 0.0:float32",
            "    vector i1 < $n width 4 unroll 2:",
            "      r0[0] = (r0[0] + a0[i0, i1])",
            "    a1[i0] = (a1[i0] + across['add'](r0[0]))",
        ]


def test_rfactor_says_what_it_expects() -> None:
    nest, i, k, y = row_sums()
    with pytest.raises(ValueError, match="expected one store in the loop of i"):
        rfactor(nest.body, i, 4)
    register = Buffer("r", F32, [1], "register")
    store = Store(register, [0], load(register, [0]) + load(nest.buffers[0], [0, k]))
    with pytest.raises(ValueError, match="rfactor it first"):
        vectorize((Allocate(register, [Loop(k, "serial", [store])]),), k, 4)
    other = Store(y, [0], load(y, [0]) - load(y, [0]))
    with pytest.raises(ValueError, match=r"expected y\[..\] = y\[..\] op value"):
        rfactor((Loop(k, "serial", [other]),), k, 4)
    moving, j = doubled()
    with pytest.raises(ValueError, match="at another place in each iteration"):
        rfactor(moving.body, j, 4)


def test_compute_at_infers_the_halo() -> None:
    nest, i, t = smoothed()
    assert nest.lines(nest.body) == [
        "allocate t0: scratch float32[$n + 2] strides [1] origin 0 size $n + 2:",
        "  serial i0 < $n + 2:",
        "    t0[i0] = (a0[i0] * a0[i0])",
        "  serial i1 < $n:",
        "    a1[i1] = ((t0[i1] + t0[i1 + 1]) + t0[i1 + 2])",
    ]
    body, outer, inner = split(nest.body, i, 4)
    body, piece = compute_at(body, t, outer)
    assert nest.lines(body) == [
        "serial i0 < (($n + 3) // (4)):",
        "  allocate t0: scratch float32[6] strides [1] origin 0 size 6:",
        "    serial i1 < min(4, $n + -4*i0) + 2:",
        "      t0[i1] = (a0[4*i0 + i1] * a0[4*i0 + i1])",
        "    serial i2 < min(4, $n + -4*i0):",
        "      a1[4*i0 + i2] = ((t0[i2] + t0[i2 + 1]) + t0[i2 + 2])",
    ]
    assert piece.shape == (index(6),)
    nest.assert_same(body)
    nest.assert_same(parallel(vectorize(body, inner_of(body, 1), 4), outer))
    assert inner.extent == body[0].body[0].body[1].extent  # type: ignore[attr-defined]


def inner_of(body: Body, place: int) -> Var:
    """The variable of a nest in the piece's allocation."""
    loop: Loop = body[0].body[0].body[place]  # type: ignore[attr-defined]
    return loop.var


def test_compute_at_in_registers() -> None:
    nest, i, t = smoothed()
    body, _ = compute_at(nest.body, t, i, "register")
    loops = body[0].body[0].body  # type: ignore[attr-defined]
    body = unroll(body, loops[0].var)
    assert nest.lines(body) == [
        "serial i0 < $n:",
        "  allocate r0: register float32[3] strides [1] origin 0 size 3:",
        "    unroll i1 < 3:",
        "      r0[i1] = (a0[i0 + i1] * a0[i0 + i1])",
        "    a1[i0] = ((r0[0] + r0[1]) + r0[2])",
    ]
    nest.assert_same(body)


def test_compute_at_of_pooled_rows() -> None:
    """Two dimensions, steps of 2: the region is two rows, whole."""
    x, y = Buffer("x", F32, [8, 6]), Buffer("y", F32, [4, 3])
    t = Buffer("t", F32, [8, 6], "scratch")
    r, c, i, j = Var("r", 8), Var("c", 6), Var("i", 4), Var("j", 3)
    fill = Loop(r, "serial", [Loop(c, "serial", [Store(t, [r, c], load(x, [r, c]) * 3.0)])])
    top = [load(t, [index(i) * 2, index(j) * 2 + b]) for b in (0, 1)]
    low = [load(t, [index(i) * 2 + 1, index(j) * 2 + b]) for b in (0, 1)]
    most = binary("max", binary("max", *top), binary("max", *low))
    pool = Loop(i, "serial", [Loop(j, "serial", [Store(y, [i, j], most)])])
    nest = Nest((Allocate(t, [fill, pool]),), x, y)
    body, piece = compute_at(nest.body, t, i)
    assert [n.value() for n in piece.shape] == [2, 6]
    nest.assert_same(body, sizes=[1])
    body, piece = compute_at(nest.body, t, j)
    assert [n.value() for n in piece.shape] == [2, 2]
    nest.assert_same(body, sizes=[1])


def refused(change: Callable[[Buffer, Var, list[Statement]], list[Statement]]) -> str:
    nest, i, t = smoothed()
    (allocation,) = nest.body
    body = change(t, i, list(allocation.body))  # type: ignore[attr-defined]
    with pytest.raises(ValueError) as raised:
        compute_at((Allocate(t, body),), t, i)
    return str(raised.value)


def test_compute_at_says_what_it_expects() -> None:
    one = constant(1, F32)
    other = Buffer("o", F32, [N])
    i = Var("z", N)
    loop = Loop(i, "serial", [Store(other, [i], one)])
    assert "does not load t" in refused(lambda t, i, b: [b[0], Loop(i, "serial", [])])
    assert "nothing fills t" in refused(lambda t, i, b: b[1:])
    assert "loaded outside of i too" in refused(
        lambda t, i, b: [*b, Store(other, [0], load(t, [0]))]
    )
    assert "writes to {o} as well" in refused(
        lambda t, i, b: [Loop(b[0].var, "serial", [*b[0].body, *loop.body]), b[1]]  # type: ignore[attr-defined]
    )
    x = smoothed()[0].buffers[0]
    assert "expected a loop for each dimension" in refused(
        lambda t, i, b: [Store(t, [0], load(x, [0])), b[1]]
    )
    nest, i, t = smoothed()
    (allocation,) = nest.body
    late = Store(nest.buffers[0], [0], one)
    with pytest.raises(ValueError, match="reads {x}, which changes later"):
        compute_at((Allocate(t, [*allocation.body, late]),), t, i)  # type: ignore[attr-defined]
