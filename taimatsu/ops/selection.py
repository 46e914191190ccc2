"""Choosing between values: where, masks, bounds; and the fused multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops.base import (
    REGISTRY,
    Composite,
    Sample,
    array,
    booleans,
    integers,
    register,
)
from taimatsu.ops.elementwise import (
    FLOATS,
    SPECIAL,
    Binary,
    Elementwise,
    Unary,
    binary_samples,
    cast,
    complex_array,
    is_number,
    spread,
    unary_samples,
    zeros,
)

# -- masks -----------------------------------------------------------------------------------


@register
class Where(Elementwise):
    """``input`` where ``condition`` holds, else ``other``."""

    methods = ()  # Tensor.where takes the condition second
    truths = (0,)
    saves = ("condition",)

    def infer(self, condition: Any, input: Any, other: Any) -> Any:
        if condition.dtype not in (dtypes.bool_, dtypes.uint8):
            raise self.error(
                "expected condition to be a boolean tensor",
                f"a tensor with dtype {condition.dtype.scalar_type}",
                "compare first: condition != 0",
            )
        return spread(dtypes.result_type(input, other), (condition, input, other))

    def __call__(self, condition: Any, input: Any = None, other: Any = None) -> Any:
        if input is None and other is None:
            return REGISTRY["nonzero"](condition, as_tuple=True)
        return self.apply(condition, input, other)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        condition, input, other = inputs
        kind = outs[0].dtype.numpy
        with np.errstate(all="ignore"):
            chosen = np.where(condition.astype(bool), cast(input, kind), cast(other, kind))
        return (np.asarray(chosen, kind),)

    def lower(
        self, b: Builder, condition: Expression, input: Expression, other: Expression
    ) -> Expression:
        return b.where(condition, input, other)

    def gradient(self, g: Any, out: Any, condition: Any, input: Any, other: Any) -> Any:
        return None, lambda: self.apply(condition, g, 0), lambda: self.apply(condition, 0, g)

    def samples(self) -> Iterator[Sample]:
        yield Sample(booleans(3, 4), array(3, 4), array(4, seed=1), dtypes=FLOATS)
        yield Sample(booleans(3, 1), array(4), 2.5)
        yield Sample(booleans(3, 4), 1, array(3, 4))
        yield Sample(booleans(3, 4), integers(3, 4), 7)
        yield Sample(np.array(True), array(3), array(2, 3, seed=1))
        yield Sample(booleans(3), complex_array(3), array(3))


def _where_method(self: Any, condition: Any, other: Any) -> Any:
    """``self`` where ``condition`` holds, else ``other``."""
    return Where.apply(condition, self, other)


# The method has another order of arguments than the function: a method without a public function.
REGISTRY["tensor_where"] = Composite(_where_method, (), ("where",), False, "Tensor.where", None)


@register
class MaskedFill(Elementwise):
    """``input`` with ``value`` (a number or a 0-d tensor) where ``mask`` is true."""

    truths = (1,)
    inplace = True
    saves = ("mask",)

    def infer(self, input: Any, mask: Any, value: Any) -> Any:
        if mask.dtype is not dtypes.bool_:
            raise self.error(
                "masked_fill_ only supports boolean masks",
                f"mask with dtype {mask.dtype.name}",
                "compare first: mask != 0, or mask.bool()",
            )
        if not is_number(value) and value.ndim > 0:
            raise self.error(
                "masked_fill_ only supports a 0-dimensional value tensor",
                f"tensor with {value.ndim} dimension(s)",
                "torch.where(mask, values, input) takes values of any shape",
            )
        if not dtypes.can_cast(dtypes.result_type(value), input.dtype) and (
            dtypes.result_type(value).is_complex
        ):
            raise self.error(
                f"value cannot be converted to type {input.dtype.name} without overflow"
            )
        return spread(input.dtype, (input, mask))

    def __call__(self, input: Any, mask: Any, value: Any) -> Any:
        return self.apply(input, mask, value)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "MaskedFillBackward0" if is_number(inputs[2]) else "MaskedFillBackward1"

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        input, mask, value = inputs
        with np.errstate(all="ignore"):
            filled = np.where(mask, cast(value, input.dtype), input)
        return (np.asarray(filled, input.dtype),)

    def lower(
        self, b: Builder, input: Expression, mask: Expression, value: Expression
    ) -> Expression:
        number = value.args[0] if value.op == "cast" else value
        settled = b.settled(number)  # fusion asks where an array is zero
        return b.where(mask, value if settled is None else b.constant(settled, value.dtype), input)

    def gradient(self, g: Any, out: Any, input: Any, mask: Any, value: Any) -> Any:
        return (
            lambda: self.apply(g, mask, 0),
            None,
            lambda: Where.apply(mask, g, 0).sum(),
        )

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4), booleans(3, 4), 2.5, dtypes=FLOATS)
        yield Sample(array(3, 4), booleans(4), np.array(1.5))
        yield Sample(array(4), booleans(3, 1), -np.inf)
        yield Sample(integers(3, 4), booleans(3, 4), 7)


@register
class Fill(Elementwise):
    """``value`` in the shape and dtype of ``input``."""

    methods = ()

    def infer(self, input: Any, value: Any) -> Any:
        if not is_number(value) and value.ndim > 0:
            raise self.error(
                "fill_ only supports 0-dimension value tensor",
                f"tensor with {value.ndim} dimensions.",
                "x.copy_(value) takes other shapes",
            )
        return spread(input.dtype, (input,))

    def __call__(self, input: Any, value: Any) -> Any:
        return self.apply(input, value)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "FillBackward0" if is_number(inputs[1]) else "FillBackward1"

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        with np.errstate(all="ignore"):
            return (np.full(outs[0].shape, cast(inputs[1], outs[0].dtype.numpy)),)

    def lower(self, b: Builder, input: Expression, value: Expression) -> Expression:
        return value

    def gradient(self, g: Any, out: Any, input: Any, value: Any) -> Any:
        return lambda: zeros(g), lambda: g.sum()

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4), 2.5)
        yield Sample(array(3, 4), np.array(1.5))
        yield Sample(integers(3), 7)


# -- the larger and the smaller --------------------------------------------------------------


class Extremum(Binary, abstract=True):
    """The larger or smaller of two tensors."""

    saves = ("input", "other")
    samples = binary_samples(numbers=())

    def __call__(self, input: Any, other: Any) -> Any:
        for name, position, given in (("input", 1, input), ("other", 2, other)):
            if is_number(given):
                raise self.error(
                    f"{self.name}(): argument '{name}' (position {position}) must be Tensor, "
                    f"not {type(given).__name__}",
                    hint="torch.clamp(x, min=..., max=...) takes numbers",
                    kind=TypeError,
                )
        return self.apply(input, other)


def _split_ties(g: Any, input: Any, other: Any, lost: Any) -> Any:
    """The gradient: all of it to the winner, half where both are equal."""
    return Where.apply(input == other, g / 2, g).masked_fill(lost, 0)


@register
class Maximum(Extremum):
    """The larger of two elements; NaN where either is NaN."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.maximum(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.max(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return (
            lambda: _split_ties(g, input, other, input < other),
            lambda: _split_ties(g, input, other, input > other),
        )


