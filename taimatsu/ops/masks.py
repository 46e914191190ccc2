"""Selections whose shape the values decide, flat indices, triangles and one-hot vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.dtypes import as_dtype, bool_, int64
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import REPLACE, Stage
from taimatsu.ops.base import Operation, Sample, array, booleans, composite, integers, register
from taimatsu.ops.coordinates import (
    Places,
    adding,
    count_of,
    filled_stage,
    is_empty,
    ravel,
    unravel,
)
from taimatsu.ops.filling import filled
from taimatsu.ops.truths import coordinates_of, places_of


def _check_flat(name: str, index: np.ndarray | None, numel: int) -> None:
    """IndexError for a flat index outside; negative ones count from the end."""
    if index is None or index.size == 0:
        return
    bad = (index < -numel) | (index >= numel)
    if bad.any():
        first = index[bad].reshape(-1)[0]
        raise OperationError.make(
            name,
            f"out of range: tried to access index {first} on a tensor of {numel} elements.",
            hint="the index is into the flattened tensor",
            kind=IndexError,
        )


def _outside(name: str) -> str:
    """What a compiled program says of a flat index outside."""
    return f"[{name}] out of range: tried to access an index outside of the flattened tensor"


def _need_long(name: str, index: Meta) -> None:
    if index.dtype is not int64:
        raise OperationError.make(
            name,
            f"{name}(): Expected a long tensor for index, but got {index.dtype.scalar_type}",
            hint="index.long() converts",
        )


@register
class Take(Operation):
    """Elements of the flattened input; the result has the index's shape."""

    checked = True
    saves = {"input": ("index",)}

    def __call__(self, input: Any, index: Any) -> Any:
        return self.apply(input, index, numel=input.numel())

    def infer(self, input: Meta, index: Meta, *, numel: int) -> Meta:
        _need_long("take", index)
        return meta(index.shape, input.dtype)

    def check(self, input: Any, index: Any, *, numel: int) -> None:
        _check_flat("take", index, numel)

    def reference(self, input: np.ndarray, index: np.ndarray, *, numel: int) -> np.ndarray:
        _check_flat("take", index, numel)
        return np.asarray(input.reshape(-1)[index])

    def lower(self, b: Builder, input: Any, index: Any, *, numel: int) -> Stage | None:
        if is_empty(index.shape):
            return filled_stage(b, index.shape, 0, input.dtype)
        if is_empty(input.shape):
            return None  # nothing to read: the reference refuses the indices
        places = Places(b)

        def at(*i: Index) -> Expression:
            place = places.place(index[i], count_of(input.shape), negative=True)
            return input[unravel(b, place, input.shape)]

        return places.check(b.map(index.shape, input.dtype, at), _outside("take"))

    def gradient(self, g: Any, out: Any, input: Any, index: Any, *, numel: int) -> tuple:
        return (lambda: filled(input.shape, 0, g.dtype).put(index, g, accumulate=True)), None

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 4), integers(2, 5, high=12))
        yield Sample(array(3, 4), np.array([-1, 0, -12]))


@register
class MaskedSelect(type(Take)):  # type: ignore[misc]
    """``take`` under the name that its gradient shows after ``masked_select``."""

    hidden = True
    functions = ()
    methods = ()
    name = "masked_take"
    samples = None


