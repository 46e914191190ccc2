"""Random kernels: compiled code and the interpreter leave the same memory behind, bit for bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from codegen_kernels import TARGETS, guarded, run

from taimatsu.compiler.transport import pack_kernel, unpack_kernel
from taimatsu.ir import expression as ex
from taimatsu.ir import interpreter
from taimatsu.ir.expression import FLOATS, Expression, load
from taimatsu.ir.index import Index, Symbol, Var, index, minimum
from taimatsu.ir.loops import Allocate, Buffer, Check, If, Kernel, Loop, Statement, Store
from taimatsu.ir.printer import kernel_text
from taimatsu.ir.verifier import verify

DTYPES = ("float32", "float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool")
FLOAT_OPERATIONS = ("add", "sub", "mul", "div", "min", "max", "fma", "neg", "abs", "copysign")
INTEGER_OPERATIONS = ("add", "sub", "mul", "floordiv", "modulo", "shl", "shr", "xor", "not")
BOOL_OPERATIONS = ("and", "or", "xor", "not")
SIGNS = ("eq", "ne", "lt", "le", "gt", "ge")
CODE = 17


class Draw:
    """A random kernel in the making: loops from outside in, then statements."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.symbols: dict[Symbol, int] = {}
        self.arguments: list[Buffer] = []
        self.inputs: list[Buffer] = []
        self.extents: dict[Var, int] = {}
        self.variables: list[Var] = []  # of the loops around
        self.vector: Loop | None = None
        self.registers: list[tuple[Buffer, list[Any]]] = []  # readable ones, and coordinates
        self.names = 0
        self.written: list[Buffer] = []
        self.at_once = 0  # loops around whose iterations run at once

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def kernel(self) -> Kernel:
        for _ in range(self.random.randint(1, 3)):
            shape = [self.random.randint(1, 9) for _ in range(self.random.randint(0, 3))]
            buffer = self.buffer(shape, self.random.choice(DTYPES))
            self.inputs.append(buffer)
        body: tuple[Statement, ...]
        if self.chance(0.5):
            var = self.var(3)
            self.variables.append(var)
            self.at_once += 1
            body = (Loop(var, "parallel", self.body(2)),)
        else:
            body = tuple(self.body(2))
        numbers = ["float64", "int64"]
        return Kernel("random", self.arguments, list(self.symbols), numbers, body)

    # -- memory ----------------------------------------------------------------------------

    def buffer(self, shape: list[Any], dtype: str, scope: str = "argument") -> Buffer:
        """With strides in any order, gaps, an origin, perhaps aligned."""
        strides: list[Any] = [index(0)] * len(shape)
        step = index(self.random.choice([1, 1, 1, 1, 2, 3]))
        order = list(range(len(shape)))
        if self.chance(0.4):
            self.random.shuffle(order)
        for axis in reversed(order):
            strides[axis] = step
            step = step * shape[axis] + self.random.choice([0, 0, 0, 1, 16])
        origin = self.random.choice([0, 0, 0, 3, 16])
        made = Buffer(
            self.name("m"), dtype, shape, scope, strides, origin, aligned=self.chance(0.5)
        )
        if scope == "argument":
            self.arguments.append(made)
        return made

    def var(self, most: int) -> Var:
        extent: Any = self.random.randint(1, most)
        if self.chance(0.3):
            symbol = Symbol(self.name("n"))
            self.symbols[symbol] = self.random.randint(0, most)
            extent = index(symbol)
            if self.chance(0.3):
                extent = extent * self.random.choice([2, 16])
        var = Var(self.name("i"), extent)
        self.extents[var] = self.evaluated(var.extent)
        return var

    # -- statements ------------------------------------------------------------------------

    def body(self, depth: int) -> list[Statement]:
        made = []
        for _ in range(self.random.randint(1, 2)):
            made.append(self.statement(depth))
            self.read_what_was_written()
        return made

    def read_what_was_written(self) -> None:
        """Later statements may load it, where iterations come one after another."""
        for sink in self.written:
            if not self.at_once and all(self.evaluated(n) > 0 for n in sink.shape):
                self.inputs.append(sink)
        if not self.at_once:
            self.written.clear()

    def evaluated(self, value: Index) -> int:
        return value.evaluate(lambda symbol: self.symbols[symbol])

    def statement(self, depth: int) -> Statement:
        kinds = ["store"]
        if depth > 0:
            kinds += ["loop", "loop", "if", "scratch"]
            if self.vector is None:
                kinds += ["vector", "vector", "vector", "sum", "sum"]
            else:
                kinds += ["inner sum"]
        if self.chance(0.05):
            kinds = ["check"]
        kind = self.random.choice(kinds)
        return getattr(self, f"make_{kind.replace(' ', '_')}")(depth)

    def make_store(self, depth: int) -> Store:
        """To a buffer with one element for each iteration of the loops around."""
        dtype = self.random.choice(DTYPES)
        coordinates, shape = self.own_coordinates()
        sink = self.buffer(shape, dtype)
        value = self.expression(dtype, 3)
        if self.chance(0.3):
            operation = "xor" if dtype == "bool" else "add"
            value = ex.binary(operation, load(sink, coordinates), value)
        self.written.append(sink)
        return Store(sink, coordinates, value)

    def own_coordinates(self) -> tuple[list[Any], list[Any]]:
        variables = list(self.variables)
        self.random.shuffle(variables)
        coordinates: list[Any] = []
        shape: list[Any] = []
        for var in variables:
            extent, coordinate = var.extent, index(var)
            choice = self.random.random()
            if choice < 0.15:
                coordinate = extent - 1 - coordinate
            elif choice < 0.3:
                coordinate, extent = coordinate * 2 + 1, extent * 2 + 1
            if 0.3 < choice < 0.4 and self.chance(0.5):
                coordinates.append(ex.index_value(coordinate))
            else:
                coordinates.append(coordinate)
            shape.append(extent)
        return coordinates, shape

    def make_check(self, depth: int) -> Check:
        condition = self.condition()
        if self.chance(0.6):
            condition = ex.binary("or", condition, True)
        return Check(condition, CODE)

    def make_if(self, depth: int) -> If:
        return If(self.condition(), self.body(depth - 1))

    def make_loop(self, depth: int) -> Loop:
        var = self.var(4)
        kind = "serial"
        if var.extent.is_constant and self.chance(0.5):
            kind = "unroll"
        return self.inside(var, kind, depth)

    def inside(self, var: Var, kind: str, depth: int, width: int = 1, unroll: int = 1) -> Loop:
        self.variables.append(var)
        before = self.vector
        if kind == "vector" and width > 1:
            self.vector = Loop(var, "vector", [], width)
        self.at_once += kind == "vector"
        body = self.body(depth - 1)
        self.at_once -= kind == "vector"
        self.vector = before
        self.variables.pop()
        return Loop(var, kind, body, width, unroll)

    def make_vector(self, depth: int) -> Loop:
        width = self.random.choice([1, 2, 4, 8, 16])
        var = self.var(self.random.choice([width, 2 * width + 1, 50]))
        return self.inside(var, "vector", depth, width, self.random.choice([1, 1, 2, 3]))

    def make_scratch(self, depth: int) -> Statement:
        """A row is written to scratch memory, then read in another loop."""
        if self.vector is not None:
            return self.make_if(depth)
        dtype = self.random.choice(DTYPES)
        var = self.var(20)
        scratch = self.buffer([var.extent], dtype, "scratch")
        width = self.random.choice([1, 4, 8])
        self.variables.append(var)
        self.vector = Loop(var, "vector", [], width) if width > 1 else None
        fill = Loop(var, "vector", [Store(scratch, [index(var)], self.expression(dtype, 2))], width)
        self.vector = None
        self.variables.pop()
        if self.extents[var] > 0:
            self.inputs.append(scratch)
        rest = self.body(depth - 1)
        if scratch in self.inputs:
            self.inputs.remove(scratch)
        return Allocate(scratch, [fill, *rest])

    def make_sum(self, depth: int) -> Statement:
        """A reduction in lanes: init, a vector loop that combines, across."""
        dtype = self.random.choice(["float32", "float64", "int32", "float16"])
        width = self.random.choice([2, 4, 8, 16])
        rows = self.random.randint(1, 3)
        register = Buffer(self.name("r"), dtype, [rows], "register", lanes=width)
        row, last = Var(self.name("i"), rows), Var(self.name("i"), rows)
        init = Loop(row, "unroll", [Store(register, [index(row)], self.expression(dtype, 1))])
        operation = self.random.choice(["add", "mul", "min", "max"])
        inner, var = Var(self.name("i"), rows), self.var(40)
        self.extents[inner] = rows
        self.variables += [inner, var]
        self.vector = Loop(var, "vector", [], width)
        step: Statement = Store(
            register,
            [index(inner)],
            ex.binary(operation, load(register, [index(inner)]), self.expression(dtype, 2)),
        )
        if self.chance(0.3):
            step = If(self.condition(), [step])
        self.vector = None
        del self.variables[-2:]
        loops = Loop(
            inner, "unroll", [Loop(var, "vector", [step], width, self.random.choice([1, 2]))]
        )
        if self.chance(0.5):
            serial = self.var(3)
            loops = Loop(serial, "serial", [loops])
        coordinates, shape = self.own_coordinates()
        self.extents[last] = rows
        sink = self.buffer([*shape, rows], dtype)
        total = ex.across(operation, load(register, [index(last)]))
        finish = Loop(last, "unroll", [Store(sink, [*coordinates, index(last)], total)])
        return Allocate(register, [init, loops, finish])

    def make_inner_sum(self, depth: int) -> Statement:
        """A reduction by each lane."""
        assert self.vector is not None
        dtype = self.random.choice(["float32", "int64", "bool"])
        lanes = self.random.choice([1, self.vector.width])
        register = Buffer(self.name("r"), dtype, [], "register", lanes=lanes)
        init = Store(register, [], self.expression(dtype, 1))
        operation = "xor" if dtype == "bool" else self.random.choice(["add", "max"])
        var = self.var(4)
        self.variables.append(var)
        step: Statement = Store(
            register, [], ex.binary(operation, load(register, []), self.expression(dtype, 2))
        )
        if self.chance(0.4):
            step = If(self.condition(), [step])
        self.variables.pop()
        kind = "unroll" if var.extent.is_constant and self.chance(0.5) else "serial"
        coordinates, shape = self.own_coordinates()
        finish = Store(self.buffer(shape, dtype), coordinates, load(register, []))
        return Allocate(register, [init, Loop(var, kind, [step]), finish])

    # -- expressions -----------------------------------------------------------------------

    def condition(self) -> Expression:
        if self.chance(0.3):
            return self.expression("bool", 2)
        sign = self.random.choice(SIGNS)
        dtype = self.random.choice(["int64", "float32", "int32"])
        return ex.binary(sign, self.expression(dtype, 2), self.expression(dtype, 1))

    def expression(self, dtype: str, depth: int) -> Expression:
        if depth == 0 or self.chance(0.15):
            return self.leaf(dtype)
        choice = self.random.random()
        if choice < 0.12:
            yes, no = (self.expression(dtype, depth - 1) for _ in range(2))
            return ex.select(self.condition() if depth > 1 else self.leaf("bool"), yes, no)
        if choice < 0.2:
            source = self.random.choice(DTYPES)
            return ex.cast(self.expression(source, depth - 1), dtype)
        operations = INTEGER_OPERATIONS
        if dtype in FLOATS:
            operations = FLOAT_OPERATIONS
        elif dtype == "bool":
            operations = BOOL_OPERATIONS
        operation = self.random.choice(operations)
        count = ex.OPERATIONS[operation]
        operands = tuple([self.expression(dtype, depth - 1) for _ in range(count)])
        return Expression(operation, operands, dtype)

    def leaf(self, dtype: str) -> Expression:
        choice = self.random.random()
        if choice < 0.1:
            value = self.random.choice([0, 1, 2, 3, 7])
            return ex.constant(value, dtype)
        if choice < 0.15:
            return ex.number(0 if dtype in FLOATS else 1, dtype)
        if choice < 0.25:
            return ex.cast(ex.index_value(self.some_index()), dtype)
        buffer = self.random.choice(self.inputs)
        return ex.cast(load(buffer, [self.inner_coordinate(n) for n in buffer.shape]), dtype)

    def some_index(self) -> Index:
        total = index(self.random.randint(0, 3))
        for var in self.variables:
            if self.chance(0.6):
                total = total + index(var) * self.random.choice([1, 1, 1, 2, 3, 16])
        choice = self.random.random()
        if choice < 0.15:
            total = total // self.random.choice([2, 3, 16, 64])
        elif choice < 0.3:
            total = minimum(total, self.random.randint(0, 20))
        elif choice < 0.4:
            divisors = [s for s, n in self.symbols.items() if n > 0]
            total = total // self.random.choice(divisors) if divisors else total
        return total

    def inner_coordinate(self, extent: Index) -> Any:
        """A coordinate that is certain to lie within."""
        if self.chance(0.3):
            buffers = [b for b in self.inputs if b.dtype in ("int32", "int64") and not b.shape]
            value = ex.index_value(self.some_index())
            if buffers:
                value = value + ex.cast(load(self.random.choice(buffers), []), "int64")
            return ex.binary("modulo", value, ex.index_value(extent))
        if extent == 1:
            return index(0)
        return self.some_index() % extent


