"""Kernels to objects: what workers are sent, what objects are found by, what is compiled."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from taimatsu.compiler import objects
from taimatsu.compiler.cache import ObjectCache
from taimatsu.compiler.service import CompileError, CompileService
from taimatsu.compiler.transport import pack_kernel, pack_target, unpack_kernel, unpack_target
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import Expression, constant, load
from taimatsu.ir.index import Index, Symbol, Var, index, minimum
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
from taimatsu.ir.printer import kernel_text
from taimatsu.ir.target import Target
from taimatsu.runtime import loader

ROOT = Path(__file__).resolve().parents[2]
HOST = Target.host()


def scaled(factor: float, names: str = "xyin") -> Kernel:
    """``y = factor * x``; ``names`` are those of its buffers, variable and symbol."""
    x_name, y_name, var_name, symbol_name = names
    n = Symbol(symbol_name, hint=ord(symbol_name))
    i = Var(var_name, index(n))
    x, y = (Buffer(name, "float32", [index(n)]) for name in (x_name, y_name))
    body = [Loop(i, "vector", [Store(y, [index(i)], load(x, [index(i)]) * factor)], 8)]
    return Kernel(f"scaled {names}", [x, y], [n], [], body)


def everything() -> Kernel:
    """A kernel with statements, atoms and details of every kind."""
    n, m = Symbol("n"), Symbol("m")
    chunk, i, j = Var("chunk", index(n)), Var("i", 7), Var("j", 3)
    x = Buffer("x", "float16", [index(n), 40], strides=[index(m) * n, 2], origin=3, aligned=True)
    y = Buffer("y", "bool", [index(n), 7])
    row = Buffer("row", "int64", [index(m) + 1], "scratch")
    total = Buffer("total", "float32", [2], "register", lanes=4)
    where = (index(i) * 3) // n + (index(chunk) * n) % m + minimum(index(i), m)
    read = ex.cast(load(x, [chunk, ex.index_value(where)]), "float32")
    value = ex.fma(read, constant(-0.0, "float32"), ex.number(1, "float32"))
    inner: list[Statement] = [
        Store(total, [1], ex.unary("exp", value) + float("nan")),
        If(read > 0.5, [Check(read < float("inf"), 3)]),
        Loop(j, "unroll", [Store(row, [index(j)], ex.index_value(where + j))]),
    ]
    loop = Loop(i, "vector", inner, 4, 2)
    last = Store(y, [index(chunk), 0], ex.across("max", load(total, [1])) > 0.0)
    square = Buffer("square", "float32", [4], "register", lanes=4)
    fill = Loop(Var("k", 4), "unroll", [])
    turned = Allocate(square, [fill, Transpose(square), Prefetch(y, [index(chunk), n], True)])
    body = Allocate(row, [Allocate(total, [loop, last]), turned])
    top = Loop(chunk, "parallel", [body])
    return Kernel("everything", [x, y], [n, m], ["int64", "float64"], [top])


# -- transport --------------------------------------------------------------------------------


def test_what_is_sent_is_what_arrives():
    kernel = everything()
    data = pack_kernel(kernel)
    received = unpack_kernel(data)
    assert pack_kernel(received) == data
    # Once equal expressions are one, nothing is left to change.
    assert kernel_text(unpack_kernel(pack_kernel(received))) == kernel_text(received)
    assert received.numbers == kernel.numbers
    assert [b.dtype for b in received.arguments] == ["float16", "bool"]
    assert len(data) < 4000


def test_names_are_not_part_of_it():
    assert pack_kernel(scaled(2.0, "xyin")) == pack_kernel(scaled(2.0, "abcd"))
    assert pack_kernel(scaled(2.0)) != pack_kernel(scaled(3.0))


@pytest.mark.parametrize(
    ("one", "other"), [(0.0, -0.0), (1.0, float("nan")), (float("inf"), float("-inf"))]
)
def test_constants_are_told_apart(one, other):
    assert pack_kernel(scaled(one)) != pack_kernel(scaled(other))
    assert pack_kernel(scaled(other)) == pack_kernel(scaled(other))


def test_true_and_one_are_told_apart():
    def kernel(dtype: str) -> Kernel:
        out = Buffer("out", "float32", [])
        value = ex.cast(Expression("not", (constant(1, dtype),), dtype), "float32")
        return Kernel("k", [out], [], [], [Store(out, [], value)])

    assert pack_kernel(kernel("bool")) != pack_kernel(kernel("uint8"))


def test_equal_expressions_are_sent_once():
    x, y = Buffer("x", "float32", []), Buffer("y", "float32", [])

    def apart(depth: int) -> Expression:
        return apart(depth - 1) + apart(depth - 1) if depth else load(x, []) * 2.0

    small = Kernel("k", [x, y], [], [], [Store(y, [], apart(1))])
    large = Kernel("k", [x, y], [], [], [Store(y, [], apart(9))])
    assert len(pack_kernel(large)) < len(pack_kernel(small)) + 1000


def test_deep_expressions_are_sent():
    x = Buffer("x", "float32", [])
    value = load(x, [])
    for _ in range(5000):
        value = value + 1.0
    kernel = Kernel("deep", [x], [], [], [Store(x, [], value)])
    assert pack_kernel(unpack_kernel(pack_kernel(kernel))) == pack_kernel(kernel)


def test_symbols_must_be_listed():
    x = Buffer("x", "float32", [index(Symbol("n"))])
    with pytest.raises(ValueError, match="n is not among the kernel's symbols"):
        pack_kernel(Kernel("k", [x], [], [], [Store(x, [0], constant(0.0, "float32"))]))


def test_targets_are_sent():
    for target in (HOST, Target.of("aarch64-unknown-linux-gnu", {"bf16"})):
        received = unpack_target(pack_target(target))
        assert received.key() == target.key()
        assert received.fma == target.fma


# -- objects ----------------------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch, tmp_path):
    made = ObjectCache(tmp_path)
    monkeypatch.setattr(objects, "object_cache", lambda: made)
    return made


def compiled(kernels: list[Kernel]) -> tuple[list[bytes], int]:
    before = objects.COMPILATIONS
    made = objects.objects_for(kernels, HOST)
    return made, objects.COMPILATIONS - before


def test_each_kernel_is_compiled_once(cache):
    kernels = [scaled(2.0), scaled(3.0), scaled(2.0, "abcd")]
    made, count = compiled(kernels)
    assert count == 2
    assert made[0] == made[2] != made[1]
    assert compiled(kernels) == (made, 0)


@pytest.mark.parametrize("factor", [2.0, -0.5])
def test_objects_do_what_kernels_say(cache, factor):
    ((code,), _) = compiled([scaled(factor)])
    kinds = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    function = loader.load(code).function("kernel", ctypes.c_int64, *kinds)
    x, y = np.arange(19, dtype=np.float32), np.zeros(19, np.float32)
    words = (ctypes.c_int64 * 3)(x.ctypes.data, y.ctypes.data, x.size)
    assert function(words, 0, 0) == 0
    assert (y == x * np.float32(factor)).all()


def test_the_target_is_part_of_the_key():
    packed = pack_kernel(scaled(2.0))
    keys = {objects.object_key(packed, t) for t in (HOST, HOST.without(*HOST.features - {"neon"}))}
    assert len(keys) == (2 if HOST.is_x86 else 1)


def bad() -> Kernel:
    x = Buffer("x", "float32", [])
    value = Expression("xor", (load(x, []), load(x, [])), "float32")
    return Kernel("bad", [x], [], [], [Store(x, [], value)])


def test_a_kernel_that_cannot_be_compiled_fails_alone(cache):
    with pytest.raises(CompileError, match="floats have no operation xor"):
        objects.objects_for([bad(), scaled(5.0)], HOST)
    assert compiled([scaled(5.0)])[1] == 0


def test_the_worker_outlives_bad_kernels():
    service = CompileService(workers=1)
    target = pack_target(HOST)
    for _ in range(2):
        with pytest.raises(CompileError, match="no operation xor"):
            service.submit_kernel(pack_kernel(bad()), target).result(60)
    with pytest.raises(CompileError):
        service.submit_kernel(b"nonsense", target).result(60)
    workers = service.processes()
    text = service.submit_kernel(pack_kernel(scaled(2.0)), target, output="assembly").result(60)
    assert b"kernel:" in text
    assert service.processes() == workers
    service.close()


def test_the_worker_imports_neither_numpy_nor_the_package():
    """Both would come before the first kernel of a program."""
    code = f"""
import sys, runpy
from pathlib import Path
sys.path.append({str(Path(np.__file__).parents[1])!r})
names = runpy.run_path({str(ROOT / "taimatsu/compiler/codegen/emit.py")!r})
request = [bytes.fromhex(field) for field in sys.argv[1:]]
status, code = names["answer"](names["Emitter"](), request)
assert status == b"ok", code
assert "numpy" not in sys.modules
assert not [n for n in sys.modules if n in ("taimatsu.tensor", "taimatsu.config")]
"""
    fields = (pack_target(HOST), b"object", pack_kernel(everything()))
    command = [sys.executable, "-I", "-S", "-c", code, *[field.hex() for field in fields]]
    subprocess.run(command, check=True)


def test_indices_arrive_as_they_are():
    value: Index = index(Symbol("n")) * 2 + 1
    x = Buffer("x", "int64", [value])
    kernel = Kernel("k", [x], [Symbol("n")], [], [Store(x, [0], ex.index_value(value))])
    received = unpack_kernel(pack_kernel(kernel))
    (buffer,) = received.arguments
    assert buffer.shape[0] == index(received.symbols[0]) * 2 + 1
