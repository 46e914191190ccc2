"""float16 and bfloat16 to float32 and back, as bits in 16-bit integers.

Rounding is to nearest, ties to even; numbers below the normal ones are kept, nan stays nan (and
becomes quiet). AVX512_BF16's conversion is not used: it flushes small numbers to zero.
"""

from __future__ import annotations

from llvmlite import ir

from taimatsu.compiler.codegen.vector_math.lanes import FLOAT, Lanes
from taimatsu.ir.target import Target

HALF, SHORT = ir.HalfType(), ir.IntType(16)
INFINITY_BITS = 0x7F800000


def _checked(name: str, value: ir.Value, item: ir.Type, lanes: Lanes) -> None:
    if lanes.item != item:
        raise TypeError(f"[vector_math.{name}] expected {item} or vectors of it, got {value.type}")


def _converts_in_hardware(target: Target) -> bool:
    """Whether LLVM has an instruction for float16; it would call a library otherwise."""
    return target.has("f16c") or target.has("neon")


def half_to_float(builder: ir.IRBuilder, target: Target, x: ir.Value) -> ir.Value:
    """The float32 values of float16 bits (i16 or a vector of it), exactly."""
    bits = Lanes(builder, target, x)
    _checked("half_to_float", x, SHORT, bits)
    if _converts_in_hardware(target):
        halves = builder.bitcast(x, bits.type_of(HALF))
        return builder.fpext(halves, bits.type_of(FLOAT))
    wide = bits.resized(32)
    size = wide & 0x7FFF
    # As float32 bits the exponent is short of 112; a product restores it, small numbers included.
    value = ((size << 13).as_float() * 2.0**112).as_bits()
    special = (size << 13) | INFINITY_BITS
    special = (size > 0x7C00).where(special | 0x00400000, special)
    value = (size >= 0x7C00).where(special, value)
    return (value | ((wide & 0x8000) << 16)).as_float().value


def float_to_half(builder: ir.IRBuilder, target: Target, x: ir.Value) -> ir.Value:
    """The bits of float32 values rounded to float16, as i16 or a vector of it."""
    number = Lanes(builder, target, x)
    _checked("float_to_half", x, FLOAT, number)
    if _converts_in_hardware(target):
        halves = builder.fptrunc(x, number.type_of(HALF))
        return builder.bitcast(halves, number.type_of(SHORT))
    bits = number.as_bits()
    sign = (bits >> 16) & 0x8000
    size = bits & 0x7FFFFFFF
    # Normal results: the exponent is moved, and the 13 bits that go are rounded off.
    normal = (size + (0xFFF - (112 << 23)) + ((size >> 13) & 1)) >> 13
    # Smaller ones: in 1/2 + x the last bit is worth float16's smallest step.
    small = (size.as_float() + 0.5).as_bits() - 0x3F000000
    result = (size < (113 << 23)).where(small, normal)
    result = (size >= 0x477FF000).where(0x7C00, result)
    nan = ((size >> 13) & 0x3FF) | 0x7E00
    result = (size > INFINITY_BITS).where(nan, result)
    return (result | sign).resized(16).value


def bfloat16_to_float(builder: ir.IRBuilder, target: Target, x: ir.Value) -> ir.Value:
    """The float32 values of bfloat16 bits (i16 or a vector of it), exactly."""
    bits = Lanes(builder, target, x)
    _checked("bfloat16_to_float", x, SHORT, bits)
    return (bits.resized(32) << 16).as_float().value


def float_to_bfloat16(builder: ir.IRBuilder, target: Target, x: ir.Value) -> ir.Value:
    """The bits of float32 values rounded to bfloat16, as i16 or a vector of it."""
    number = Lanes(builder, target, x)
    _checked("float_to_bfloat16", x, FLOAT, number)
    bits = number.as_bits()
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    result = (number != number).where(bits | 0x00400000, rounded)
    return (result >> 16).resized(16).value
