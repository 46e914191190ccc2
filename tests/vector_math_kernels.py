"""Compiles functions of vector_math into loops over arrays, for the tests and the benchmark."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from taimatsu.compiler.codegen.emit import Emitter
from taimatsu.ir.target import Target
from taimatsu.runtime import loader

emitter = functools.cache(Emitter)

COUNT, BYTE = ir.IntType(64), ir.IntType(8)
TYPES = {
    np.dtype(np.float32): ir.FloatType(),
    np.dtype(np.float64): ir.DoubleType(),
    np.dtype(np.uint16): ir.IntType(16),
    np.dtype(np.int32): ir.IntType(32),
    np.dtype(np.int64): ir.IntType(64),
}
Write = Callable[..., ir.Value]  # (builder, target, *values)


def item_type(dtype: Any) -> ir.Type:
    return TYPES[np.dtype(dtype)]


def write_kernel(
    module: ir.Module,
    name: str,
    write: Write,
    target: Target,
    inputs: Sequence[Any],
    output: Any,
    lanes: int,
) -> None:
    """A function ``(out, *inputs, count)`` that computes ``count`` numbers, a multiple of lanes.

    ``lanes`` of 0 means scalars.
    """
    pointers = [item_type(dtype).as_pointer() for dtype in (output, *inputs)]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, COUNT]), name)
    *arrays, count = function.args
    start = function.append_basic_block("entry")
    loop, leave = function.append_basic_block("loop"), function.append_basic_block("done")
    builder = ir.IRBuilder(start)
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(COUNT)
    index.add_incoming(ir.Constant(COUNT, 0), start)

    def place(array: ir.Value) -> ir.Value:
        address = builder.gep(array, [index])
        if not lanes:
            return address
        return builder.bitcast(address, ir.VectorType(array.type.pointee, lanes).as_pointer())

    def align(array: ir.Value) -> int:
        return {"float": 4, "i32": 4, "i16": 2}.get(str(array.type.pointee), 8)

    values = [builder.load(place(array), align=align(array)) for array in arrays[1:]]
    result = write(builder, target, *values)
    builder.store(result, place(arrays[0]), align=align(arrays[0]))
    following = builder.add(index, ir.Constant(COUNT, lanes or 1))
    index.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_unsigned("<", following, count), loop, leave)
    builder.position_at_end(leave)
    builder.ret_void()


class Compiled:
    """A compiled module, through the passes and the loader that kernels go through."""

    def __init__(self, module: ir.Module, target: Target) -> None:
        self.assembly = emit_assembly(module, target)
        self.object = loader.load(emitted(module, target, "object"))

    def prepared(self, name: str, out: np.ndarray, *inputs: np.ndarray) -> Callable[[], None]:
        """A call of a kernel on these arrays."""
        kinds = [ctypes.c_void_p] * (1 + len(inputs))
        function = self.object.function(name, None, *kinds, ctypes.c_int64)
        arguments = [array.ctypes.data for array in (out, *inputs)]
        return functools.partial(function, *arguments, out.size)

    def run(self, name: str, out: np.ndarray, *inputs: np.ndarray) -> np.ndarray:
        self.prepared(name, out, *inputs)()
        return out


def emitted(module: ir.Module, target: Target, output: str) -> bytes:
    return emitter().emit(str(module), target.triple, target.cpu, target.llvm_features, output)


def emit_assembly(module: ir.Module, target: Target) -> str:
    """The assembly of a module, for any machine."""
    return emitted(module, target, "assembly").decode()
