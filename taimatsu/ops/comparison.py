"""Comparisons and predicates: results are booleans, and carry no gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ops.base import Sample, array, composite, register
from taimatsu.ops.elementwise import (
    SPECIAL,
    Binary,
    Unary,
    binary_samples,
    is_number,
    unary_samples,
)


class Comparison(Binary, abstract=True):
    """A comparison in the promoted dtype; with ``inplace`` the result is written as 0 and 1."""

    yields = "bool"
    inplace = True
    differentiable = False
    samples = binary_samples(numbers=(0, 0.5), grad=False)


@register
class Eq(Comparison):
    """``input == other``."""

    accepts = "bifc"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.equal(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input.eq(other)


@register
class Ne(Comparison):
    """``input != other``."""

    functions = ("ne", "not_equal")
    accepts = "bifc"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.not_equal(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input.ne(other)


@register
class Lt(Comparison):
    """``input < other``."""

    functions = ("lt", "less")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.less(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input < other


@register
class Le(Comparison):
    """``input <= other``."""

    functions = ("le", "less_equal")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.less_equal(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input <= other


@register
class Gt(Comparison):
    """``input > other``."""

    functions = ("gt", "greater")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.greater(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input > other


@register
class Ge(Comparison):
    """``input >= other``."""

    functions = ("ge", "greater_equal")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.greater_equal(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input >= other


# -- closeness -------------------------------------------------------------------------------


@register
class IsClose(Binary):
    """``|input - other| <= atol + rtol * |other|``; equal infinities are close."""

    name = "isclose"
    accepts = "bifc"
    yields = "bool"
    differentiable = False

    def infer(self, input: Any, other: Any, *, rtol: float, atol: float, equal_nan: bool) -> Any:
        if input.dtype is not other.dtype:
            raise self.error(
                f"{input.dtype.scalar_type} did not match {other.dtype.scalar_type}",
                hint="compare tensors of one dtype: b.to(a.dtype)",
            )
        return self.describe(input, other)

    def __call__(
        self,
        input: Any,
        other: Any,
        rtol: float = 1e-05,
        atol: float = 1e-08,
        equal_nan: bool = False,
    ) -> Any:
        for name, given in (("rtol", rtol), ("atol", atol)):
            if given < 0:
                raise self.error(f"{name} must be greater than or equal to zero", f"{given}")
        return self.apply(
            input, other, rtol=float(rtol), atol=float(atol), equal_nan=bool(equal_nan)
        )

    def reference(
        self, input: np.ndarray, other: np.ndarray, *, rtol: float, atol: float, equal_nan: bool
    ) -> np.ndarray:
        close = input == other
        if equal_nan and input.dtype.kind in "fc":
            close = close | (np.isnan(input) & np.isnan(other))
        if rtol == 0 and atol == 0:
            return close
        if input.dtype.kind in "biu":
            input, other = input.astype(np.float64), other.astype(np.float64)
        difference = np.abs(input - other)
        allowed = atol + np.abs(rtol * other)
        return close | (np.isfinite(difference) & (difference <= allowed))

    def lower(
        self,
        b: Builder,
        input: Expression,
        other: Expression,
        *,
        rtol: float,
        atol: float,
        equal_nan: bool,
    ) -> Expression:
        close = input.eq(other)
        if equal_nan and input.dtype in FLOATS:
            close = close | (b.isnan(input) & b.isnan(other))
        if rtol == 0 and atol == 0:
            return close
        if input.dtype not in FLOATS:
            input, other = b.cast(input, "float64"), b.cast(other, "float64")
        difference = b.abs(input - other)
        allowed = atol + b.abs(rtol * other)
        return close | ((difference < math.inf) & (difference <= allowed))

    def samples(self) -> Iterator[Sample]:
        a = array(3, 4)
        yield Sample(a, a + 1e-6 * array(3, 4, seed=1), dtypes=("float32", "float64"))
        yield Sample(a, a + 0.1 * array(4, seed=1), rtol=0.05, atol=0.01)
        yield Sample(SPECIAL[:, None], SPECIAL, equal_nan=True)


def _close_samples() -> Iterator[Sample]:
    a = array(3, 4)
    yield Sample(a, a + 1e-9)
    yield Sample(a, a + 0.1, rtol=0.05, atol=0.01)


@composite(torch_name="allclose", samples=_close_samples)
def allclose(
    input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether all elements are close (a Python bool)."""
    return bool(recorder.value(IsClose(input, other, rtol, atol, equal_nan)).all())


