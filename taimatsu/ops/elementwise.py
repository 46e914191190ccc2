"""What pointwise operations share: broadcasting, dtype rules, evaluation in the compute dtype.

An operation computes in one dtype (promoted from its inputs), and yields that dtype, ``bool``
(``Predicate``) or the real type of a complex one. float16 and bfloat16 compute in float32 and
round once, as PyTorch's kernels do.

``lower(b, *inputs, **attributes)`` of an elementwise operation is about one element: it gets scalar
expressions that already have the dtype of the computation, as ``reference`` gets arrays, and gives
the expression of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Var
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import REGISTRY, Operation, Sample, array, integers
from taimatsu.ops.coordinates import broadcast_at, broadcast_extents
from taimatsu.shapes import broadcast_shapes, elementwise_strides

_CATEGORY = "bifc"  # bool, integer, float, complex: the letters of ``accepts``
_HALF = (dtypes.float16, dtypes.bfloat16)


class _NotLoweredError(Exception):
    """``lower`` gave None."""


class Elementwise(Operation, abstract=True):
    """An operation that computes each element of its result from one element of each input.

    A subclass writes ``reference`` on arrays that already have the compute dtype. Subclasses with
    other than one or two inputs write ``infer`` too (its parameters name the inputs).
    """

    accepts: ClassVar[str] = "bif"  # categories of the compute dtype: bool, int, float, complex
    integers: ClassVar[str] = "keep"  # "float": booleans and integers compute in the default dtype
    yields: ClassVar[str] = "same"  # the result's dtype: "same", "bool", "real" (of a complex one)
    wide_numbers: ClassVar[bool] = False  # Python numbers are not rounded to float16 first
    truths: ClassVar[tuple[int, ...]] = ()  # positions of inputs that lower takes as booleans

    def compute_dtype(self, *operands: Any) -> dtypes.dtype:
        """The dtype in which the inputs (``Meta`` or numbers) are combined; raises for others."""
        found = dtypes.result_type(*operands)
        if self.integers == "float" and found.category <= dtypes.INTEGER:
            found = dtypes.get_default_dtype()
        if _CATEGORY[found.category] not in self.accepts:
            raise self.unsupported(found)
        return found

    def unsupported(self, found: dtypes.dtype) -> Exception:
        """The error for a dtype in which the operation does not compute."""
        named = {"b": "bool", "i": "integer", "f": "floating point", "c": "complex"}
        wanted = ", ".join(named[c] for c in self.accepts)
        return self.error(
            f"\"{self.name}_cpu\" not implemented for '{found.scalar_type}'",
            hint=f"expected a dtype of these kinds: {wanted}; convert with .to(dtype)"
            + ("; or compare .abs() or .real" if found.category == dtypes.COMPLEX else ""),
            kind=NotImplementedError,
        )

    def describe(self, *operands: Any) -> Meta:
        """The result for these inputs (``Meta``, numbers, None): shape, dtype and strides."""
        present = [x for x in operands if x is not None]
        found = self.compute_dtype(*present)
        if self.yields == "bool":
            found = dtypes.bool_
        elif self.yields == "real":
            found = found.to_real()
        return spread(found, present, self.name)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        """``reference`` on the inputs in the compute dtype, cast to the inferred dtype."""
        compute = self.computed_in(inputs, metas, outs)
        arrays = self.operands(inputs, compute)
        with np.errstate(all="ignore"):
            return (cast(self.reference(*arrays, **attributes), outs[0].dtype.numpy),)

    def computed_in(self, inputs: tuple, metas: tuple, outs: tuple) -> dtypes.dtype:
        """The compute dtype of a call: that of the result, where it yields that."""
        if self.yields == "same":
            return outs[0].dtype
        given = zip(inputs, metas, strict=True)
        present = [x if m is None else m for x, m in given if x is not None]
        return self.compute_dtype(*[_like(x) for x in present])

    def operands(self, inputs: Sequence[Any], compute: dtypes.dtype) -> list[Any]:
        """The inputs as ``reference`` takes them: arrays of the working dtype, or None."""
        return [self.operand(x, compute) for x in inputs]

    def operand(self, x: Any, compute: dtypes.dtype) -> Any:
        """One input cast to the compute dtype (float32 for the 16-bit floats)."""
        if x is None:
            return None
        if compute not in _HALF:
            return cast(x, compute.numpy)
        if isinstance(x, np.ndarray) or not self.wide_numbers:
            x = cast(x, compute.numpy)
        return cast(x, dtypes.float32.numpy)

    # -- lowering --------------------------------------------------------------------------

    def stages(
        self, b: Builder, inputs: tuple, attributes: dict, metas: tuple, outs: tuple
    ) -> tuple[Stage] | None:
        """A map of ``lower`` over the result's shape, cast to the inferred dtype."""
        described = [m for m in (*metas, *outs) if m is not None]
        if self.lower is None or any(m.dtype.name not in SIZES for m in described):
            return None
        if any(isinstance(x, complex) for x in inputs):
            return None
        compute = self.computed_in(inputs, metas, outs)
        result = outs[0].dtype.name
        given: list[Any] = []

        def element(*axes: Any) -> Expression:
            given[:] = [
                self.operand_at(b, x, axes, dtypes.bool_ if k in self.truths else compute)
                for k, x in enumerate(inputs)
            ]
            found = self.element(b, given, attributes, metas, compute)
            if found is None:
                raise _NotLoweredError
            return b.cast(found, result)

        shape = broadcast_extents([x.shape for x in inputs if isinstance(x, View)])
        try:
            stage = b.map(shape, result, element)
        except _NotLoweredError:
            return None
        self.demand(b, stage, given)
        return (stage,)

    def element(
        self,
        b: Builder,
        given: Sequence[Any],
        attributes: dict,
        metas: tuple,
        compute: dtypes.dtype,
    ) -> Expression | None:
        """The expression of one element, from those of the inputs."""
        assert self.lower is not None
        return self.lower(b, *given, **attributes)

    def demand(self, b: Builder, stage: Stage, given: Sequence[Any]) -> None:
        """Adds to the stage the checks that its elements need; ``given`` is what lower got."""

    def operand_at(
        self, b: Builder, x: Any, axes: Sequence[Var], compute: dtypes.dtype
    ) -> Expression | None:
        """One input's element as ``lower`` takes it: cast as ``operand`` casts arrays."""
        if x is None:
            return None
        working = working_name(compute)
        if isinstance(x, View):
            value = broadcast_at(x, axes)
        elif isinstance(x, Expression):
            value = x
        else:
            return b.constant(self.operand(x, compute).item(), working)
        if isinstance(x, View) or not self.wide_numbers:
            value = b.cast(value, compute.name)
        return b.cast(value, working)