@register
class Minimum(Extremum):
    """The smaller of two elements; NaN where either is NaN."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.minimum(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.min(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return (
            lambda: _split_ties(g, input, other, input > other),
            lambda: _split_ties(g, input, other, input < other),
        )


@register
class Fmax(Extremum):
    """The larger of two elements; the other one where one is NaN."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.fmax(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.where((input >= other) | b.isnan(other), input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        first = (input >= other) | other.isnan()
        return lambda: g.masked_fill(~first, 0), lambda: g.masked_fill(first, 0)


@register
class Fmin(Extremum):
    """The smaller of two elements; the other one where one is NaN."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.fmin(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.where((input <= other) | b.isnan(other), input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        first = (input <= other) | other.isnan()
        return lambda: g.masked_fill(~first, 0), lambda: g.masked_fill(first, 0)


# -- bounds ----------------------------------------------------------------------------------


@register
class Clamp(Elementwise):
    """``min(max(input, min), max)``; bounds are numbers, tensors or None. NaN stays NaN."""

    functions = ("clamp", "clip")
    inplace = True
    saves = ("input", "min", "max")

    def infer(self, input: Any, min: Any, max: Any) -> Any:
        return self.describe(input, min, max)

    def __call__(self, input: Any, min: Any = None, max: Any = None) -> Any:
        if min is None and max is None:
            raise self.error("torch.clamp: At least one of 'min' or 'max' must not be None")
        return self.apply(input, min, max)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        numbers = all(x is None or is_number(x) for x in inputs[1:])
        return "ClampBackward1" if numbers else "ClampBackward0"

    def unsupported(self, found: Any) -> Exception:
        return self.error("clamp is not supported for complex types", kind=NotImplementedError)

    def reference(self, input: np.ndarray, min: Any, max: Any) -> np.ndarray:
        if min is not None:
            input = np.maximum(input, min)
        return input if max is None else np.minimum(input, max)

    def lower(
        self, b: Builder, input: Expression, min: Expression | None, max: Expression | None
    ) -> Expression:
        if min is not None:
            input = b.max(input, min)
        return input if max is None else b.min(input, max)

    def gradient(self, g: Any, out: Any, input: Any, min: Any, max: Any) -> Any:
        return (
            lambda: self._for_input(g, input, min, max),
            lambda: self._for_min(g, input, min, max),
            lambda: self._for_max(g, input, min, max),
        )

    def _for_input(self, g: Any, input: Any, min: Any, max: Any) -> Any:
        if min is None:
            return Where.apply(input <= max, g, 0)
        if max is None:
            return Where.apply(input >= min, g, 0)
        return Where.apply((input >= min) & (input <= max), g, 0)

    def _for_min(self, g: Any, input: Any, min: Any, max: Any) -> Any:
        chosen = input < min
        if max is not None:
            chosen = chosen & (min < max)
        return Where.apply(chosen, g, 0)

    def _for_max(self, g: Any, input: Any, min: Any, max: Any) -> Any:
        chosen = input > max
        if min is not None:
            chosen = chosen | (max < min)
        return Where.apply(chosen, g, 0)

    def samples(self) -> Iterator[Sample]:
        x = array(3, 4)
        yield Sample(x, -0.5, 0.7, dtypes=FLOATS)
        yield Sample(x, min=0)
        yield Sample(x, max=0.25)
        yield Sample(x, array(4, low=-1, high=0, seed=1), array(3, 1, low=0, high=1, seed=2))
        yield Sample(x, max=array(3, 4, seed=1))
        yield Sample(integers(5), 2, 5)
        yield Sample(integers(5), 2.5)
        yield Sample(SPECIAL, -1.0, 1.0, grad=False)


class Bound(Binary, abstract=True):
    """One bound, a number or a tensor."""

    inplace = True

    def unsupported(self, found: Any) -> Exception:
        return self.error("clamp is not supported for complex types", kind=NotImplementedError)

    samples = binary_samples(numbers=(0.5, 0))


@register
class ClampMin(Bound):
    """``max(input, min)``; NaN stays NaN."""

    saves = ("input", "min")

    def infer(self, input: Any, min: Any) -> Any:
        return self.describe(input, min)

    def __call__(self, input: Any, min: Any) -> Any:
        return self.apply(input, min)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "ClampMinBackward0" if is_number(inputs[1]) else "ClampMinBackward1"

    def reference(self, input: np.ndarray, min: np.ndarray) -> np.ndarray:
        return np.maximum(input, min)

    def lower(self, b: Builder, input: Expression, min: Expression) -> Expression:
        return b.max(input, min)

    def gradient(self, g: Any, out: Any, input: Any, min: Any) -> Any:
        return (
            lambda: Where.apply(input >= min, g, 0),
            lambda: Where.apply(input < min, g, 0),
        )


@register
class ClampMax(Bound):
    """``min(input, max)``; NaN stays NaN."""

    saves = ("input", "max")

    def infer(self, input: Any, max: Any) -> Any:
        return self.describe(input, max)

    def __call__(self, input: Any, max: Any) -> Any:
        return self.apply(input, max)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "ClampMaxBackward0" if is_number(inputs[1]) else "ClampMaxBackward1"

    def reference(self, input: np.ndarray, max: np.ndarray) -> np.ndarray:
        return np.minimum(input, max)

    def lower(self, b: Builder, input: Expression, max: Expression) -> Expression:
        return b.min(input, max)

    def gradient(self, g: Any, out: Any, input: Any, max: Any) -> Any:
        return (
            lambda: Where.apply(input <= max, g, 0),
            lambda: Where.apply(input > max, g, 0),
        )


@register
class NanToNum(Unary):
    """NaN and infinities replaced; by default with 0 and the dtype's largest and smallest."""

    accepts = "bifc"
    inplace = True
    saves = ("input",)

    def __call__(
        self,
        input: Any,
        nan: float | None = None,
        posinf: float | None = None,
        neginf: float | None = None,
    ) -> Any:
        return self.apply(input, nan=nan, posinf=posinf, neginf=neginf)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        dtype = outs[0].dtype
        if dtype.category <= dtypes.INTEGER:
            return (inputs[0].copy(),)
        return super().evaluate(inputs, _replacements(attributes, dtype), metas, outs)

    def reference(
        self, input: np.ndarray, *, nan: float, posinf: float, neginf: float
    ) -> np.ndarray:
        if input.dtype.kind == "c":
            real = self.reference(input.real, nan=nan, posinf=posinf, neginf=neginf)
            imag = self.reference(input.imag, nan=nan, posinf=posinf, neginf=neginf)
            return real + imag * np.asarray(1j, input.dtype)
        result = np.where(np.isnan(input), np.asarray(nan, input.dtype), input)
        result = np.where(input == np.inf, np.asarray(posinf, input.dtype), result)
        return np.where(input == -np.inf, np.asarray(neginf, input.dtype), result)

    def element(
        self,
        b: Builder,
        given: Sequence[Any],
        attributes: dict,
        metas: tuple,
        compute: dtypes.dtype,
    ) -> Expression:
        if compute.category <= dtypes.INTEGER:
            return given[0]
        return self.lower(b, given[0], **_replacements(attributes, compute))

    def lower(
        self, b: Builder, input: Expression, *, nan: float, posinf: float, neginf: float
    ) -> Expression:
        result = b.where(b.isnan(input), nan, input)
        result = b.where(input.eq(math.inf), posinf, result)
        return b.where(input.eq(-math.inf), neginf, result)

    def gradient(self, g: Any, out: Any, input: Any, **attributes: Any) -> Any:
        return g * input.isfinite()

    samples = unary_samples(nan=1.5, posinf=2.5)


def _replacements(attributes: dict, dtype: dtypes.dtype) -> dict[str, float]:
    """What stands for nan and the infinities of a floating dtype."""
    limits = dtypes.finfo(dtype)
    nan, high, low = (attributes[k] for k in ("nan", "posinf", "neginf"))
    return {
        "nan": 0.0 if nan is None else nan,
        "posinf": limits.max if high is None else high,
        "neginf": limits.min if low is None else low,
    }