@register
class Put(Operation):
    """A copy of the input with ``source`` written (or added) at flat places."""

    checked = True
    inplace = True
    methods = ("put",)
    functions = ("put",)
    saves = {"input": ("index",), "source": ("index",)}

    def __call__(self, input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
        return self.apply(input, index, source, numel=input.numel(), accumulate=bool(accumulate))

    def infer(
        self, input: Meta, index: Meta, source: Meta, *, numel: int, accumulate: bool
    ) -> Meta:
        _need_long("put_", index)
        if source.dtype is not input.dtype:
            raise self.error(
                "put_(): self and source expected to have the same dtype, but got self.dtype = "
                f"{input.dtype.scalar_type} and source.dtype = {source.dtype.scalar_type}"
            )
        if source.numel != index.numel:
            raise self.error(
                "put_(): Expected source and index to have the same number of elements, but got "
                f"source.numel() = {source.numel}, index.numel() = {index.numel}",
                kind=IndexError,
            )
        return meta(input.shape, input.dtype)

    def check(self, input: Any, index: Any, source: Any, *, numel: int, accumulate: bool) -> None:
        _check_flat("put_", index, numel)

    def reference(
        self,
        input: np.ndarray,
        index: np.ndarray,
        source: np.ndarray,
        *,
        numel: int,
        accumulate: bool,
    ) -> np.ndarray:
        _check_flat("put_", index, numel)
        out = np.array(input, order="C")
        places, values = index.reshape(-1), source.reshape(-1)
        if accumulate:
            np.add.at(out.reshape(-1), places, values)
        else:
            out.reshape(-1)[places] = values
        return out

    def lower(
        self, b: Builder, input: Any, index: Any, source: Any, *, numel: int, accumulate: bool
    ) -> Stage | None:
        if is_empty(index.shape):
            return b.stage(input)
        if is_empty(input.shape):
            return None  # no place to write to: the reference refuses the indices
        places = Places(b)

        def where(i: Index) -> tuple:
            named = index[unravel(b, i, index.shape)]
            place = places.place(named, count_of(input.shape), negative=True)
            return unravel(b, place, input.shape)

        made = b.scatter(
            input,
            (count_of(index.shape),),
            where,
            lambda i: source[unravel(b, i, source.shape)],
            adding(input.dtype) if accumulate else REPLACE,
        )
        return places.check(made, _outside("put_"))

    def gradient(
        self, g: Any, out: Any, input: Any, index: Any, source: Any, *, numel: int, accumulate: bool
    ) -> tuple:
        def for_input() -> Any:
            return g if accumulate else g.put(index, filled(source.shape, 0, g.dtype))

        return for_input, None, lambda: g.take(index).reshape(source.shape)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 4), np.array([[0, 5], [-1, 3]]), array(2, 2, seed=1))
        yield Sample(array(3, 4), np.array([0, 5, 5]), array(3, seed=1), accumulate=True)


# -- masks -------------------------------------------------------------------------------------


@register
class MaskedScatter(Operation):
    """The input with the source's first elements, in order, where the mask is True."""

    inplace = True
    checked = True
    saves = {"input": ("mask",), "source": ("mask",)}

    def __call__(self, input: Any, mask: Any, source: Any) -> Any:
        if mask.dtype is not bool_:
            raise self.error(
                f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}"
            )
        input, mask = (
            input.broadcast_to(_common(input, mask)),
            mask.broadcast_to(_common(input, mask)),
        )
        return self.apply(input, mask, source)

    def infer(self, input: Meta, mask: Meta, source: Meta) -> Meta:
        if input.dtype is not source.dtype:
            raise self.error(
                "masked_scatter: expected self and source to have same dtypes but got "
                f"{input.dtype.scalar_type} and {source.dtype.scalar_type}"
            )
        return meta(input.shape, input.dtype)

    def check(self, input: Any, mask: Any, source: Any) -> None:
        if mask is not None and source is not None:
            self._check_count(mask, source.size)

    def _check_count(self, mask: np.ndarray, numel: int) -> None:
        wanted = int(np.count_nonzero(mask))
        if wanted > numel:
            raise self.error(
                "Number of elements of source < number of ones in mask",
                f"got {numel} elements for {wanted} places",
            )

    def reference(self, input: np.ndarray, mask: np.ndarray, source: np.ndarray) -> np.ndarray:
        self._check_count(mask, source.size)
        out = np.array(input, order="C")
        out[mask] = source.reshape(-1)[: np.count_nonzero(mask)]
        return out

    def lower(self, b: Builder, input: Any, mask: Any, source: Any) -> Stage | None:
        if is_empty(input.shape):
            return b.stage(input)
        if is_empty(source.shape):
            return None  # nothing to write: the reference refuses masks with places for it
        rank = _ranks(b, mask)
        size = b.index(count_of(source.shape))
        conditions = []

        def at(*i: Index) -> Expression:
            taken = rank[ravel(i, mask.shape)] - 1
            conditions.append(~mask[i] | (taken < size))
            place = b.max(b.min(taken, size - 1), 0)
            return b.where(mask[i], source[unravel(b, place, source.shape)], input[i])

        made = b.map(input.shape, input.dtype, at)
        message = "[masked_scatter] Number of elements of source < number of ones in mask"
        return b.check(made, conditions, message)

    def gradient(self, g: Any, out: Any, input: Any, mask: Any, source: Any) -> tuple:
        def for_source() -> Any:
            return MaskedCollect.apply(g, mask, shape=tuple(source.shape))

        return (lambda: g.masked_fill(mask, 0)), None, for_source

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 4), booleans(3, 4), array(12, seed=1))