class Unary(Elementwise, abstract=True):
    """One input."""

    def infer(self, input: Any, **attributes: Any) -> Meta:
        if input is None:
            raise recorder.not_a_tensor(self.name, "input", 0, None)
        return self.describe(input)

    def __call__(self, input: Any) -> Any:
        return self.apply(input)


class Binary(Elementwise, abstract=True):
    """Two inputs that broadcast; either may be a Python number."""

    def infer(self, input: Any, other: Any, **attributes: Any) -> Meta:
        if input is None or other is None:
            name, position = ("input", 0) if input is None else ("other", 1)
            raise recorder.not_a_tensor(self.name, name, position, None)
        return self.describe(input, other)

    def __call__(self, input: Any, other: Any) -> Any:
        return self.apply(input, other)


class FloatUnary(Unary, abstract=True):
    """One input, computed in floating point: integers give the default dtype."""

    accepts = "f"
    integers = "float"
    inplace = True


# -- helpers of rules ------------------------------------------------------------------------


def spread(found: dtypes.dtype, operands: Sequence[Any], name: str = "") -> Meta:
    """The description of a fresh elementwise result over these operands."""
    tensors = [x for x in operands if isinstance(x, Meta)]
    shape = broadcast_shapes(*[x.shape for x in tensors])
    strides = elementwise_strides([(x.shape, x.strides) for x in tensors], shape)
    return meta(shape, found, strides)


def working_name(compute: dtypes.dtype) -> str:
    """The dtype in which ``lower`` computes for a compute dtype: float32 for the 16-bit floats."""
    return "float32" if compute in _HALF else compute.name


def _like(x: Any) -> Any:
    """A number of the kind of one that is given at launch; other things as they are."""
    if not isinstance(x, Expression):
        return x
    return 0.0 if x.dtype == "float64" else 0


