"""Arithmetic and comparison of floats, integers and truth values, without undefined results."""

from __future__ import annotations

from taimatsu.compiler.codegen.writer import BITS, Value, Writer
from taimatsu.ir.expression import FLOATS, UNSIGNED
from taimatsu.ir.target import Target

_FLOAT_INSTRUCTIONS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_FLOAT_SIGNS = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_PLAIN = {"add", "sub", "mul", "and", "or", "xor"}
# Of truth values: what NumPy and PyTorch mean by sums and products.
_OF_BOOLS = {"add": "or", "mul": "and", "min": "and", "max": "or"}


def comparison(writer: Writer, operation: str, dtype: str, a: Value, b: Value) -> Value:
    """A truth value; false where an operand is nan, but for ``ne``."""
    if dtype in FLOATS:
        return writer.binary(f"fcmp {_FLOAT_SIGNS[operation]}", a, b, "i1")
    if operation in ("eq", "ne"):
        return writer.binary(f"icmp {operation}", a, b, "i1")
    unsigned = dtype in UNSIGNED or dtype == "bool"
    return writer.binary(f"icmp {'u' if unsigned else 's'}{operation}", a, b, "i1")


# -- floats ----------------------------------------------------------------------------------


def floats(writer: Writer, target: Target, operation: str, values: list[Value]) -> Value:
    """An operation on float32 or float64. ValueError for one that floats do not have."""
    instruction = _FLOAT_INSTRUCTIONS.get(operation)
    if instruction is not None:
        return writer.binary(instruction, values[0], values[1])
    if operation == "fma":
        if target.fma:
            return writer.intrinsic("fma", values)
        product = writer.binary("fmul", values[0], values[1])
        return writer.binary("fadd", product, values[2])
    if operation == "fused":
        return writer.intrinsic("fma", values) if target.fma else _fused(writer, values)
    if operation == "neg":
        (x,) = values
        return writer.pure(f"fneg {x.type} {x.name}", x.kind, x.width, x)
    if operation == "abs":
        return writer.intrinsic("fabs", values)
    if operation == "copysign":
        return writer.intrinsic("copysign", values)
    if operation in ("min", "max"):
        return _float_extreme(writer, target, operation, *values)
    raise ValueError(f"[codegen] floats have no operation {operation}")


def _fused(writer: Writer, values: list[Value]) -> Value:
    """A float32 multiply-add with one rounding, from float64 arithmetic.

    The product is exact there. The sum is rounded to odd (where it is not exact its last bit is
    set), so that rounding it to float32 is as if it were exact (Boldo and Melquiond 2008).
    """
    a, b, c = [writer.convert("fpext", v, "double") for v in writer.together(values)]
    product = writer.binary("fmul", a, b)
    total = writer.binary("fadd", product, c)
    part = writer.binary("fsub", total, product)
    kept = writer.binary("fsub", product, writer.binary("fsub", total, part))
    rest = writer.binary("fadd", kept, writer.binary("fsub", c, part))
    zero, unit = writer.constant(0, "i64"), writer.constant(1, "i64")
    bits = writer.convert("bitcast", total, "i64")
    signs = writer.binary("xor", bits, writer.convert("bitcast", rest, "i64"))
    # Towards the rest: away from zero where it has the sum's sign, else towards zero.
    side = writer.binary("or", writer.binary("ashr", signs, writer.constant(63, "i64")), unit)
    even = writer.binary("icmp eq", writer.binary("and", bits, unit), zero, "i1")
    inexact = writer.binary("fcmp one", rest, writer.constant(0.0, "double"), "i1")
    chosen = writer.binary("and", inexact, even)
    odd = writer.select(chosen, writer.binary("add", bits, side), bits)
    return writer.convert("fptrunc", writer.convert("bitcast", odd, "double"), "float")