@register
class MaskedCollect(Operation):
    """What the mask selects, in order, at the beginning of zeros of the given shape."""

    hidden = True
    saves = {"input": ("mask",)}

    def infer(self, input: Meta, mask: Meta, *, shape: tuple[int, ...]) -> Meta:
        return meta(shape, input.dtype)

    def reference(
        self, input: np.ndarray, mask: np.ndarray, *, shape: tuple[int, ...]
    ) -> np.ndarray:
        out = np.zeros(shape, input.dtype)
        chosen = input[mask]
        out.reshape(-1)[: chosen.size] = chosen
        return out

    def lower(self, b: Builder, input: Any, mask: Any, *, shape: tuple[int, ...]) -> Stage:
        extents = [b.extent(n) for n in shape]
        zeros = filled_stage(b, extents, 0, input.dtype)
        if is_empty(input.shape) or is_empty(extents):
            return zeros
        rank = _ranks(b, mask)
        size = b.index(count_of(extents))

        def where(*i: Index) -> tuple:
            place = b.max(b.min(rank[ravel(i, mask.shape)] - 1, size - 1), 0)
            return unravel(b, place, extents)

        def value(*i: Index) -> Expression:
            return b.where(mask[i], input[i], 0)  # adding 0 leaves a place as it is

        return b.scatter(zeros, input.shape, where, value, adding(input.dtype))

    def gradient(self, g: Any, out: Any, input: Any, mask: Any, *, shape: tuple) -> tuple:
        return (lambda: filled(input.shape, 0, g.dtype).masked_scatter(mask, g)), None


def _ranks(b: Builder, mask: Any) -> Stage:
    """How many elements up to each one, in row-major order, the mask selects (a vector)."""
    size = count_of(mask.shape)
    return b.scan(
        "add", (size,), 0, "int64", lambda i: b.cast(mask[unravel(b, i, mask.shape)], "int64")
    )


def _common(a: Any, b: Any) -> tuple[int, ...]:
    from taimatsu.shapes import broadcast_shapes

    return tuple(broadcast_shapes(a.shape, b.shape))


@composite(
    "masked_select",
    samples=lambda: iter(
        [
            Sample(array(3, 4), booleans(3, 4)),
            Sample(array(3, 4), booleans(4)),
        ]
    ),
)
def masked_select(input: Any, mask: Any) -> Any:
    """The elements where ``mask`` (bool, broadcast with the input) is True, as a vector."""
    if mask.dtype is not bool_:
        raise OperationError.make(
            "masked_select",
            "masked_select: expected BoolTensor for mask",
            f"got {mask.dtype!r}",
            "mask.bool() converts",
        )
    shape = _common(input, mask)
    places = np.flatnonzero(np.broadcast_to(recorder.value(mask), shape))
    flat = input.expand(shape).reshape(-1)
    return MaskedSelect.apply(flat, recorder.constant(places), numel=flat.numel())


@composite("nonzero", samples=lambda: iter([Sample(booleans(3, 4)), Sample(booleans(3))]))
def nonzero(input: Any, *, out: Any = None, as_tuple: bool = False) -> Any:
    """Where the input is not zero: int64 (count, dimensions), or one vector per dimension."""
    values = np.asarray(recorder.value(input))
    if as_tuple:
        return tuple(recorder.constant(p) for p in coordinates_of(np.atleast_1d(values)))
    return recorder.constant(places_of(values))


@composite("argwhere", samples=lambda: iter([Sample(booleans(3, 4))]))
def argwhere(input: Any) -> Any:
    """Where the input is not zero: int64 (count, dimensions)."""
    return nonzero(input)


# -- triangles ---------------------------------------------------------------------------------


class Triangle(Operation, abstract=True):
    """Base of tril and triu: matrices (..., H, W) with zeros on one side of a diagonal."""

    def keeps(self, above: Expression, diagonal: int) -> Expression:
        """Whether an element stays that lies ``above`` the main diagonal by so many steps."""
        raise NotImplementedError

    def lower(self, b: Builder, input: Any, *, diagonal: int) -> Stage:
        def at(*i: Index) -> Expression:
            return b.where(self.keeps(b.index(i[-1] - i[-2]), diagonal), input[i], 0)

        return b.map(input.shape, input.dtype, at)

    def __call__(self, input: Any, diagonal: int = 0) -> Any:
        return self.apply(input, diagonal=int(diagonal))

    def infer(self, input: Meta, *, diagonal: int) -> Meta:
        if input.ndim < 2:
            raise self.error(
                f"{self.name}: input tensor must have at least 2 dimensions",
                f"got shape {list(input.shape)}",
            )
        return meta(input.shape, input.dtype)

    def gradient(self, g: Any, out: Any, input: Any, *, diagonal: int) -> Any:
        return self.apply(g, diagonal=diagonal)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(4, 3), dtypes=("float32", "int64", "bool", "bfloat16"))
        yield Sample(array(2, 3, 4), 1)
        yield Sample(array(3, 4), -1)


