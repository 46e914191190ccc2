"""Conversions between dtypes.

A float outside of an integer's range gives what PyTorch gives on x86, where conversion to int32 and
int64 gives the least number, and narrower integers are the low bits of one of these.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from taimatsu.compiler.codegen.functions import Library
from taimatsu.compiler.codegen.writer import BITS, KINDS, Value, Writer, rounded_to_single
from taimatsu.ir.expression import FLOATS, UNSIGNED

if TYPE_CHECKING:
    from taimatsu.compiler.codegen.memory import Memory


def cast(writer: Writer, library: Library, value: Value, source: str, to: str) -> Value:
    """The number in another dtype."""
    if source == to:
        return value
    if to == "bool":
        operation = "fcmp une" if source in FLOATS else "icmp ne"
        return writer.binary(operation, value, writer.constant(0, value.kind), "i1")
    if to in FLOATS:
        return _to_float(writer, library, value, source, to)
    if source in FLOATS:
        return _to_integer(writer, value, to)
    return _resized(writer, value, source, KINDS[to])


def _resized(writer: Writer, value: Value, source: str, kind: str) -> Value:
    have, want = BITS[value.kind], BITS[kind]
    if have == want:
        return value
    if have > want:
        return writer.convert("trunc", value, kind)
    extends_with_zeros = source in UNSIGNED or source == "bool"
    return writer.convert("zext" if extends_with_zeros else "sext", value, kind)


def _to_float(writer: Writer, library: Library, value: Value, source: str, to: str) -> Value:
    kind = KINDS[to]
    if source not in FLOATS:
        unsigned = source in UNSIGNED or source == "bool"
        made = writer.convert("uitofp" if unsigned else "sitofp", value, kind)
    elif value.kind == kind:
        made = value
    else:
        made = writer.convert("fpext" if kind == "double" else "fptrunc", value, kind)
    if to in ("float16", "bfloat16"):
        made = rounded(library, made, to)
    return made


def rounded(library: Library, value: Value, dtype: str) -> Value:
    """A float32 value rounded to a 16-bit float, as float32."""
    if dtype == "float16":
        bits = library.call("float_to_half", [value], "i16")
        return library.call("half_to_float", [bits], "float")
    bits = library.call("float_to_bfloat16", [value], "i16")
    return library.call("bfloat16_to_float", [bits], "float")


def rounded_constant(value: float, dtype: str) -> float:
    """A number rounded to float32 and then to a 16-bit float, as PyTorch does it."""
    value = rounded_to_single(value)
    if value != value or value in (float("inf"), float("-inf")):
        return value
    if dtype == "float16":
        try:
            return struct.unpack("<e", struct.pack("<e", value))[0]
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def _to_integer(writer: Writer, value: Value, to: str) -> Value:
    if to == "uint64":
        return _to_uint64(writer, value)
    is_wide = to in ("int64", "uint32", "uint16") or (to == "uint8" and value.kind == "double")
    whole = _truncated(writer, value, "i64" if is_wide else "i32")
    return _resized(writer, whole, "int64", KINDS[to])


def _truncated(writer: Writer, value: Value, kind: str) -> Value:
    """The integer part; the least integer where it cannot be told."""
    limit = 2.0 ** (BITS[kind] - 1)
    fits = writer.binary(
        "and",
        writer.binary("fcmp oge", value, writer.constant(-limit, value.kind), "i1"),
        writer.binary("fcmp olt", value, writer.constant(limit, value.kind), "i1"),
    )
    whole = writer.convert("fptosi", value, kind)
    return writer.select(fits, whole, writer.constant(-int(limit), kind))


def _to_uint64(writer: Writer, value: Value) -> Value:
    """As compilers do it: numbers from 2^63 on are converted without it, and it is put back."""
    half = writer.constant(2.0**63, value.kind)
    is_large = writer.binary("fcmp oge", value, half, "i1")
    rest = writer.select(is_large, writer.binary("fsub", value, half), value)
    whole = _truncated(writer, rest, "i64")
    top = writer.select(is_large, writer.constant(1 << 63, "i64"), writer.constant(0, "i64"))
    return writer.binary("xor", whole, top)


def bitcast(writer: Writer, memory: Memory, value: Value, source: str, to: str) -> Value:
    """The same bits as another dtype of the same size."""
    raw = memory.to_memory(value, source)
    if to == "bool":
        return memory.from_memory(raw, to)
    if to in ("float16", "bfloat16"):
        return memory.from_memory(raw, to)
    kind = KINDS[to]
    if raw.kind == kind:
        return raw
    return writer.convert("bitcast", raw, kind)