def _float_extreme(writer: Writer, target: Target, operation: str, a: Value, b: Value) -> Value:
    """The smaller or the greater; nan where either is."""
    if not target.is_x86:
        return writer.intrinsic("minimum" if operation == "min" else "maximum", [a, b])
    sign = "fcmp olt" if operation == "min" else "fcmp ogt"
    if b.constant is not None:
        a, b = b, a
    # One instruction of x86, which gives the second operand where either is nan.
    extreme = writer.select(writer.binary(sign, a, b, "i1"), a, b)
    if a.constant is not None and a.constant == a.constant:
        return extreme
    return writer.select(writer.binary("fcmp uno", a, a, "i1"), a, extreme)


# -- integers --------------------------------------------------------------------------------


def integers(writer: Writer, operation: str, dtype: str, values: list[Value]) -> Value:
    """An operation on integers or truth values. ValueError for one that they do not have."""
    signed = dtype not in UNSIGNED
    if dtype == "bool":
        operation = _OF_BOOLS.get(operation, operation)
    if operation in _PLAIN:
        return writer.binary(operation, values[0], values[1])
    x = values[0]
    if operation == "not":
        return writer.binary("xor", x, writer.constant(True if dtype == "bool" else -1, x.kind))
    if operation == "neg":
        return writer.binary("sub", writer.constant(0, x.kind), x)
    if operation == "abs":
        return writer.intrinsic("abs", [x], "i1 false") if signed else x
    if operation in ("min", "max"):
        return writer.intrinsic(("s" if signed else "u") + operation, values)
    if operation in ("floordiv", "modulo", "truncdiv"):
        return _divided(writer, operation, signed, *values)
    if operation in ("shl", "shr"):
        return _shifted(writer, operation, signed, *values)
    if operation == "mulhi":
        return _upper_product(writer, *values)
    if operation == "gcd":
        return _common_divisor(writer, signed, *values)
    raise ValueError(f"[codegen] {dtype} has no operation {operation}")


def _shifted(writer: Writer, operation: str, signed: bool, x: Value, by: Value) -> Value:
    """A shift; a number of places that is too great, or negative, shifts everything out."""
    bits = BITS[x.kind]
    fits = writer.binary("icmp ult", by, writer.constant(bits, by.kind), "i1")
    if operation == "shr" and signed:
        last = writer.constant(bits - 1, by.kind)
        return writer.binary("ashr", x, writer.select(fits, by, last))
    zero = writer.constant(0, x.kind)
    safe = writer.select(fits, by, writer.constant(0, by.kind))
    shifted = writer.binary("shl" if operation == "shl" else "lshr", x, safe)
    return writer.select(fits, shifted, zero)


def _divided(writer: Writer, operation: str, signed: bool, a: Value, b: Value) -> Value:
    """Quotients and remainders; 0 where the divisor is 0, and no trap at the least integer."""
    one, zero = writer.constant(1, b.kind), writer.constant(0, b.kind)
    is_zero: Value | None = None
    if b.constant is None:
        is_zero = writer.binary("icmp eq", b, zero, "i1")
        safe = writer.select(is_zero, one, b)
    elif b.constant == 0:
        return zero
    else:
        safe = b
    if not signed:
        made = writer.binary("urem" if operation == "modulo" else "udiv", a, safe)
    else:
        made = _divided_signed(writer, operation, a, safe)
    return made if is_zero is None else writer.select(is_zero, zero, made)