def cast(x: Any, kind: np.dtype) -> np.ndarray:
    """An array of ``kind`` with the values of an array or number (imaginary parts dropped)."""
    x = np.asarray(x)
    if x.dtype == kind:
        return x
    if x.dtype.kind == "c" and kind.kind != "c":
        x = x != 0 if kind.kind == "b" else x.real
    return x.astype(kind)


def is_number(x: Any) -> bool:
    """Whether an input is a Python number, not a tensor or its description."""
    return not hasattr(x, "dtype") or isinstance(x, np.generic)


def is_complex(x: Any) -> bool:
    """Whether a tensor, description or number is complex."""
    if is_number(x):
        return isinstance(x, complex)
    return x.dtype.is_complex


def conj(x: Any) -> Any:
    """The conjugate where there is one to take: gradients of holomorphic functions need it."""
    if is_number(x):
        return x.conjugate()
    return x.conj() if x.dtype.is_complex else x


def zeros(g: Any) -> Any:
    """The gradient of a function that is flat wherever it is differentiable."""
    full: Any = REGISTRY["full_value"]
    return full.apply(0, shape=tuple(g.shape), dtype=g.dtype)


# -- samples ---------------------------------------------------------------------------------

FLOATS = ("float32", "float64")
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e30, -1e-30])


def unary_samples(
    low: float = -2.0,
    high: float = 2.0,
    *,
    whole: bool = True,
    special: bool = True,
    complexes: bool = False,
    kinks: Sequence[float] = (),
    **attributes: Any,
) -> staticmethod:
    """Samples of a function of one tensor, differentiable in the open interval (low, high).

    ``whole`` adds integers, ``special`` NaN, infinities and zeros, ``complexes`` complex numbers;
    ``kinks`` are points where only the value is compared.
    """

    def generate() -> Iterator[Sample]:
        yield Sample(array(3, 4, low=low, high=high), dtypes=FLOATS, **attributes)
        yield Sample(array(low=low, high=high), **attributes)
        yield Sample(array(0, 3, low=low, high=high), **attributes)
        yield Sample(array(2, 3, 4, low=low, high=high).transpose(2, 0, 1), **attributes)
        if whole:
            yield Sample(integers(5), grad=False, **attributes)
        if special:
            yield Sample(SPECIAL, grad=False, dtypes=FLOATS, **attributes)
        if complexes:
            yield Sample(complex_array(3, 4, low=low, high=high), **attributes)
        if kinks:
            yield Sample(np.array(kinks), grad=False, **attributes)

    return staticmethod(generate)


def binary_samples(
    low: float = -2.0,
    high: float = 2.0,
    *,
    other: tuple[float, float] | None = None,
    whole: bool = True,
    special: bool = True,
    complexes: bool = False,
    numbers: Sequence[Any] = (2, 0.5),
    left_numbers: Sequence[Any] = (),
    grad: bool = True,
) -> staticmethod:
    """Samples of a function of two tensors, or of a tensor and a number on either side."""
    low2, high2 = other or (low, high)

    def generate() -> Iterator[Sample]:
        def left(*shape: int) -> np.ndarray:
            return array(*shape, low=low, high=high)

        def right(*shape: int) -> np.ndarray:
            return array(*shape, low=low2, high=high2, seed=1)

        yield Sample(left(3, 4), right(3, 4), grad=grad, dtypes=FLOATS)
        yield Sample(left(3, 4), right(4), grad=grad)
        yield Sample(left(3, 1), right(2, 1, 4), grad=grad)
        yield Sample(left(), right(3), grad=grad)
        yield Sample(left(0, 3), right(3), grad=grad)
        for number in numbers:
            yield Sample(left(3, 4), number, grad=grad)
        for number in left_numbers:
            yield Sample(number, right(3, 4), grad=grad)
        if whole:
            yield Sample(integers(6), integers(6, low=1, seed=1), grad=False)
        if special:
            yield Sample(SPECIAL[:, None], SPECIAL, grad=False)
        if complexes:
            yield Sample(complex_array(3, 4), complex_array(4, seed=1), grad=grad)
            yield Sample(left(3, 4), complex_array(4, seed=1), grad=grad)

    return staticmethod(generate)


def complex_array(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> np.ndarray:
    """A complex64 array for samples."""
    real = array(*shape, low=low, high=high, seed=seed)
    imaginary = array(*shape, low=low, high=high, seed=seed + 100)
    return np.asarray(real + 1j * imaginary, np.complex64)