def _below(shape: tuple[int, ...], diagonal: int) -> np.ndarray:
    """True on and below a diagonal of matrices of this shape."""
    return np.tri(shape[-2], shape[-1], diagonal, dtype=np.bool_)


@register
class Tril(Triangle):
    """The part on and below a diagonal; ``diagonal`` counts upwards from the main one."""

    inplace = True

    def reference(self, input: np.ndarray, *, diagonal: int) -> np.ndarray:
        return np.where(_below(input.shape, diagonal), input, input.dtype.type(0))

    def keeps(self, above: Expression, diagonal: int) -> Expression:
        return above <= diagonal


@register
class Triu(Triangle):
    """The part on and above a diagonal; ``diagonal`` counts upwards from the main one."""

    inplace = True

    def reference(self, input: np.ndarray, *, diagonal: int) -> np.ndarray:
        return np.where(_below(input.shape, diagonal - 1), input.dtype.type(0), input)

    def keeps(self, above: Expression, diagonal: int) -> Expression:
        return above >= diagonal


@composite("tril_indices", methods=(), samples=lambda: iter([Sample(3, 4, 1)]))
def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: Any = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """Rows and columns (2, count) of the elements on and below a diagonal, row by row."""
    return _triangle_indices("tril_indices", row, col, dtype, np.tril_indices(row, offset, col))


@composite("triu_indices", methods=(), samples=lambda: iter([Sample(3, 4, 1)]))
def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: Any = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """Rows and columns (2, count) of the elements on and above a diagonal, row by row."""
    return _triangle_indices("triu_indices", row, col, dtype, np.triu_indices(row, offset, col))


def _triangle_indices(name: str, row: int, col: int, dtype: Any, places: tuple) -> Any:
    if row < 0 or col < 0:
        raise OperationError.make(name, "row and col must be non-negative", f"got {row} and {col}")
    return recorder.constant(np.stack(places).astype(as_dtype(dtype, int64).numpy))


# -- one-hot -----------------------------------------------------------------------------------


@register
class OneHot(Operation):
    """Class indices (int64) -> int64 vectors with a one at the class, one dimension more."""

    hidden = True
    checked = True
    differentiable = False

    def infer(self, input: Meta, *, classes: int) -> Meta:
        if input.dtype is not int64:
            raise self.error(
                "one_hot is only applicable to index tensor of type LongTensor.",
                f"got {input.dtype!r}",
                "x.long() converts",
            )
        return meta((*input.shape, classes), int64)

    def check(self, input: np.ndarray | None, *, classes: int) -> None:
        if input is None or input.size == 0 or input.dtype != np.int64:
            return
        if input.min() < 0:
            raise self.error("Class values must be non-negative.", f"got {input.min()}")
        if input.max() >= classes:
            raise self.error(
                "Class values must be smaller than num_classes.",
                f"got {input.max()} with num_classes={classes}",
                "classes count from 0; num_classes is one more than the largest label",
            )

    def reference(self, input: np.ndarray, *, classes: int) -> np.ndarray:
        self.check(input, classes=classes)
        return (input[..., None] == np.arange(classes)).astype(np.int64)

    def lower(self, b: Builder, input: Any, *, classes: int) -> Stage | None:
        if classes == 0 and not is_empty(input.shape):
            return None  # there is no class: the reference refuses the indices
        conditions = []

        def at(*i: Index) -> Expression:
            conditions.append(b.inside(input[i[:-1]], classes))
            return b.cast(input[i[:-1]].eq(b.index(i[-1])), "int64")

        made = b.map((*input.shape, classes), "int64", at)
        return b.check(
            made, conditions, "[one_hot] Class values must be from 0 to num_classes - 1."
        )


@composite(
    "nn.functional.one_hot",
    samples=lambda: iter(
        [
            Sample(integers(3, 2, high=4), 5),
            Sample(np.array([0, 2, 1])),
        ]
    ),
)
def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Class indices (...) -> int64 (..., num_classes) with a single one; -1 takes the largest."""
    if tensor.dtype is not int64:
        num_classes = 0  # the rule refuses it
    elif num_classes == -1:
        values = recorder.value(tensor)
        if values.size == 0:
            raise OperationError.make(
                "one_hot", "Can not infer total number of classes from empty tensor."
            )
        num_classes = int(values.max()) + 1
    elif num_classes < 1:
        raise OperationError.make("one_hot", "num_classes should be positive", f"got {num_classes}")
    return OneHot.apply(tensor, classes=max(num_classes, 0))