def _divided_signed(writer: Writer, operation: str, a: Value, b: Value) -> Value:
    zero, one = writer.constant(0, b.kind), writer.constant(1, b.kind)
    negated: Value | None = None
    if b.constant is None or b.constant == -1:
        # By -1 the least integer has no quotient; it is negated instead.
        negated = writer.binary("icmp eq", b, writer.constant(-1, b.kind), "i1")
        safe = writer.select(negated, one, b)
    else:
        safe = b
    rest = writer.binary("srem", a, safe)
    if operation == "modulo":
        # A rest with the wrong sign is moved by one divisor.
        wrong = writer.binary("icmp slt", writer.binary("xor", rest, safe), zero, "i1")
        wrong = writer.binary("and", wrong, writer.binary("icmp ne", rest, zero, "i1"))
        moved = writer.select(wrong, writer.binary("add", rest, safe), rest)
        return moved if negated is None else writer.select(negated, zero, moved)
    quotient = writer.binary("sdiv", a, safe)
    if operation == "floordiv":
        wrong = writer.binary("icmp slt", writer.binary("xor", rest, safe), zero, "i1")
        wrong = writer.binary("and", wrong, writer.binary("icmp ne", rest, zero, "i1"))
        less = writer.binary("sub", quotient, one)
        quotient = writer.select(wrong, less, quotient)
    if negated is None:
        return quotient
    return writer.select(negated, writer.binary("sub", zero, a), quotient)


def _upper_product(writer: Writer, a: Value, b: Value) -> Value:
    """The upper half of the product of unsigned integers."""
    bits = BITS[a.kind]
    if bits < 64:
        wide = f"i{2 * bits}"
        product = writer.binary(
            "mul", writer.convert("zext", a, wide), writer.convert("zext", b, wide)
        )
        upper = writer.binary("lshr", product, writer.constant(bits, wide))
        return writer.convert("trunc", upper, a.kind)
    # By halves of 32 bits: vectors have no wider product.
    half, mask = writer.constant(32, "i64"), writer.constant(2**32 - 1, "i64")

    def low(x: Value) -> Value:
        return writer.binary("and", x, mask)

    def high(x: Value) -> Value:
        return writer.binary("lshr", x, half)

    def times(x: Value, y: Value) -> Value:
        return writer.binary("mul", x, y)

    def plus(x: Value, y: Value) -> Value:
        return writer.binary("add", x, y)

    cross = plus(times(high(a), low(b)), high(times(low(a), low(b))))
    other = plus(times(low(a), high(b)), low(cross))
    return plus(plus(times(high(a), high(b)), high(cross)), high(other))


POWER = """define internal {type} {name}({type} %base, {type} %exponent) nounwind {{
begin:
  br label %loop
loop:
  %p = phi {type} [ %base, %begin ], [ %square, %loop ]
  %n = phi {type} [ %exponent, %begin ], [ %rest, %loop ]
  %r = phi {type} [ {one}, %begin ], [ %result, %loop ]
  %last = and {type} %n, {one}
  %odd = icmp ne {type} %last, {zero}
  %more = mul {type} %r, %p
  %result = select {bools} %odd, {type} %more, {type} %r
  %square = mul {type} %p, %p
  %rest = lshr {type} %n, {one}
  %left = icmp ne {type} %rest, {zero}
  {test}
  br i1 %again, label %loop, label %end
end:
  ret {type} %result
}}"""


def integer_power(writer: Writer, dtype: str, base: Value, exponent: Value) -> Value:
    """``base`` to the power ``exponent``, modulo the integers' size; as PyTorch for negative ones.

    These give 0, but for the bases 1 (which gives 1) and -1 (1 or -1).
    """
    base, exponent = writer.together([base, exponent])
    name = f"@power.{base.kind}.{base.width}"
    if name not in writer.globals:
        writer.globals[name] = _power_function(writer, name, base)
    text = f"call {base.type} {name}({base.type} {base.name}, {base.type} {exponent.name})"
    if dtype in UNSIGNED:
        return writer.pure(text, base.kind, base.width, base, exponent)
    zero, one = (writer.constant(n, base.kind) for n in (0, 1))
    minus_one = writer.constant(-1, base.kind)
    is_negative = writer.binary("icmp slt", exponent, zero, "i1")
    # The loop would take as long as the integer has bits: negative exponents are replaced.
    last = writer.binary("and", exponent, one)
    safe = writer.select(is_negative, last, exponent)
    text = f"call {base.type} {name}({base.type} {base.name}, {base.type} {safe.name})"
    made = writer.pure(text, base.kind, base.width, base, safe)
    is_unit = writer.binary(
        "or",
        writer.binary("icmp eq", base, one, "i1"),
        writer.binary("icmp eq", base, minus_one, "i1"),
    )
    is_other = writer.binary("xor", is_unit, writer.constant(True, "i1"))
    vanishes = writer.binary("and", is_negative, is_other)
    return writer.select(vanishes, zero, made)


