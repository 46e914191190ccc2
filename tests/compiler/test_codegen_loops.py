"""Loops, masks, registers, scratch memory and checks: kernels written for what may go wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from codegen_kernels import TARGETS, Launch, aligned, assembly, guarded, run
from ir.kernels import turned

from taimatsu.compiler.codegen.llvm import lower_kernel
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import Expression, constant, fma, load
from taimatsu.ir.index import Index, Symbol, Var, index
from taimatsu.ir.loops import Allocate, Buffer, Check, If, Kernel, Loop, Statement, Store
from taimatsu.ir.target import Target

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
AVX512 = Target.of("x86_64-unknown-linux-gnu", {"avx512vl", "avx512bw", "avx512dq", "bmi2"})
NEON = Target.of("aarch64-unknown-linux-gnu")
rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def vector(var: Var, body: list[Statement], width: int = 16, unroll: int = 1) -> Loop:
    return Loop(var, "vector", body, width, unroll)


@every_target
@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("width", [2, 4, 8, 16])
def test_transpositions(width, dtype, target):
    given = rng.integers(0, 2 if dtype == "bool" else 200, (width, width)).astype(dtype)
    got = np.zeros_like(given)
    assert run(turned(width, dtype), [given.reshape(-1), got.reshape(-1)], target=target) == 0
    assert (got == given.T).all()


def test_transpositions_shuffle_within_registers():
    """As many shuffles as there are pairs of rows in each of four rounds, and nothing in memory."""
    text = assembly(turned(16), AVX512)
    moves = [
        line.split()[0] for line in text.splitlines() if re.match(r"\s+v(unpck|perm|shuf)", line)
    ]
    assert len(moves) == 64
    assert "(%rsp)" not in text


# -- vector loops -----------------------------------------------------------------------------


@every_target
@pytest.mark.parametrize("width", [1, 4, 8, 16])
@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("is_known", [True, False])
def test_every_remainder(width, unroll, is_known, target):
    """Beside pages that cannot be touched: what lies behind the last element is left alone."""
    n = Symbol("n")
    for size in range(0, 2 * width * unroll + width + 1, 1 if width < 8 else 3):
        extent = index(size) if is_known else index(n)
        i = Var("i", extent)
        x, y = (Buffer(name, "float32", [extent]) for name in "xy")
        body = [vector(i, [Store(y, [index(i)], load(x, [index(i)]) * 2.0)], width, unroll)]
        kernel = Kernel("twice", [x, y], [] if is_known else [n], [], body)
        given, got = (guarded(size, np.dtype("f4"), at_end=True) for _ in range(2))
        given[...] = floats(size)
        assert run(kernel, [given, got], [] if is_known else [size], target=target) == 0
        assert (got == given * 2).all()


@every_target
@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "float32", "float64"])
@pytest.mark.parametrize("stride", [-2, -1, 0, 1, 2, 3])
def test_strides_under_masks(stride, dtype, target):
    """Loads and stores with any step from lane to lane, of which the last vector is masked."""
    size = 21
    i = Var("i", size)
    reach = (size - 1) * abs(stride) + 1
    first = reach - 1 if stride < 0 else 0
    x, y = Buffer("x", dtype, [reach]), Buffer("y", dtype, [reach])
    where = index(i) * stride + first
    back = where if stride else index(i) * 0
    value = load(x, [where])
    outs = [Buffer("dense", dtype, [size]), y]
    body = [Store(outs[0], [index(i)], value)]
    if stride:
        body.append(Store(y, [back], value))
    kernel = Kernel("strides", [x, *outs], [], [], [vector(i, body, 8)])
    given = guarded(reach, np.dtype(dtype), at_end=stride < 0)
    given[...] = rng.integers(0, 2, reach) if dtype == "bool" else rng.integers(0, 99, reach)
    dense, spread = np.zeros(size, dtype), guarded(reach, np.dtype(dtype), at_end=stride > 0)
    assert run(kernel, [given, dense, spread], target=target) == 0
    places = first + stride * np.arange(size)
    assert (dense == given[places]).all()
    expected = np.zeros(reach, dtype)
    if stride:
        expected[places] = given[places]
    assert (spread == expected).all()


@every_target
def test_gathers_and_scatters_with_computed_coordinates(target):
    size = 37
    i = Var("i", size)
    x, where, y = (
        Buffer("x", "float32", [100]),
        Buffer("where", "int32", [size]),
        Buffer("y", "float32", [100]),
    )
    place = ex.cast(load(where, [index(i)]), "int64")
    moved = ex.binary("sub", constant(99, "int64"), place)
    body = [vector(i, [Store(y, [moved], load(x, [place]))])]
    kernel = Kernel("move", [x, where, y], [], [], body)
    given, places, got = floats(100), rng.permutation(100)[:size].astype(np.int32), floats(100)
    expected = got.copy()
    expected[99 - places] = given[places]
    assert run(kernel, [given, places, got], target=target) == 0
    assert (got == expected).all()


@every_target
def test_a_reshape_needs_no_gather(target):
    """Quotients and remainders that are the same for all lanes, or follow one another."""
    i = Var("i", 48 * 32)
    x = Buffer("x", "float32", [48, 32], strides=[40, 1])
    y = Buffer("y", "float32", [48 * 32])
    value = load(x, [index(i) // 32, index(i) % 32])
    kernel = Kernel("reshape", [x, y], [], [], [vector(i, [Store(y, [index(i)], value)])])
    assert "gather" not in lower_kernel(kernel, target)
    given, got = floats(48 * 40), np.zeros(48 * 32, np.float32)
    assert run(kernel, [given, got], target=target) == 0
    assert (got == given.reshape(48, 40)[:, :32].ravel()).all()


# -- what must not be read ---------------------------------------------------------------------


def forbidden() -> np.ndarray:
    """An array without elements, before and behind which nothing can be read."""
    return guarded(0, np.dtype("f4"), at_end=False)


def of_no_iteration(x: Buffer, n: Symbol, sink: Callable[[Expression], Statement]) -> Statement:
    return Loop(Var("k", index(n)), "serial", [sink(load(x, [0]))])


def of_no_vector(x: Buffer, n: Symbol, sink: Callable[[Expression], Statement]) -> Statement:
    k = Var("k", index(n))
    return vector(k, [Loop(Var("l", 3), "serial", [sink(load(x, [0]))])])


def after_a_check(x: Buffer, n: Symbol, sink: Callable[[Expression], Statement]) -> Statement:
    fails = ex.binary("lt", constant(0, "int64"), ex.index_value(n))
    return Loop(Var("k", 3), "serial", [Check(fails, 5), sink(load(x, [0]))])


def of_a_condition(x: Buffer, n: Symbol, sink: Callable[[Expression], Statement]) -> Statement:
    holds = ex.binary("lt", constant(0, "int64"), ex.index_value(n))
    return Loop(Var("k", 3), "serial", [If(holds, [sink(load(x, [0]))])])


def of_lanes_none_of_which_is_active(
    x: Buffer, n: Symbol, sink: Callable[[Expression], Statement]
) -> Statement:
    k = Var("k", 19)
    holds = ex.binary("lt", ex.index_value(k), ex.index_value(n))
    store = sink(load(x, [0]))
    assert type(store) is Store
    return vector(k, [If(holds, [Store(store.buffer, [index(k)], store.value)])])


@every_target
@pytest.mark.parametrize(
    "write",
    [
        of_no_iteration,
        of_no_vector,
        after_a_check,
        of_a_condition,
        of_lanes_none_of_which_is_active,
    ],
)
@pytest.mark.parametrize("is_read", [False, True])
def test_loads_are_not_done_where_the_program_does_not(write, is_read, target):
    n = Symbol("n")
    x, y = Buffer("x", "float32", [1]), Buffer("y", "float32", [19])
    statement = write(x, n, lambda value: Store(y, [0], value))
    kernel = Kernel("guarded", [x, y], [n], [], [statement])
    got = np.zeros(19, np.float32)
    given = np.ones(1, np.float32) if is_read else forbidden()
    code = run(kernel, [given, got], [1 if is_read else 0], target=target)
    assert code == (5 if write is after_a_check and not is_read else 0)
    assert got[0] == is_read


# -- memory that is written and read -------------------------------------------------------------


@every_target
def test_sums_that_go_through_memory(target):
    """What a loop writes is read by the next iteration, and after the loop."""
    k = Var("k", 9)
    x, y, last = (Buffer(name, "float32", [n]) for name, n in [("x", 9), ("y", 10), ("last", 2)])
    body: list[Statement] = [
        Store(last, [0], load(y, [9])),
        Loop(k, "serial", [Store(y, [index(k) + 1], load(y, [index(k)]) + load(x, [index(k)]))]),
        Store(last, [1], load(y, [9])),
    ]
    kernel = Kernel("prefix", [x, y, last], [], [], body)
    given, got, ends = np.arange(9, dtype=np.float32), np.zeros(10, np.float32), floats(2)
    got[9] = 7
    assert run(kernel, [given, got, ends], target=target) == 0
    assert (got[1:] == np.cumsum(given)).all()
    assert ends.tolist() == [7, 36]


@every_target
@pytest.mark.parametrize("holds", [False, True])
def test_what_a_condition_wrote_is_read_anew(holds, target):
    n = Symbol("n")
    y, seen = Buffer("y", "int32", [1]), Buffer("seen", "int32", [2])
    condition = ex.binary("gt", ex.index_value(n), 0)
    body: list[Statement] = [
        Store(seen, [0], load(y, [0])),
        If(condition, [Store(y, [0], constant(8, "int32"))]),
        Store(seen, [1], load(y, [0])),
    ]
    kernel = Kernel("condition", [y, seen], [n], [], body)
    got, both = np.array([3], np.int32), np.zeros(2, np.int32)
    assert run(kernel, [got, both], [int(holds)], target=target) == 0
    assert both.tolist() == [3, 8 if holds else 3]


@every_target
def test_scratch_buffers_lie_apart_for_each_worker(target):
    n = Symbol("n")
    i, j = Var("i", index(n)), Var("j", index(n))
    x, y = (Buffer(name, "float32", [index(n)]) for name in "xy")
    rows = [
        Buffer(f"row{k}", dtype, [index(n)], "scratch")
        for k, dtype in enumerate(("float32", "float64"))
    ]
    fill: list[Statement] = [
        Store(rows[0], [index(i)], load(x, [index(i)])),
        Store(rows[1], [index(i)], ex.cast(load(x, [index(i)]) * 3.0, "float64")),
    ]
    total = load(rows[0], [index(n) - 1 - j]) + ex.cast(load(rows[1], [index(j)]), "float32")
    inner = [vector(i, fill), vector(j, [Store(y, [index(j)], total)])]
    kernel = Kernel("rows", [x, y], [n], [], [Allocate(rows[0], [Allocate(rows[1], inner)])])
    given, got = floats(77), np.zeros(77, np.float32)
    launch = Launch(kernel, [given, got], [77], target=target, worker=2)
    share = launch.scratch.size // 3
    launch.scratch[...] = 0xA5
    assert launch() == 0
    assert (got == given[::-1] + given * 3).all()
    assert (launch.scratch[: 2 * share] == 0xA5).all()


# -- registers and lanes -------------------------------------------------------------------------


@every_target
@pytest.mark.parametrize("width", [4, 16])
@pytest.mark.parametrize("operation", ["add", "mul", "min", "max"])
def test_lanes_are_combined_in_halves(operation, width, target):
    """One order of additions, on every machine."""
    size = 53
    i = Var("i", size)
    x, y = Buffer("x", "float32", [size]), Buffer("y", "float32", [1])
    total = Buffer("total", "float32", [], "register", lanes=width)
    first = {"add": 0.0, "mul": 1.0, "min": np.inf, "max": -np.inf}[operation]
    step = Store(total, [], ex.binary(operation, load(total, []), load(x, [index(i)])))
    body: list[Statement] = [
        Store(total, [], constant(first, "float32")),
        vector(i, [step], width, 2),
        Store(y, [0], ex.across(operation, load(total, []))),
    ]
    kernel = Kernel("reduce", [x, y], [], [], [Allocate(total, body)])
    given, got = floats(size), np.zeros(1, np.float32)
    assert run(kernel, [given, got], target=target) == 0
    combine = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}[operation]
    lanes = np.full(width, first, np.float32)
    for begin in range(0, size, width):
        part = given[begin : begin + width]
        lanes[: part.size] = combine(lanes[: part.size], part)
    while lanes.size > 1:
        lanes = combine(lanes[: lanes.size // 2], lanes[lanes.size // 2 :])
    assert got[0] == lanes[0]


@every_target
@pytest.mark.parametrize("wrong", [None, 0, 15, 16, 36])
def test_checks(wrong, target):
    """In any lane, the last vector's too; what lies behind the end does not count."""
    size = 37
    i = Var("i", size)
    x = Buffer("x", "int32", [size])
    body = [vector(i, [Check(ex.binary("ge", load(x, [index(i)]), 0), 11)])]
    given = guarded(size, np.dtype(np.int32), at_end=False)
    memory = np.lib.stride_tricks.as_strided(given, (size + 16,), (4,))
    memory[size:] = -1
    if wrong is not None:
        given[wrong] = -5
    code = run(Kernel("check", [x], [], [], body), [given], target=target)
    assert code == (0 if wrong is None else 11)