def memory_of(kernel: Kernel, draw: Draw, seed: int) -> list[np.ndarray]:
    """An array for each argument, filled at random, beside a page that must not be touched."""
    rng = np.random.default_rng(seed)
    arrays = []
    for buffer in kernel.arguments:
        size = max(draw.evaluated(buffer.size), 0)
        dtype = np.dtype("uint16" if buffer.dtype == "bfloat16" else buffer.dtype)
        array = guarded(size, dtype, at_end=not buffer.aligned)
        if buffer.dtype == "bool":
            array[...] = rng.integers(0, 2, size)
        elif buffer.dtype == "bfloat16":
            array[...] = rng.normal(size=size).astype(np.float32).view(np.uint32) >> 16
        elif dtype.kind == "f":
            array[...] = rng.normal(size=size) * 4
        else:
            array[...] = rng.integers(0 if dtype.kind == "u" else -9, 9, size)
        arrays.append(array)
    return arrays


def differences(got: np.ndarray, expected: np.ndarray, dtype: str) -> np.ndarray:
    """Where memory differs, but for what nan is made of and the sign of zero."""
    if dtype == "bfloat16":
        got, expected = ((x.astype(np.uint32) << 16).view(np.float32) for x in (got, expected))
    same = got == expected
    if got.dtype.kind == "f":
        same |= np.isnan(got) & np.isnan(expected)
    return np.flatnonzero(~same)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "block", [pytest.param(n, marks=[pytest.mark.exhaustive] * (n >= 5)) for n in range(10)]
)
def test_random_kernels(block, target):
    for seed in range(block * 15, block * 15 + 15):
        check_seed(seed, TARGETS[target])


def check_seed(seed: int, target: Any) -> None:
    draw = Draw(seed)
    kernel = draw.kernel()
    verify(kernel)
    given = memory_of(kernel, draw, seed)
    numbers = [0.75, 5]
    symbols = {s.name: n for s, n in draw.symbols.items()}
    expected = [np.array(a) for a in given]
    chunks = range(kernel.chunks.evaluate(lambda s: draw.symbols[s]) - 1, -1, -1)
    wanted = interpreter.run(kernel, expected, symbols, numbers, chunks, fused=target.fma)
    sent = unpack_kernel(pack_kernel(kernel))
    code = run(sent, given, list(draw.symbols.values()), numbers, target, worker=seed % 3)
    assert code == wanted, f"seed {seed}: returned {code}, not {wanted}\n{kernel_text(kernel)}"
    if code:
        return
    for buffer, got, want in zip(kernel.arguments, given, expected, strict=True):
        wrong = differences(got, want, buffer.dtype)
        message = f"seed {seed}: {buffer.name}[{wrong[:5]}] is {got[wrong[:5]]}"
        assert not wrong.size, f"{message}, not {want[wrong[:5]]}\n{kernel_text(kernel)}"