def _power_function(writer: Writer, name: str, base: Value) -> str:
    one = writer.splat(writer.constant(1, base.kind), base.width)
    return POWER.format(name=name, one=one.name, **_loop_words(base, "left"))


# Remainders with the dividend's sign. The dividend is the least integer only while the divisor is
# not negative, or the same: no quotient overflows.
DIVISOR = """define internal {type} {name}({type} %x, {type} %y) nounwind {{
begin:
  br label %loop
loop:
  %a = phi {type} [ %x, %begin ], [ %rest, %step ]
  %b = phi {type} [ %y, %begin ], [ %last, %step ]
  %left = icmp ne {type} %a, {zero}
  {test}
  br i1 %again, label %step, label %end
step:
  %safe = select {bools} %left, {type} %a, {type} {one}
  {remainder}
  %rest = select {bools} %left, {type} %divided, {type} {zero}
  %last = select {bools} %left, {type} %a, {type} %b
  br label %loop
end:
  ret {type} %b
}}"""


def _common_divisor(writer: Writer, signed: bool, x: Value, y: Value) -> Value:
    """Euclid's algorithm, until all lanes are done."""
    if signed:
        x, y = (writer.intrinsic("abs", [n], "i1 false") for n in (x, y))
    x, y = writer.together([x, y])
    name = f"@divisor.{'s' if signed else 'u'}.{x.kind}.{x.width}"
    if name not in writer.globals:
        one = writer.splat(writer.constant(1, x.kind), x.width)
        details = {"name": name, "one": one.name, "remainder": _remainder(x, signed)}
        writer.globals[name] = DIVISOR.format(**details, **_loop_words(x, "left"))
    text = f"call {x.type} {name}({x.type} {x.name}, {y.type} {y.name})"
    return writer.pure(text, x.kind, x.width, x, y)


# Vectors have no division of integers. That of floats, cut to an integer, is the same: what is not
# whole differs from the next whole number by more than one part in a + b, which they resolve.
FLOATING_REMAINDER = """%upper = {sign}itofp {type} %b to {floats}
  %lower = {sign}itofp {type} %safe to {floats}
  %ratio = fdiv {floats} %upper, %lower
  %quotient = fpto{sign}i {floats} %ratio to {type}
  %product = mul {type} %quotient, %safe
  %divided = sub {type} %b, %product"""
_RESOLVING = {"i8": "float", "i16": "float", "i32": "double"}


def _remainder(x: Value, signed: bool) -> str:
    """The text of what a step of Euclid's algorithm computes."""
    sign = "s" if signed else "u"
    kind = _RESOLVING.get(x.kind)
    if kind is None or not x.width:
        return f"%divided = {sign}rem {x.type} %b, %safe"
    floats = f"<{x.width} x {kind}>"
    return FLOATING_REMAINDER.format(sign=sign, type=x.type, floats=floats)


def _loop_words(x: Value, condition: str) -> dict[str, str]:
    """What the text of a loop says of its lanes: it goes on while a lane's condition holds."""
    if not x.width:
        test = f"%again = icmp ne i1 %{condition}, false"
        return {"type": x.type, "bools": "i1", "zero": "0", "test": test}
    bits = f"i{x.width}"
    test = (
        f"%bits = bitcast <{x.width} x i1> %{condition} to {bits}\n"
        f"  %again = icmp ne {bits} %bits, 0"
    )
    bools = f"<{x.width} x i1>"
    return {"type": x.type, "bools": bools, "zero": "zeroinitializer", "test": test}
