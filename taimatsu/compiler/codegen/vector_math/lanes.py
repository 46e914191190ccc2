"""Numbers in the code being written, with operators that write more of it.

``Lanes`` is a vector of floats, integers or truth values, or a single one: the formulas of
vector_math are written once, and work for every width, for scalars, and with or without fused
multiply-add.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from taimatsu.compiler.codegen.writer import rounded_to_single
from taimatsu.ir.target import Target

Number = int | float

FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
MANTISSA_BITS = {32: 23, 64: 52}
EXPONENT_BIAS = {32: 127, 64: 1023}
# A float of this size has no bits after the point, so adding it rounds; one and a half times the
# power of two, so that negative numbers stay in the same binade.
ROUNDER = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}


class Lanes:
    """A value of the code being written, and where that code goes.

    Operators take lanes of the same type, or Python numbers, which become constants. Integer
    operators are those of the bits: ``>>`` brings in zeros. Comparisons of floats are false for
    nan, except ``!=``.
    """

    __slots__ = ("builder", "target", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, target: Target, value: ir.Value) -> None:
        self.builder = builder
        self.target = target
        self.value = value

    # -- types -----------------------------------------------------------------------------

    @property
    def item(self) -> ir.Type:
        """The type of one number."""
        kind = self.value.type
        return kind.element if isinstance(kind, ir.VectorType) else kind

    @property
    def count(self) -> int | None:
        """The number of lanes; None for a scalar."""
        kind = self.value.type
        return kind.count if isinstance(kind, ir.VectorType) else None

    @property
    def bits(self) -> int:
        """The size of one number in bits."""
        item = self.item
        if isinstance(item, ir.IntType):
            return item.width
        return 64 if isinstance(item, ir.DoubleType) else 32

    @property
    def precision(self) -> str:
        """What the tables of coefficients have for this format: ``"32"`` or ``"64"``."""
        return str(self.bits)

    @property
    def is_float(self) -> bool:
        return isinstance(self.item, ir.FloatType | ir.DoubleType)

    def type_of(self, item: ir.Type) -> ir.Type:
        """The type of as many numbers of another kind."""
        return item if self.count is None else ir.VectorType(item, self.count)

    def like(self, number: Number) -> Lanes:
        """A constant of the same type."""
        if isinstance(self.item, ir.IntType):
            width = self.item.width
            number = int(number) & ((1 << width) - 1)
        elif self.bits == 32:
            number = rounded_to_single(float(number))
        else:
            number = float(number)
        one = ir.Constant(self.item, number)
        if self.count is None:
            return self.made(one)
        return self.made(ir.Constant(self.value.type, [one] * self.count))

    def made(self, value: ir.Value) -> Lanes:
        """Another value of the same code."""
        return Lanes(self.builder, self.target, value)

    def _lanes(self, other: Lanes | Number) -> Lanes:
        return other if isinstance(other, Lanes) else self.like(other)

    def _operand(self, other: Lanes | Number) -> ir.Value:
        return self._lanes(other).value

    # -- arithmetic ------------------------------------------------------------------------

    def _binary(self, name: str, other: Lanes | Number, swapped: bool = False) -> Lanes:
        write = getattr(self.builder, f"f{name}" if self.is_float else name)
        left, right = self.value, self._operand(other)
        return self.made(write(right, left) if swapped else write(left, right))

    def __add__(self, other: Lanes | Number) -> Lanes:
        return self._binary("add", other)

    __radd__ = __add__

    def __sub__(self, other: Lanes | Number) -> Lanes:
        return self._binary("sub", other)

    def __rsub__(self, other: Number) -> Lanes:
        return self._binary("sub", other, swapped=True)

    def __mul__(self, other: Lanes | Number) -> Lanes:
        return self._binary("mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Lanes | Number) -> Lanes:
        return self._binary("div", other)

    def __rtruediv__(self, other: Number) -> Lanes:
        return self._binary("div", other, swapped=True)

    def __neg__(self) -> Lanes:
        return self.made(self.builder.fneg(self.value) if self.is_float else (0 - self).value)

    def times_plus(self, factor: Lanes | Number, addend: Lanes | Number) -> Lanes:
        """``self * factor + addend``, with one rounding where the target has an instruction."""
        if not self.target.fma:
            return self * factor + addend
        return self.intrinsic("fma", self._lanes(factor), self._lanes(addend))

    # -- bits ------------------------------------------------------------------------------

    def __and__(self, other: Lanes | Number) -> Lanes:
        return self.made(self.builder.and_(self.value, self._operand(other)))

    def __or__(self, other: Lanes | Number) -> Lanes:
        return self.made(self.builder.or_(self.value, self._operand(other)))

    def __xor__(self, other: Lanes | Number) -> Lanes:
        return self.made(self.builder.xor(self.value, self._operand(other)))

    def __invert__(self) -> Lanes:
        return self.made(self.builder.not_(self.value))

    def __lshift__(self, other: Lanes | Number) -> Lanes:
        return self.made(self.builder.shl(self.value, self._operand(other)))

    def __rshift__(self, other: Lanes | Number) -> Lanes:
        return self.made(self.builder.lshr(self.value, self._operand(other)))

    def as_bits(self) -> Lanes:
        """The bits of floats, as integers."""
        return self.made(self.builder.bitcast(self.value, self.type_of(ir.IntType(self.bits))))

    def as_float(self) -> Lanes:
        """Integers read as the bits of floats."""
        item = FLOAT if self.bits == 32 else DOUBLE
        return self.made(self.builder.bitcast(self.value, self.type_of(item)))

    @property
    def sign_bit(self) -> int:
        return 1 << (self.bits - 1)

    def sign(self) -> Lanes:
        """The sign bit of floats, alone in an integer."""
        return self.as_bits() & self.sign_bit

    def with_sign(self, sign: Lanes) -> Lanes:
        """The float, negated where ``sign`` (a sign bit, as ``sign()`` gives it) is set."""
        return (self.as_bits() ^ sign).as_float()

    def copy_sign(self, other: Lanes) -> Lanes:
        """The magnitude of this float with the sign of the other.

        Not written with bits: where a choice between the result and ``other`` then is one between
        integers, LLVM 22.1 makes a masked vpternlogd of it, with the wrong truth table.
        """
        return self.intrinsic("copysign", other)

    def magnitude(self) -> Lanes:
        return (self.as_bits() & (self.sign_bit - 1)).as_float()

    # -- comparison ------------------------------------------------------------------------

    def _compare(self, sign: str, other: Lanes | Number) -> Lanes:
        right = self._operand(other)
        if not self.is_float:
            return self.made(self.builder.icmp_unsigned(sign, self.value, right))
        if sign == "!=":
            return self.made(self.builder.fcmp_unordered(sign, self.value, right))
        return self.made(self.builder.fcmp_ordered(sign, self.value, right))

    def __lt__(self, other: Lanes | Number) -> Lanes:
        return self._compare("<", other)

    def __le__(self, other: Lanes | Number) -> Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Lanes | Number) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Lanes | Number) -> Lanes:
        return self._compare(">=", other)

    def __eq__(self, other: Lanes | Number) -> Lanes:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: Lanes | Number) -> Lanes:  # type: ignore[override]
        return self._compare("!=", other)

    def where(self, yes: Lanes | Number, no: Lanes | Number) -> Lanes:
        """``yes`` where this truth value holds, ``no`` elsewhere; one of them may be a number."""
        if not isinstance(yes, Lanes):
            assert isinstance(no, Lanes)
            yes = no.like(yes)
        no_value = yes._operand(no)
        return self.made(self.builder.select(self.value, yes.value, no_value))

    def at_most(self, limit: Number) -> Lanes:
        """The smaller of the two; nan stays nan (one instruction on x86)."""
        bound = self.like(limit)
        return (bound < self).where(bound, self)

    def at_least(self, limit: Number) -> Lanes:
        """The larger of the two; nan stays nan."""
        bound = self.like(limit)
        return (bound > self).where(bound, self)

    def any(self) -> ir.Value:
        """One truth value: whether any lane holds."""
        if self.count is None:
            return self.value
        packed = self.builder.bitcast(self.value, ir.IntType(self.count))
        return self.builder.icmp_unsigned("!=", packed, ir.Constant(packed.type, 0))

    # -- conversion ------------------------------------------------------------------------

    def to_double(self) -> Lanes:
        """float32 lanes as float64 lanes, exactly."""
        return self.made(self.builder.fpext(self.value, self.type_of(DOUBLE)))

    def to_single(self) -> Lanes:
        """float64 lanes rounded to float32."""
        return self.made(self.builder.fptrunc(self.value, self.type_of(FLOAT)))

    def resized(self, bits: int) -> Lanes:
        """Integers of another size: cut, or with zeros in front."""
        if bits == self.bits:
            return self
        if (self.bits, bits) == (64, 32) and self.count is not None:
            # As a choice of every second half (little-endian, as all targets are) this is one
            # instruction for two registers.
            halves = ir.VectorType(ir.IntType(32), 2 * self.count)
            value = self.made(self.builder.bitcast(self.value, halves))
            return self.made(shuffled(value, value, range(0, 2 * self.count, 2)))
        write = self.builder.trunc if bits < self.bits else self.builder.zext
        return self.made(write(self.value, self.type_of(ir.IntType(bits))))

    def intrinsic(self, name: str, *others: Lanes) -> Lanes:
        """LLVM's intrinsic of this name, for this type, on these operands."""
        kind = self.value.type
        suffix = f"{'f' if self.is_float else 'i'}{self.bits}"
        if self.count is not None:
            suffix = f"v{self.count}{suffix}"  # llvmlite has no names of vectors' intrinsics
        arguments = [kind] * (1 + len(others))
        function = declared(self.builder.module, f"llvm.{name}.{suffix}", kind, arguments)
        return self.made(self.builder.call(function, [self.value, *(o.value for o in others)]))


