"""Order: sort, topk, kthvalue, unique, and search in sorted sequences."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder, return_types
from taimatsu.dtypes import dtype as DType
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import Operation, Sample, array, composite, integers, register
from taimatsu.ops.coordinates import (
    Coordinate,
    Places,
    converted,
    count_of,
    element,
    filled_stage,
    is_empty,
    unravel,
)
from taimatsu.ops.lines import distinct, in_order, place_of_kth
from taimatsu.ops.reducing import Wide, numpy_names, one_axis
from taimatsu.ops.selecting import Choice
from taimatsu.shapes import normalize_axis


class Ordering(Wide, abstract=True):
    """Operations that return some elements along ``dim`` in an order: (values, indices)."""

    outputs = 2
    saves = ("out[1]",)

    # No lowering: stages have no sort, and NumPy's is a good one (ops/lines.py).

    def check_ordered(self, dtype: DType) -> None:
        if dtype.is_complex:
            name = "Sort" if self.name == "sort" else self.name
            raise self.error(
                f"{name} does not support complex dtypes on CPU",
                dtype.scalar_type,
                "x.abs() or x.real can be compared",
            )

    def gradient(self, g: tuple, out: tuple, input: Meta, *, dim: int, **options: Any) -> Any:
        if g[0] is None or input.ndim == 0:
            return g[0]
        return g[0].new_zeros(input.shape).scatter(dim, out[1], g[0])


@register
class Sort(Ordering):
    """Sorted along ``dim``: (values, indices). Always stable; NaN is the largest element."""

    @numpy_names
    def __call__(
        self,
        input: Any,
        dim: int = -1,
        descending: bool = False,
        *,
        stable: bool | None = None,
    ) -> Any:
        axis = normalize_axis(dim, input.ndim)
        return return_types.sort(self.apply(input, dim=axis, descending=bool(descending)))

    def infer(self, input: Meta, *, dim: int, descending: bool) -> tuple[Meta, Meta]:
        self.check_ordered(input.dtype)
        return meta(input.shape, input.dtype), meta(input.shape, dtypes.int64)

    def reference(
        self, input: np.ndarray, *, dim: int, descending: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        if input.ndim == 0:
            return input.copy(), np.zeros((), np.int64)
        return in_order(input, dim, descending)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 4), dtypes=("float32", "float64", "float16", "bfloat16"))
        yield Sample(array(2, 3, 4), 1, True)
        yield Sample(array(), 0)
        yield Sample(array(0, 3))
        yield Sample(integers(3, 8, high=4), dim=1, stable=True, descending=True)
        yield Sample(np.array([2.0, np.nan, 1.0, np.nan]), descending=True, grad=False)


@composite("argsort", samples=lambda: iter([Sample(array(3, 4)), Sample(array(3, 4), 0, True)]))
@numpy_names
def argsort(input: Any, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """The indices that sort along ``dim`` (equal elements keep their order)."""
    return input.sort(dim, descending)[1]


@composite("msort", samples=lambda: iter([Sample(array(3, 4))]))
def msort(input: Any) -> Any:
    """Sorted along the first dimension."""
    return input.sort(0)[0]


@register
class Topk(Ordering):
    """The ``k`` largest (or smallest) elements along ``dim``, in order: (values, indices).

    Of equal elements the first are taken; NaN is the largest. They come in order even if
    ``sorted`` does not ask for it. Raises RuntimeError when there are fewer than ``k``.
    """

    @numpy_names
    def __call__(
        self, input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> Any:
        axis = normalize_axis(dim, input.ndim)
        made = self.apply(input, k=operator.index(k), dim=axis, largest=bool(largest))
        return return_types.topk(made)

    def infer(self, input: Meta, *, k: int, dim: int, largest: bool) -> tuple[Meta, Meta]:
        self.check_ordered(input.dtype)
        extent = input.shape[dim] if input.ndim else 1
        if not 0 <= k <= extent:
            raise self.error(
                "selected index k out of range",
                f"k={k} along dimension {dim} of extent {extent}",
                f"k is at most {extent} here; dim= chooses another dimension",
            )
        shape = tuple(k if d == dim else n for d, n in enumerate(input.shape))
        return meta(shape, input.dtype), meta(shape, dtypes.int64)

    def reference(
        self, input: np.ndarray, *, k: int, dim: int, largest: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        if input.ndim == 0:
            return input.copy(), np.zeros((), np.int64)
        return in_order(input, dim, largest, k)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 6), 2, dtypes=("float32", "float64", "float16"))
        yield Sample(array(3, 6), 4, 0 - 1, False)
        yield Sample(array(4, 3), k=2, dim=0, largest=True, sorted=False)
        yield Sample(array(), 1)


@register
class KthvalueDim(Choice):
    """The k-th smallest element along one dimension, and its index."""

    backward_name = "KthvalueBackward0"
    kernel = "kthvalue_cpu"
    public = "kthvalue"

    def infer(
        self, input: Meta, *, dim: tuple[int, ...], keepdim: bool, k: int
    ) -> tuple[Meta, Meta]:
        made = super().infer(input, dim=dim, keepdim=keepdim)
        extent = input.shape[dim[0]] if dim else 1
        if not 1 <= k <= extent:
            raise self.error(
                f"kthvalue(): selected number k out of range for dimension {dim[0] if dim else 0}",
                f"k={k} of {extent} elements; k counts from 1",
            )
        return made

    def pick(self, x: np.ndarray, k: int) -> np.ndarray:
        return place_of_kth(x, k - 1)


def _kthvalue_samples() -> Iterator[Sample]:
    yield Sample(array(3, 6), 2)
    yield Sample(array(4, 3), 3, 0, True)
    yield Sample(array(), 1)


@composite("kthvalue", samples=_kthvalue_samples)
@numpy_names
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The ``k``-th smallest element along ``dim`` (from 1): (values, indices)."""
    axes = one_axis(dim, input.ndim)
    made = KthvalueDim.apply(input, dim=axes, keepdim=bool(keepdim), k=operator.index(k))
    return return_types.kthvalue(made)


