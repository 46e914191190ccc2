"""What reductions, scans and sorts share: axes, result shapes, and the order of summation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from taimatsu import dtypes
from taimatsu.dtypes import dtype as DType
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Operation
from taimatsu.ops.coordinates import Source
from taimatsu.ops.reduced_stages import converted_view, in_result_dtype
from taimatsu.shapes import normalize_axes, normalize_axis

_ALIASES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x2": "other"}


def numpy_names(function: Callable) -> Callable:
    """Lets a function be called with NumPy's names: ``axis`` for dim, ``keepdims`` for keepdim."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for alias, name in _ALIASES.items():
                if alias in kwargs and name not in kwargs:
                    kwargs[name] = kwargs.pop(alias)
        return function(*args, **kwargs)

    return call


def axes_of(dim: Any, ndim: int) -> tuple[int, ...] | None:
    """The dimensions to reduce, ascending. None stands for all: no dim given, or an empty one.

    A 0-d tensor has no dimension to reduce, so its result is ``()``.
    """
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return None
    axes = sorted(normalize_axes(dim, ndim))
    return tuple(axes) if ndim else ()


def one_axis(dim: int, ndim: int) -> tuple[int, ...]:
    """The one dimension to reduce as a tuple, ``()`` for a 0-d tensor."""
    axis = normalize_axis(dim, ndim)
    return (axis,) if ndim else ()


def reduced_shape(
    shape: Sequence[int], dim: tuple[int, ...] | None, keepdim: bool
) -> tuple[int, ...]:
    """The shape that is left when ``dim`` (None: all) is reduced."""
    reduced = range(len(shape)) if dim is None else dim
    if keepdim:
        return tuple(1 if d in reduced else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in reduced)


def reduced_count(shape: Sequence[int], dim: tuple[int, ...] | None) -> int:
    """How many elements go into one element of the result."""
    reduced = range(len(shape)) if dim is None else dim
    return int(np.prod([shape[d] for d in reduced], dtype=np.int64))


def restore(g: Any, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    """A reduced tensor with its reduced dimensions back as extent 1; a 0-d one broadcasts."""
    if keepdim or dim is None:
        return g
    for d in dim:
        g = g.unsqueeze(d)
    return g


def rows(x: np.ndarray, dim: tuple[int, ...] | None) -> np.ndarray:
    """The array with its reduced axes last, as one contiguous axis.

    Whatever the strides were: so that the order of summation is a function of the shape alone,
    and NumPy sums pairwise along it.
    """
    if dim is None:
        return np.ascontiguousarray(x).reshape(-1)
    kept = [a for a in range(x.ndim) if a not in dim]
    moved = np.ascontiguousarray(x.transpose(*kept, *dim))
    return moved.reshape([x.shape[a] for a in kept] + [reduced_count(x.shape, dim)])


def compute_dtype(dtype: DType) -> np.dtype:
    """What a reference computes in: float32 for the 16-bit (and smaller) floats."""
    if dtype.is_floating_point and dtype.itemsize < 4:
        return np.dtype(np.float32)
    return np.dtype(dtype.numpy)


def is_inexact(dtype: DType) -> bool:
    """Floating point or complex."""
    return dtype.is_floating_point or dtype.is_complex


def float_result(dtype: DType) -> DType:
    """The dtype itself where it is inexact, else the default dtype."""
    return dtype if is_inexact(dtype) else dtypes.get_default_dtype()


def sum_result(dtype: DType) -> DType:
    """Integers and booleans are summed (and multiplied up) in int64."""
    return dtype if is_inexact(dtype) else dtypes.int64


class Wide(Operation, abstract=True):
    """An operation whose reference sees 16-bit floats as float32; results are rounded once."""

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        wide = tuple(
            np.asarray(x).astype(compute_dtype(m.dtype), copy=False) if isinstance(m, Meta) else x
            for x, m in zip(inputs, metas, strict=True)
        )
        results = self.reference(*wide, **attributes)
        results = results if isinstance(results, tuple) else (results,)
        return tuple(
            np.asarray(r).astype(o.dtype.numpy, copy=False)
            for r, o in zip(results, outs, strict=True)
        )

    def stages(self, b: Any, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> Any:
        """``lower`` sees its operands as ``reference`` does; its results are rounded once."""
        wide = tuple(
            converted_view(x, self.working_dtype(m, outs)) if m is not None else x
            for x, m in zip(inputs, metas, strict=True)
        )
        made = super().stages(b, wide, attributes, metas, outs)
        if made is None:
            return None
        return tuple(in_result_dtype(b, r, o.dtype.name) for r, o in zip(made, outs, strict=True))

    def working_dtype(self, operand: Meta, outs: tuple) -> str:
        """The dtype in which ``lower`` sees an operand."""
        return str(compute_dtype(operand.dtype))


class Accumulating(Wide, abstract=True):
    """An operation that computes in its result's dtype: the sum of bools is counted in int64."""

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        compute = compute_dtype(outs[0].dtype)
        cast = tuple(np.asarray(x).astype(compute, copy=False) for x in inputs)
        return super().evaluate(cast, attributes, outs[:1] * len(inputs), outs)

    def working_dtype(self, operand: Meta, outs: tuple) -> str:
        return str(compute_dtype(outs[0].dtype))


def _lower_fold(self: Any, b: Builder, input: Any, *, dim: Any, keepdim: bool) -> Stage | None:
    return self.fold_stages(b, input, dim, keepdim)


class ReductionRules:
    """Shape rule and frame of the reference for one tensor reduced over ``dim``.

    A subclass says what becomes of the dtype (``result``) and of rows (``fold``: the last axis
    disappears). ``overloads`` says that PyTorch names the backward of "all" and of "dim" apart.
    """

    overloads: ClassVar[bool] = False
    backward_name: ClassVar[str]
    lower: ClassVar[Callable[..., Any] | None] = _lower_fold

    def result(self, dtype: DType) -> DType:
        return dtype

    def fold(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def infer(self, input: Meta, *, dim: tuple[int, ...] | None, keepdim: bool) -> Meta:
        return meta(reduced_shape(input.shape, dim, keepdim), self.result(input.dtype))

    def reference(
        self, input: np.ndarray, *, dim: tuple[int, ...] | None, keepdim: bool
    ) -> np.ndarray:
        folded = np.asarray(self.fold(rows(input, dim)))
        return folded.reshape(reduced_shape(input.shape, dim, keepdim))

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage | None:
        """``fold`` for lowering rules; None: the reference serves."""
        return None

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        if self.overloads and attributes["dim"] is not None:
            return self.backward_name[:-1] + "1"
        return self.backward_name


def check_not_empty(name: str, input: Meta, dim: tuple[int, ...] | None) -> None:
    """Reductions without a neutral element (max, argmax, median) need at least one element."""
    if dim is None:
        if input.numel == 0:
            raise OperationError.make(
                name,
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0",
                hint="Specify the reduction dim with the 'dim' argument; an empty tensor has no "
                "such value, so test numel() first",
                kind=IndexError if name.startswith("arg") else RuntimeError,
            )
        return
    for d in dim:
        if input.shape[d] == 0:
            raise OperationError.make(
                name,
                f"{name}(): Expected reduction dim {d} to have non-zero size.",
                f"got shape {list(input.shape)}",
                kind=IndexError,
            )