def _equal_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(3, 4))
    yield Sample(array(3, 4), array(3, 4, seed=1))
    yield Sample(array(1), array(1, 1))


@composite(samples=_equal_samples)
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and elements (a Python bool)."""
    if tuple(input.shape) != tuple(other.shape):
        return False
    return bool(recorder.value(Eq.apply(input, other)).all())


# -- predicates ------------------------------------------------------------------------------


class Predicate(Unary, abstract=True):
    """A question about each element; integers have neither NaN nor infinities."""

    accepts = "bifc"
    yields = "bool"
    differentiable = False
    samples = unary_samples()


@register
class Isnan(Predicate):
    """Whether an element is not a number (for complex: either part)."""

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.isnan(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.isnan(input) if input.dtype in FLOATS else b.constant(False, "bool")


@register
class Isinf(Predicate):
    """Whether an element is infinite (for complex: either part)."""

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.isinf(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        if input.dtype not in FLOATS:
            return b.constant(False, "bool")
        return b.abs(input).eq(math.inf)


@register
class Isfinite(Predicate):
    """Whether an element is neither infinite nor NaN."""

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.isfinite(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.abs(input) < math.inf if input.dtype in FLOATS else b.constant(True, "bool")


@register
class Isposinf(Predicate):
    """Whether an element is +infinity."""

    accepts = "bif"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.isinf(input) & (input > 0)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input.eq(math.inf) if input.dtype in FLOATS else b.constant(False, "bool")


@register
class Isneginf(Predicate):
    """Whether an element is -infinity."""

    accepts = "bif"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.isinf(input) & (input < 0)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input.eq(-math.inf) if input.dtype in FLOATS else b.constant(False, "bool")


@register
class Isreal(Predicate):
    """Whether the imaginary part is zero."""

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.asarray(input.imag == 0)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.constant(True, "bool")  # complex numbers have no stages


# -- logic -----------------------------------------------------------------------------------


class Logical(Binary, abstract=True):
    """Logic on truth values: an element is true unless it is zero, in its own dtype."""

    accepts = "bifc"
    yields = "bool"
    inplace = True
    differentiable = False
    truths = (0, 1)

    def infer(self, input: Any, other: Any) -> Any:
        return self.describe(input, other)

    def operand(self, x: Any, compute: Any) -> Any:
        return np.asarray(x).astype(bool) if is_number(x) else x.astype(bool)

    samples = binary_samples(numbers=(), grad=False)


@register
class LogicalAnd(Logical):
    """Both are non-zero."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.logical_and(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input & other


@register
class LogicalOr(Logical):
    """At least one is non-zero."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.logical_or(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input | other


@register
class LogicalXor(Logical):
    """Exactly one is non-zero."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.logical_xor(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input ^ other


@register
class LogicalNot(Predicate):
    """Whether an element is zero."""

    inplace = True
    truths = (0,)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.logical_not(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return ~input


@register
class Heaviside(Binary):
    """0 for negative elements, 1 for positive ones, ``values`` at zero; NaN stays NaN."""

    inplace = True
    differentiable = False

    def infer(self, input: Any, values: Any) -> Any:
        if input.dtype is not values.dtype:
            raise self.error(
                "heaviside is not yet implemented for tensors with different dtypes.",
                f"{input.dtype.name} and {values.dtype.name}",
                "convert one: values.to(input.dtype)",
            )
        return self.describe(input, values)

    def __call__(self, input: Any, values: Any) -> Any:
        return self.apply(input, values)

    def reference(self, input: np.ndarray, values: np.ndarray) -> np.ndarray:
        if input.dtype.kind == "f":
            return np.heaviside(input, values)
        return np.where(input == 0, values, (input > 0).astype(input.dtype))

    def lower(self, b: Builder, input: Expression, values: Expression) -> Expression:
        zero = b.constant(0, input.dtype)
        step = b.cast(input > zero, input.dtype)
        if input.dtype in FLOATS:
            step = b.where(b.isnan(input), input, step)
        return b.where(input.eq(zero), values, step)

    samples = binary_samples(numbers=(), grad=False, special=False)
