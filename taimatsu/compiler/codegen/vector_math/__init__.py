"""Elementary functions as LLVM IR: straight-line code on vectors of any width, and on scalars.

Each function takes an ``IRBuilder``, a ``Target`` and float or double values (or vectors of them)
and returns the value of the result: ``exp(builder, target, x)``. Results are within 2 units in
the last place over the whole range, subnormal numbers included; nan, infinities and signed zeros
are IEEE's and PyTorch's. No library is called, and the code of all widths gives the same bits, so
that a loop's remainder may be done by scalars. With fused multiply-add (``target.fma``) fewer
operations are needed, and last bits may differ from those without; so may those with AVX-512, where
``sixteens`` has other formulas for float32.

Slow paths (huge angles, long quotients) are branches around a call of a function private to the
module: after ``sin``, ``cos``, ``tan``, ``fmod`` and ``remainder`` the builder is in a new block.

Method: N. Shibata & F. Petrogalli, SLEEF: a portable vectorized library of C standard
mathematical functions, IEEE TPDS 31 (2020), and the papers the modules name. The coefficients are
our own (tools/minimax.py).
"""

from __future__ import annotations

from taimatsu.compiler.codegen.vector_math import (
    error_function,
    exponential,
    logarithm,
    rounding,
    trigonometric,
)
from taimatsu.compiler.codegen.vector_math.conversion import (
    bfloat16_to_float,
    float_to_bfloat16,
    float_to_half,
    half_to_float,
)
from taimatsu.compiler.codegen.vector_math.lanes import FUNCTIONS
from taimatsu.compiler.codegen.vector_math.power import pow, pow_constant

acos = FUNCTIONS["acos"]
acosh = FUNCTIONS["acosh"]
asin = FUNCTIONS["asin"]
asinh = FUNCTIONS["asinh"]
atan = FUNCTIONS["atan"]
atan2 = FUNCTIONS["atan2"]
atanh = FUNCTIONS["atanh"]
ceil = FUNCTIONS["ceil"]
cos = FUNCTIONS["cos"]
cosh = FUNCTIONS["cosh"]
erf = FUNCTIONS["erf"]
erfc = FUNCTIONS["erfc"]
exp = FUNCTIONS["exp"]
exp2 = FUNCTIONS["exp2"]
expm1 = FUNCTIONS["expm1"]
floor = FUNCTIONS["floor"]
fmod = FUNCTIONS["fmod"]
hypot = FUNCTIONS["hypot"]
log = FUNCTIONS["log"]
log10 = FUNCTIONS["log10"]
log1p = FUNCTIONS["log1p"]
log2 = FUNCTIONS["log2"]
reciprocal = FUNCTIONS["reciprocal"]
remainder = FUNCTIONS["remainder"]
round_half_even = FUNCTIONS["round_half_even"]
rsqrt = FUNCTIONS["rsqrt"]
sigmoid = FUNCTIONS["sigmoid"]
sin = FUNCTIONS["sin"]
sinh = FUNCTIONS["sinh"]
sqrt = FUNCTIONS["sqrt"]
tan = FUNCTIONS["tan"]
tanh = FUNCTIONS["tanh"]
trunc = FUNCTIONS["trunc"]

__all__ = [
    "FUNCTIONS",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bfloat16_to_float",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "float_to_bfloat16",
    "float_to_half",
    "floor",
    "fmod",
    "half_to_float",
    "hypot",
    "log",
    "log10",
    "log1p",
    "log2",
    "pow",
    "pow_constant",
    "reciprocal",
    "remainder",
    "round_half_even",
    "rsqrt",
    "sigmoid",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
]