def declared(
    module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]
) -> ir.Function:
    """The module's declaration of a function, made when it is first asked for."""
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(result, arguments), name)


# -- formulas shared by all ------------------------------------------------------------------


def polynomial(t: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The polynomial with these coefficients, lowest first, in ``t``.

    Horner's rule; a long one is split into even and odd powers, which halves the chain of
    dependent operations and costs one multiplication.
    """
    if len(coefficients) > 8:
        square = t * t
        odd = polynomial(square, coefficients[1::2])
        return odd.times_plus(t, polynomial(square, coefficients[::2]))
    total = t.like(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total.times_plus(t, coefficient)
    return total


def nearest(x: Lanes) -> Lanes:
    """The nearest integers, as floats, for |x| < 2^22 (float32) or 2^51 (float64)."""
    rounder = ROUNDER[x.bits]
    return (x + rounder) - rounder


class Whole(NamedTuple):
    """Integral floats, within the range of ``nearest``."""

    value: Lanes
    moved: Lanes  # the value plus ROUNDER plus the exponent's bias: its low bits are an integer's

    def low_bits(self) -> Lanes:
        """The bits of the value plus the exponent's bias; those above the mantissa's are noise."""
        return self.moved.as_bits()

    def power_of_two(self, shift: Lanes | Number = 0) -> Lanes:
        """2^(value - shift), where that is a normal number."""
        moved = self.moved - shift if isinstance(shift, Lanes) or shift else self.moved
        return (moved.as_bits() << MANTISSA_BITS[moved.bits]).as_float()


def nearest_multiple(x: Lanes, factor: float) -> Whole:
    """The nearest integers to ``x * factor``, or where that is close to a half, a neighbour."""
    rounder = ROUNDER[x.bits] + EXPONENT_BIAS[x.bits]
    moved = x.times_plus(factor, rounder)
    return Whole(moved - rounder, moved)


def power_of_two(n: Lanes) -> Lanes:
    """2^n for integral floats n, where that is a normal number."""
    biased = n + (ROUNDER[n.bits] + EXPONENT_BIAS[n.bits])
    return (biased.as_bits() << MANTISSA_BITS[n.bits]).as_float()


def scale(x: Lanes, n: Lanes) -> Lanes:
    """``x * 2^n``, rounded once, for x in [2^-10, 2] and integral n of twice the format's range.

    AVX-512 has an instruction, which rounds n down first and takes any n. Otherwise 2^n is taken
    in two factors, of which the first leaves the number normal: so only the second product rounds,
    and underflow is gradual.
    """
    registers, rest = divmod(x.bits * (x.count or 0), 512)
    if x.target.has("avx512f") and not rest and registers.bit_count() == 1:
        return joined([_scalef(*pair) for pair in zip(pieces(x), pieces(n), strict=True)])
    bias = EXPONENT_BIAS[x.bits]
    first = n.at_most(bias - 1).at_least(12 - bias)
    return x * power_of_two(first) * power_of_two((n - first).at_most(bias).at_least(1 - bias))


def _scalef(x: Lanes, n: Lanes) -> Lanes:
    name = f"llvm.x86.avx512.mask.scalef.{'ps' if x.bits == 32 else 'pd'}.512"
    kind, mask, mode = x.value.type, ir.IntType(x.count), ir.IntType(32)
    function = declared(x.builder.module, name, kind, [kind, kind, kind, mask, mode])
    everywhere = ir.Constant(mask, (1 << x.count) - 1)  # type: ignore[operator]
    current_rounding = ir.Constant(mode, 4)
    arguments = [x.value, n.value, x.value, everywhere, current_rounding]
    return x.made(x.builder.call(function, arguments))


def pieces(x: Lanes, bits: int = 512) -> list[Lanes]:
    """A vector cut into vectors of a size."""
    lanes = bits // x.bits
    if x.count == lanes:
        return [x]
    assert x.count is not None
    return [x.made(shuffled(x, x, range(i, i + lanes))) for i in range(0, x.count, lanes)]


def joined(parts: list[Lanes]) -> Lanes:
    """Vectors of a power of two in number, one after another in one vector."""
    while len(parts) > 1:
        width = 2 * (parts[0].count or 0)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [a.made(shuffled(a, b, range(width))) for a, b in pairs]
    return parts[0]


def shuffled(a: Lanes, b: Lanes, order: Sequence[int]) -> ir.Value:
    """The lanes of two vectors, b's numbered after a's, in an order."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
    return a.builder.shuffle_vector(a.value, b.value, mask)


# -- the functions' outer form ---------------------------------------------------------------

Formula = Callable[..., Lanes]
Writer = Callable[..., ir.Value]  # (builder, target, *values)
FUNCTIONS: dict[str, Writer] = {}


def function(formula: Formula) -> Formula:
    """Registers a formula on lanes under its name, as a function of builder, target and values.

    What is registered checks that the values are float32 or float64, and of one type.
    """
    name = formula.__name__

    @functools.wraps(formula)
    def emit(builder: ir.IRBuilder, target: Target, *values: ir.Value, **options: Any) -> ir.Value:
        lanes = [Lanes(builder, target, value) for value in values]
        if not all(x.is_float and x.value.type == lanes[0].value.type for x in lanes):
            got = ", ".join(str(value.type) for value in values)
            raise TypeError(
                f"[vector_math.{name}] expected float or double, or vectors of them, of one "
                f"type; got {got}; convert before the call"
            )
        return formula(*lanes, **options).value

    FUNCTIONS[name] = emit
    return formula