# -- contractions --------------------------------------------------------------------------------


def tile(rows: int, columns: int, depth: int, width: int, unroll: int = 1) -> Kernel:
    """``c = a @ b`` with all of c in registers: a of (depth, rows), b of (depth, columns)."""
    outer, inner = Var("k", depth // unroll), Var("l", unroll)
    k = index(outer) * unroll + inner
    a = Buffer("a", "float32", [depth, rows], aligned=True)
    b = Buffer("b", "float32", [depth, columns * width], aligned=True)
    c = Buffer("c", "float32", [rows, columns * width], aligned=True)
    register = Buffer("acc", "float32", [rows, columns], "register", lanes=width)

    def nest(write: Callable[[Index, Index, Index], Statement]) -> Loop:
        r, q, lane = Var("r", rows), Var("q", columns), Var("v", width)
        body = vector(lane, [write(index(r), index(q), index(q) * width + lane)], width)
        return Loop(r, "unroll", [Loop(q, "unroll", [body])])

    def add(r: Index, q: Index, column: Index) -> Statement:
        total = load(register, [r, q])
        return Store(register, [r, q], fma(load(a, [k, r]), load(b, [k, column]), total))

    body: list[Statement] = [
        nest(lambda r, q, _: Store(register, [r, q], constant(0.0, "float32"))),
        Loop(outer, "serial", [Loop(inner, "unroll", [nest(add)])]),
        nest(lambda r, q, column: Store(c, [r, column], load(register, [r, q]))),
    ]
    return Kernel("tile", [a, b, c], [], [], [Allocate(register, body)])


@every_target
@pytest.mark.parametrize(("rows", "columns", "width", "unroll"), [(14, 2, 16, 1), (6, 2, 8, 4)])
def test_contraction(rows, columns, width, unroll, target):
    depth = 24
    a, b = aligned(floats(depth, rows)), aligned(floats(depth, columns * width))
    c = aligned(np.zeros((rows, columns * width), np.float32))
    assert run(tile(rows, columns, depth, width, unroll), [a, b, c], target=target) == 0
    np.testing.assert_allclose(c, a.T.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


def inner_loop(text: str) -> list[str]:
    """The instructions of the first loop in a function's assembly."""
    found = re.search(r"^(\.L\w+):[^\n]*\n((?:\t.*\n)*?\t[jb]\S+\s+\1)$", text, re.MULTILINE)
    assert found, "there is no loop"
    lines = [line.strip() for line in found[2].splitlines()]
    return [line for line in lines if not line.startswith((".", "#", "//"))]


@pytest.mark.parametrize("unroll", [1, 2, 4])
def test_a_tile_of_sums_is_multiply_adds_and_nothing_else(unroll):
    """14 x 2 registers of 16: one multiply-add each, one load of each operand, no spills."""
    text = assembly(tile(14, 2, 288, 16, unroll), AVX512)
    assert "(%rsp)" not in text
    loop = inner_loop(text)
    counts = {
        name: sum(name in line for line in loop) for name in ("vfmadd", "vbroadcastss", "vmov")
    }
    assert counts == {"vfmadd": 28 * unroll, "vbroadcastss": 14 * unroll, "vmov": 2 * unroll}
    assert len(loop) - sum(counts.values()) <= 6, "addresses, the counter and the branch"


def test_what_stays_the_same_is_computed_ahead_of_the_loop():
    n = Symbol("n")
    i = Var("i", index(n))
    x, y, factor = (
        Buffer("x", "float32", [n]),
        Buffer("y", "float32", [n]),
        Buffer("f", "float32", []),
    )
    scale = ex.unary("exp", load(factor, []))
    body = [vector(i, [Store(y, [index(i)], load(x, [index(i)]) * scale)])]
    loop = inner_loop(assembly(Kernel("scale", [x, y, factor], [n], [], body), AVX512))
    instructions = [line.split()[0] for line in loop]
    assert instructions[:2] == ["vmulps", "vmovups"]
    assert len(instructions) <= 5


def test_more_than_registers_hold_is_not_kept_in_them():
    """40 vectors that do not change are read again in each iteration, not moved to the stack."""
    n, part, lane = Var("n", 100), Var("p", 40), Var("v", 16)
    column = index(part) * 16 + lane
    x, y = (Buffer(name, "float32", [100, 640], aligned=True) for name in "xy")
    weight = Buffer("w", "float32", [640], aligned=True)
    store = Store(y, [index(n), column], load(x, [index(n), column]) * load(weight, [column]))
    body = [Loop(n, "serial", [Loop(part, "unroll", [vector(lane, [store])])])]
    text = assembly(Kernel("scale", [x, y, weight], [], [], body), AVX512)
    assert "(%rsp)" not in text
    kept = text[: text.index("vmulps")].count("vmovaps")
    assert 8 <= kept <= 17


def test_whole_vectors_have_no_masks():
    n = Symbol("n")
    i = Var("i", index(n) * 16)
    x, y = (Buffer(name, "float32", [index(n) * 16], aligned=True) for name in "xy")
    body = [vector(i, [Store(y, [index(i)], load(x, [index(i)]) * 2.0)])]
    text = lower_kernel(Kernel("whole", [x, y], [n], [], body), AVX512)
    assert "masked" not in text
    assert "align 64" in text


# -- other machines ------------------------------------------------------------------------------


def test_code_for_arm():
    loop = inner_loop(assembly(tile(6, 2, 32, 8), NEON))
    assert sum(line.startswith("fmla") for line in loop) == 6 * 2 * 2
    i = Var("i", 50)
    x, y = Buffer("x", "float16", [50]), Buffer("y", "bool", [50])
    value = ex.binary("gt", ex.unary("sin", load(x, [index(i)])), 0.25)
    kernel = Kernel("sines", [x, y], [], [], [vector(i, [Store(y, [index(i)], value)])])
    text = assembly(kernel, NEON)
    called = set(re.findall(r"\tbl\t(\S+)", text))
    assert all(name.startswith((".L", "taimatsu")) for name in called)


# -- kernels that are not well-formed ------------------------------------------------------------


def test_register_coordinates_must_be_constants():
    i = Var("i", 4)
    register = Buffer("r", "float32", [4], "register")
    loop = Loop(i, "serial", [Store(register, [index(i)], constant(1.0, "float32"))])
    with pytest.raises(ValueError, match="a coordinate of register r is no constant"):
        lower_kernel(Kernel("bad", [], [], [], [Allocate(register, [loop])]), AVX512)


def test_lanes_must_be_those_of_the_loop():
    i = Var("i", 8)
    register = Buffer("r", "float32", [], "register", lanes=4)
    loop = vector(i, [Store(register, [], constant(1.0, "float32"))], 8)
    with pytest.raises(ValueError, match="4 lanes in a loop of 8"):
        lower_kernel(Kernel("bad", [], [], [], [Allocate(register, [loop])]), AVX512)


def test_operations_that_a_dtype_has_not():
    x = Buffer("x", "float32", [])
    store = Store(x, [], Expression("xor", (load(x, []), load(x, [])), "float32"))
    with pytest.raises(ValueError, match="floats have no operation xor"):
        lower_kernel(Kernel("bad", [x], [], [], [store]), AVX512)


def test_deep_expressions():
    x = Buffer("x", "float32", [])
    value = load(x, [])
    for _ in range(20_000):
        value = value + 1.0
    text = lower_kernel(Kernel("deep", [x], [], [], [Store(x, [], value)]), AVX512)
    assert text.count("fadd") == 20_000