# -- unique ----------------------------------------------------------------------------------


def _unique_samples() -> Iterator[Sample]:
    yield Sample(integers(3, 6, high=5))
    yield Sample(integers(3, 6, high=5), return_inverse=True, return_counts=True)
    yield Sample(integers(6, 2, high=2), dim=0, return_inverse=True)


def _unique_consecutive_samples() -> Iterator[Sample]:
    yield Sample(integers(3, 6, high=2))
    yield Sample(integers(3, 6, high=2), return_inverse=True, return_counts=True)
    yield Sample(integers(8, 1, high=2), dim=0, return_inverse=True)


def _unique_results(parts: list[Any], inverse: bool, counts: bool) -> Any:
    """The values alone, or a tuple with what else was asked for."""
    wanted = [True, inverse, counts]
    made = [recorder.constant(p) for p, w in zip(parts, wanted, strict=True) if w]
    return made[0] if len(made) == 1 else tuple(made)


@composite("unique", samples=_unique_samples)
@numpy_names
def unique(
    input: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements, or slices along ``dim``; in ascending order in any case.

    With ``return_inverse`` also where each element of the input went, with ``return_counts`` how
    often each occurs. The number of results depends on the values, so pending work is carried out.
    """
    x = recorder.value(input)
    axis = None if dim is None else normalize_axis(dim, input.ndim)
    if axis is None and x.size and x.dtype.kind != "c":
        values, inverse, counts = distinct(x.reshape(-1), return_inverse)
    else:
        values, inverse, counts = np.unique(
            x, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
        )
    if inverse is not None:
        inverse = inverse.reshape(x.shape if axis is None else -1)
    return _unique_results([values, inverse, counts], return_inverse, return_counts)


@composite("unique_consecutive", samples=_unique_consecutive_samples)
@numpy_names
def unique_consecutive(
    input: Any,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The first of each run of equal elements, or of equal slices along ``dim``."""
    x = recorder.value(input)
    lines = x.reshape(-1) if dim is None else np.moveaxis(x, normalize_axis(dim, x.ndim), 0)
    n = len(lines)
    starts = np.ones(n, bool)
    if n > 1:
        changes = lines[1:] != lines[:-1]
        starts[1:] = changes.reshape(n - 1, -1).any(1)
    values = lines[starts]
    if dim is not None:
        values = np.moveaxis(values, 0, normalize_axis(dim, x.ndim))
    inverse = np.cumsum(starts) - 1
    if dim is None:
        inverse = inverse.reshape(x.shape)
    counts = np.diff(np.append(np.flatnonzero(starts), n))
    return _unique_results([values, inverse, counts], return_inverse, return_counts)


# -- search ----------------------------------------------------------------------------------


def _searchsorted_samples() -> Iterator[Sample]:
    sequence = np.array([1.0, 3.0, 5.0, 7.0])
    yield Sample(sequence, array(3, 4, low=0, high=8))
    yield Sample(sequence, 3.0)
    yield Sample(sequence, np.array([1.0, 3.0, np.nan]), right=True, out_int32=True)
    yield Sample(np.sort(array(3, 5), -1), array(3, 2, seed=1), side="right")
    yield Sample(np.array([5, 1, 3]), np.array([1, 4]), sorter=np.array([1, 2, 0]))


@register
class Searchsorted(Operation):
    """Where each value would be inserted to keep the last dimension of a sequence sorted.

    A 1-d ``sorted_sequence`` serves all values, otherwise its leading dimensions must be those of
    ``input``. ``right`` (or ``side="right"``) goes behind equal elements. ``sorter`` gives the
    order of an unsorted sequence.
    """

    differentiable = False
    methods = ()
    static_scalars = True
    samples = staticmethod(_searchsorted_samples)

    def __call__(
        self,
        sorted_sequence: Any,
        input: Any,
        *,
        out_int32: bool = False,
        right: bool = False,
        side: str | None = None,
        sorter: Any = None,
    ) -> Any:
        if side not in (None, "left", "right"):
            raise self.error("torch.searchsorted(): side can only be 'left' or 'right'", repr(side))
        if side == "left" and right:
            raise self.error(
                "torch.searchsorted(): side and right can't be set to opposites",
                "side of left while right was True",
            )
        right = right or side == "right"
        return self.apply(
            sorted_sequence, input, sorter, right=bool(right), out_int32=bool(out_int32)
        )

    def infer(
        self, sorted_sequence: Meta, input: Any, sorter: Meta | None, *, right, out_int32
    ) -> Meta:
        kind = dtypes.int32 if out_int32 else dtypes.int64
        shape = input.shape if isinstance(input, Meta) else ()
        sequence = sorted_sequence.shape
        if len(sequence) != 1 and tuple(sequence[:-1]) != tuple(shape[:-1]):
            raise self.error(
                "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 "
                "dimensions of boundaries tensor and input value tensor must match, but we got "
                f"boundaries tensor {list(sequence)} and input value tensor {list(shape)}"
            )
        if isinstance(input, Meta) and input.ndim and input.dtype is not sorted_sequence.dtype:
            raise self.error(
                "torch.searchsorted(): input value tensor and boundaries tensor should have same "
                f"dtype, but got boundaries tensor dtype {sorted_sequence.dtype.scalar_type} "
                f"and input value tensor dtype {input.dtype.scalar_type}"
            )
        if sorter is not None and sorter.shape != sequence:
            raise self.error(
                "torch.searchsorted(): boundary and sorter must have the same size, but got "
                f"boundary tensor {list(sequence)} and got sorter tensor {list(sorter.shape)}"
            )
        return meta(shape, kind)

    def reference(
        self, sorted_sequence: np.ndarray, input: Any, sorter: Any, *, right, out_int32
    ) -> np.ndarray:
        sequence = sorted_sequence
        if sorter is not None:
            sequence = np.take_along_axis(sequence, sorter, -1)
        side: Any = "right" if right else "left"
        kind = np.int32 if out_int32 else np.int64
        values = np.asarray(input)
        if sequence.ndim == 1:
            return np.asarray(np.searchsorted(sequence, values, side)).astype(kind)
        found = np.empty(values.shape, kind)
        for place in np.ndindex(*sequence.shape[:-1]):
            found[place] = np.searchsorted(sequence[place], values[place], side)
        return found

    def lower(
        self, b: Builder, sorted_sequence: Any, input: Any, sorter: Any, *, right, out_int32
    ) -> Stage:
        """A binary search in as many steps as the sequence's length has bits."""
        kind = "int32" if out_int32 else "int64"
        shape = input.shape if isinstance(input, View) else ()
        if is_empty(sorted_sequence.shape):
            return filled_stage(b, shape, 0, kind)
        compute = _common_dtype(sorted_sequence, input)
        n = b.known(sorted_sequence.shape[-1])
        places = Places(b)

        def at(*i: Index) -> Expression:
            value = element(b, input, i, compute)
            lines = i[:-1] if len(sorted_sequence.shape) > 1 else ()

            def is_before(place: Coordinate) -> Expression:
                if sorter is not None:
                    place = places.place(sorter[(*lines, place)], n)
                found = b.cast(sorted_sequence[(*lines, place)], compute)
                return ~_is_less(b, value, found) if right else _is_less(b, found, value)

            return b.cast(_elements_before(b, n, is_before), kind)

        message = "[searchsorted] an index in sorter is out of range"
        return places.check(b.map(shape, kind, at), message)


def _common_dtype(*operands: Any) -> str:
    """The dtype in which arrays and numbers of several dtypes are compared."""
    names = set()
    for x in operands:
        number = "float64" if isinstance(x, float) else "int64"
        names.add(x.dtype if isinstance(x, (View, Expression)) else number)
    if names == {"bool"}:
        return "uint8"
    if len(names) == 1:
        return names.pop()
    return "float64" if names & FLOATS else "int64"


def _is_less(b: Builder, x: Expression, y: Expression) -> Expression:
    """The order in which NaN is the largest."""
    if x.dtype not in FLOATS:
        return x < y
    return (x < y) | (b.isnan(y) & ~b.isnan(x))


def _elements_before(
    b: Builder, n: int, is_before: Callable[[Expression], Expression]
) -> Expression:
    """How many of ``n`` elements, the first ones, are before something."""
    count = b.constant(0, "int64")
    step = 1 << (n.bit_length() - 1)
    while step:
        further = count + step
        last = b.min(further - 1, n - 1)
        count = b.where((further <= n) & is_before(last), further, count)
        step //= 2
    return count


def _bucketize_samples() -> Iterator[Sample]:
    boundaries = np.array([1.0, 3.0, 5.0])
    yield Sample(array(3, 4, low=0, high=8), boundaries)
    yield Sample(3.0, boundaries, right=True, out_int32=True)


@composite("bucketize", methods=(), samples=_bucketize_samples)
def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """Between which ``boundaries`` (1-d, ascending) each value lies."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return Searchsorted(boundaries, input, out_int32=out_int32, right=right)


_COMPARED = 64  # elements that each one is compared with; for more it is faster to sort first


def _isin_samples() -> Iterator[Sample]:
    yield Sample(integers(3, 4), integers(5, seed=1))
    yield Sample(integers(3, 4), 3, invert=True)


@register
class Isin(Operation):
    """Which ``elements`` are among ``test_elements`` (``invert``: which are not)."""

    differentiable = False
    methods = ()
    samples = staticmethod(_isin_samples)

    def __call__(
        self,
        elements: Any,
        test_elements: Any,
        *,
        assume_unique: bool = False,
        invert: bool = False,
    ) -> Any:
        return self.apply(elements, test_elements, invert=bool(invert))

    def infer(self, elements: Any, test_elements: Any, *, invert: bool) -> Meta:
        shape = elements.shape if isinstance(elements, Meta) else ()
        return meta(shape, dtypes.bool_)

    def reference(self, elements: Any, test_elements: Any, *, invert: bool) -> np.ndarray:
        return np.asarray(np.isin(elements, test_elements, invert=invert))

    def lower(self, b: Builder, elements: Any, test_elements: Any, *, invert: bool) -> Stage | None:
        tests = test_elements if isinstance(test_elements, View) else None
        count = 1 if tests is None else b.known(count_of(tests.shape))
        if count > _COMPARED:
            return None  # the reference sorts
        compute = _common_dtype(elements, test_elements)
        shape = elements.shape if isinstance(elements, View) else ()

        def among(i: tuple[Index, ...], r: tuple[Index, ...]) -> Expression:
            test = test_elements if tests is None else tests[unravel(b, r[0], tests.shape)]
            return element(b, elements, i, compute).eq(converted(b, test, compute))

        found = b.reduce("or", shape, (count,), "bool", among)
        return b.map(shape, "bool", lambda *i: ~found[i]) if invert else found
