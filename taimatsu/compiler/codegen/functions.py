"""vector_math's functions as functions of the module: written once, called where needed.

They are private and always inlined, so that a call costs what the written-out code would. Their
text is kept for the next kernel that this process writes.
"""

from __future__ import annotations

import re
from typing import Any

from llvmlite import ir

from taimatsu.compiler.codegen import vector_math
from taimatsu.compiler.codegen.writer import Value, Writer
from taimatsu.ir.target import Target

TYPES: dict[str, ir.Type] = {
    "float": ir.FloatType(),
    "double": ir.DoubleType(),
    **{f"i{bits}": ir.IntType(bits) for bits in (1, 8, 16, 32, 64)},
}
# The one metadata node that vector_math uses: the condition of a slow path seldom holds.
SELDOM = "!1000000"
SELDOM_METADATA = f'{SELDOM} = !{{!"branch_weights", i32 1, i32 99}}'

Texts = dict[str, str]  # names of globals, and their text
_written: dict[tuple[Any, ...], Texts] = {}


class Library:
    """Calls of vector_math's functions in one module."""

    def __init__(self, writer: Writer, target: Target) -> None:
        self.writer = writer
        self.target = target

    def call(self, name: str, operands: list[Value], kind: str, *details: float) -> Value:
        """The value of a function of vector_math; ``details`` are constants among its operands."""
        operands = self.writer.together(operands)
        width = operands[0].width
        shapes = tuple([(o.kind, o.width) for o in operands])
        symbol = symbol_of(name, shapes, details)
        if symbol not in self.writer.globals:
            self.writer.globals.update(written(name, shapes, details, symbol, self.target))
        listed = ", ".join([f"{o.type} {o.name}" for o in operands])
        result = f"<{width} x {kind}>" if width else kind
        text = f"call {result} {symbol}({listed})"
        return self.writer.pure(text, kind, width, *operands)


Shapes = tuple[tuple[str, int], ...]  # kind and width of each operand


def symbol_of(name: str, shapes: Shapes, details: tuple[float, ...]) -> str:
    """``@math.exp.16xfloat``: the function's name with the operands' kinds and widths."""
    parts = [f"{width}x{kind}" if width else kind for kind, width in shapes]
    parts.extend([float(detail).hex().replace("+", "_") for detail in details])
    return ".".join([f"@math.{name}", *parts])


def written(
    name: str, shapes: Shapes, details: tuple[float, ...], symbol: str, target: Target
) -> Texts:
    """The text of a function and of the globals it uses."""
    key = (symbol, target.key())
    found = _written.get(key)
    if found is None:
        found = _written[key] = _write(name, shapes, details, symbol, target)
    return found


def _write(
    name: str, shapes: Shapes, details: tuple[float, ...], symbol: str, target: Target
) -> Texts:
    module = ir.Module()
    kinds = [ir.VectorType(TYPES[k], w) if w else TYPES[k] for k, w in shapes]
    result = _result_type(name, kinds[0], shapes[0])
    function = ir.Function(module, ir.FunctionType(result, kinds), symbol[1:])
    function.linkage = "internal"
    function.attributes.add("alwaysinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    write = getattr(vector_math, name)
    builder.ret(write(builder, target, *function.args, *details))
    return {f"@{made.name}": _text(made) for made in module.global_values}


def _result_type(name: str, operand: ir.Type, shape: tuple[str, int]) -> ir.Type:
    kinds = {
        "half_to_float": "float",
        "bfloat16_to_float": "float",
        "float_to_half": "i16",
        "float_to_bfloat16": "i16",
    }
    if name not in kinds:
        return operand
    item = TYPES[kinds[name]]
    return ir.VectorType(item, shape[1]) if shape[1] else item


def _text(made: Any) -> str:
    return re.sub(r"!prof !\d+", f"!prof {SELDOM}", str(made))
