"""The interpreter: kernels against NumPy, lanes and masks, errors for what is undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ir.kernels import gather_checked, scale_rows, sum_rows, turned

from taimatsu.ir.expression import (
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
from taimatsu.ir.index import Symbol, Var, index
from taimatsu.ir.interpreter import run
from taimatsu.ir.loops import Allocate, Buffer, Check, If, Kernel, Loop, Statement, Store
from taimatsu.ir.verifier import verify

F32 = "float32"


def zeros(*shape: int, dtype: str = F32) -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize("rows", [1, 4, 7, 9])
def test_symbols_numbers_and_tails(rows: int) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 10)).astype(F32)
    y = zeros(rows, 10)
    assert run(scale_rows(), [x.reshape(-1), y.reshape(-1)], {"n": rows}, [1.7]) == 0
    assert np.array_equal(y, x * np.float32(1.7) + np.float32(1))


def test_chunks_are_carried_out_by_themselves() -> None:
    x, y = np.ones((9, 10), F32), zeros(9, 10)
    assert run(scale_rows(), [x.reshape(-1), y.reshape(-1)], {"n": 9}, [2.0], chunks=[2, 1]) == 0
    assert np.array_equal(y[:, 0], [0, 0, 0, 0, 3, 3, 3, 3, 3])


@pytest.mark.parametrize("backwards", [False, True])
def test_lanes_sum_their_own_and_are_combined_in_a_fixed_tree(backwards: bool) -> None:
    x = (np.random.default_rng(0).standard_normal((5, 13)) * 1e4).astype(F32)
    y = zeros(5)
    assert run(sum_rows(), [x.reshape(-1), y], {}, backwards=backwards) == 0
    lanes = zeros(5, 4)
    for j in range(13):
        lanes[:, j % 4] += x[:, j]
    pairs = lanes[:, :2] + lanes[:, 2:]
    assert np.array_equal(y, pairs[:, 0] + pairs[:, 1])


def test_checks_conditions_and_computed_coordinates() -> None:
    x = np.arange(9).astype(F32) * 10
    where = np.array([8, 0, 3, 3, 7, 1], np.int32)
    keep = np.array([1, 1, 0, 1, 1, 0], bool)
    y = zeros(6)
    assert run(gather_checked(), [x, y, where, keep], {}) == 0
    assert np.array_equal(y, np.where(keep, x[where], 0))
    where[4] = -1
    y[...] = 5
    assert run(gather_checked(), [x, y, where, keep], {}) == 3
    assert np.array_equal(y[:4], [80, 0, 0, 30])
    assert np.array_equal(y[4:], [5, 5])


def kernel(
    *body: Statement, arguments: tuple[Buffer, ...], numbers: tuple[str, ...] = ()
) -> Kernel:
    made = Kernel("k", arguments, [Symbol("n")], numbers, body)
    verify(made)
    return made


def test_loads_and_stores_go_by_strides_and_origin() -> None:
    n = Symbol("n")
    x = Buffer("x", "int16", [3, n], strides=[1, 4], origin=5)
    y = Buffer("y", "int16", [n, 3])
    i, j = Var("i", 3), Var("j", n)
    body = Loop(i, "serial", [Loop(j, "vector", [Store(y, [j, i], load(x, [i, j]))], width=2)])
    memory = np.arange(40, dtype=np.int16)
    out = np.zeros(15, np.int16)
    assert run(kernel(body, arguments=(x, y)), [memory, out], {"n": 5}) == 0
    assert np.array_equal(out.reshape(5, 3), 5 + np.arange(3) + 4 * np.arange(5)[:, None])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_floats_round_after_each_operation(dtype: str) -> None:
    x = Buffer("x", dtype, [4])
    i = Var("i", 4)
    value = (load(x, [i]) * load(x, [i]) + load(x, [i])) - 1.0
    made = kernel(Loop(i, "serial", [Store(x, [i], value)]), arguments=(x,))
    if dtype == "float16":
        memory: np.ndarray = np.array([1.001, 3.3, -7.7, 300.0], np.float16)
        with np.errstate(over="ignore"):
            expected: Any = (memory * memory + memory) - np.float16(1)
        assert run(made, [memory], {}) == 0
        assert np.array_equal(memory, expected)
        return
    bits = np.array([0x3F81, 0x4053, 0xC0F6, 0x4396], np.uint16)
    expected = []
    for b in bits:
        a = np.uint32(int(b) << 16).view(F32)
        expected.append(_bfloat16(_bfloat16(_bfloat16(a * a) + a) - np.float32(1)))
    assert run(made, [bits], {}) == 0
    assert np.array_equal((bits.astype(np.uint32) << 16).view(F32), expected)


def _bfloat16(x: Any) -> Any:
    bits = int(np.float32(x).view(np.uint32))
    return np.uint32((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(F32)


def test_numbers_take_the_dtype_of_the_expression() -> None:
    x = Buffer("x", "float64", [3])
    values = [
        number(0, "float64"),
        cast(number(0, F32), "float64"),
        cast(number(1, "int8"), "float64"),
    ]
    stores = [Store(x, [k], v) for k, v in enumerate(values)]
    memory = np.zeros(3)
    made = kernel(*stores, arguments=(x,), numbers=("float64", "int64"))
    assert run(made, [memory], {}, [0.1, 300]) == 0
    assert list(memory) == [0.1, float(np.float32(0.1)), 44.0]


def test_fma_is_done_as_the_target_does_it() -> None:
    x = Buffer("x", F32, [1])
    element = load(x, [0])
    made = kernel(Store(x, [0], fma(element, element, constant(-1, F32))), arguments=(x,))
    one, two = np.array([1 + 2**-12], F32), np.array([1 + 2**-12], F32)
    run(made, [one], {}, fused=True)
    run(made, [two], {}, fused=False)
    assert (one[0], two[0]) == (np.float32(2**-11 + 2**-24), np.float32(2**-11))


def test_masked_lanes_keep_what_they_hold() -> None:
    """Lanes 2 and 3 of the second vector are left out, those where the condition fails as well."""
    x, y = Buffer("x", F32, [6]), Buffer("y", F32, [1])
    lanes = Buffer("v", F32, [1], "register", lanes=4)
    i = Var("i", 6)
    element = load(x, [i])
    add = Store(lanes, [0], load(lanes, [0]) + element)
    loop = Loop(i, "vector", [If(binary("gt", element, 0.0), [add])], width=4)
    body = [
        Store(lanes, [0], constant(100, F32)),
        loop,
        Store(y, [0], across("max", load(lanes, [0]))),
    ]
    made = kernel(Allocate(lanes, body), arguments=(x, y))
    memory, out = np.array([1, -2, 3, -4, 5, 6], F32), zeros(1)
    assert run(made, [memory, out], {}) == 0
    assert out[0] == 106  # 100 + 1 + 5, 100 + 6, 103, 100


def test_triangles_and_empty_loops() -> None:
    x = Buffer("x", "int64", [5, 5])
    i = Var("i", 5)
    j = Var("j", i)
    store = Store(x, [i, j], index_value(index(i) * 10 + j))
    made = kernel(Loop(i, "serial", [Loop(j, "serial", [store])]), arguments=(x,))
    memory = np.full(25, -1)
    assert run(made, [memory], {}) == 0
    rows, columns = np.indices((5, 5))
    assert np.array_equal(memory.reshape(5, 5), np.where(columns < rows, rows * 10 + columns, -1))


def test_select_and_shared_nodes() -> None:
    x = Buffer("x", F32, [4])
    i = Var("i", 4)
    value = load(x, [i])
    for _ in range(60):  # 2**60 nodes, were they computed for each use
        value = select(binary("lt", value, 3.0), value + value, value)
    made = kernel(Loop(i, "serial", [Store(x, [i], unary("neg", value))]), arguments=(x,))
    memory = np.array([1, 2, 3, 0.5], F32)
    assert run(made, [memory], {}) == 0
    assert list(memory) == [-4, -4, -3, -4]


# -- what is undefined ---------------------------------------------------------------------------

X = Buffer("x", F32, [4])


def undefined(*body: Statement, symbols: int = 4) -> str:
    made = Kernel("k", [X], [Symbol("n")], [], body)
    with pytest.raises(AssertionError) as raised:
        run(made, [zeros(4)], {"n": symbols})
    return str(raised.value)


@pytest.mark.parametrize("backwards", [False, True])
def test_transpositions(backwards) -> None:
    x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    assert run(turned(), [x, y], {}, backwards=backwards) == 0
    assert (y.reshape(4, 4) == x.reshape(4, 4).T).all()


def test_elements_outside_are_errors() -> None:
    i = Var("i", Symbol("n"))
    one = constant(1, F32)
    message = undefined(Loop(i, "serial", [Store(X, [i], one)]), symbols=5)
    assert message == "x[4] is outside of [4]; in\nx[i] = 1.0:float32"
    # Both sides of a select are computed.
    value = select(binary("lt", index_value(i), 4), load(X, [i]), 0.0)
    assert "x[4] is outside" in undefined(Loop(i, "serial", [Store(X, [0], value)]), symbols=5)


def test_reading_what_was_never_written_is_an_error() -> None:
    register = Buffer("r", F32, [2], "register")
    read = Store(X, [0], load(register, [1]))
    write = Store(register, [1], constant(1, F32))
    message = "r[1] is read before it is written"
    assert message in undefined(Allocate(register, [read]))
    # Content does not outlive the allocation.
    assert message in undefined(Allocate(register, [write]), Allocate(register, [read]))


def test_arrays_must_fit_their_buffers() -> None:
    made = kernel(Store(X, [0], constant(1, F32)), arguments=(X,))
    for array, message in (
        (zeros(3), "x takes 4, not 3"),
        (zeros(4, dtype="float64"), "x is float32, its array float64"),
        (zeros(2, 2), "not flat"),
    ):
        with pytest.raises(AssertionError, match=message):
            run(made, [array], {"n": 1})
    failing = kernel(Check(constant(False, "bool"), 9), arguments=())
    assert run(failing, [], {"n": 1}) == 9
