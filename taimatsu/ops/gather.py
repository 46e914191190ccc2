"""gather and the scatters: elements chosen, or written, by an index tensor along one dimension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.dtypes import dtype as DType
from taimatsu.dtypes import int32, int64
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.filling import filled
from taimatsu.ops.reducing import Wide
from taimatsu.shapes import broadcast_shapes, normalize_axis

_REDUCTIONS = {
    "sum": (np.add, 0),
    "add": (np.add, 0),
    "prod": (np.multiply, 1),
    "multiply": (np.multiply, 1),
    "mean": (np.add, 0),
    "amax": (np.maximum, None),
    "amin": (np.minimum, None),
}


def check_index_type(name: str, index: Any, kinds: tuple[DType, ...] = (int32, int64)) -> None:
    """RuntimeError for an index tensor of another dtype."""
    if index.dtype not in kinds:
        words = "/".join(k.name for k in kinds)
        raise OperationError.make(
            name,
            f"{name}(): Expected dtype {words} for index",
            f"got {index.dtype!r}",
            "index.long() converts whole numbers; a mask selects with x[mask] instead",
        )


# PyTorch's exception type for an index out of range differs between its kernels.
_RUNTIME = frozenset(("gather", "scatter", "scatter_add", "scatter_reduce"))


def check_bounds(
    name: str, index: np.ndarray | None, dim: int, size: int, negative: bool = False
) -> None:
    """IndexError for an index outside the dimension; None (not known yet) passes."""
    if index is None or index.size == 0:
        return
    bad = (index < (-size if negative else 0)) | (index >= size)
    if bad.any():
        raise OperationError.make(
            name,
            f"index {index[bad].reshape(-1)[0]} is out of bounds for dimension {dim} "
            f"with size {size}",
            hint=f"indices run from 0 to {size - 1}",
            kind=RuntimeError if name in _RUNTIME else IndexError,
        )


def flat_places(shape: tuple[int, ...], index: np.ndarray, dim: int) -> np.ndarray:
    """Where in a row-major array of this shape the indexed elements stand."""
    places: Any = 0
    for d, extent in enumerate(shape):
        if d == dim:
            along: Any = index.astype(np.int64, copy=False)
        else:
            view = [1] * len(shape)
            view[d] = index.shape[d]
            along = np.arange(index.shape[d]).reshape(view)
        places = places * extent + along
    return np.broadcast_to(places, index.shape)


class AlongDim(Wide, abstract=True):
    """Base: an index of as many dimensions as the input; ``size`` is the input's extent there."""

    hidden = True
    checked = True

    def check(self, input: Any, index: Any, *others: Any, dim: int, size: int, **rest: Any) -> None:
        check_bounds(self.name, index, dim, size)

    def check_shapes(self, input: Meta, index: Meta, src: Any, dim: int) -> None:
        """RuntimeError where the index is larger than the input or the source."""
        if index.numel:  # an empty index may have any dtype
            check_index_type(self.name, index)
        tensors = [input] + ([src] if isinstance(src, Meta) else [])
        if index.numel == 0:
            return
        for word, t in zip(("input", "src"), tensors, strict=False):
            if t.ndim != index.ndim:
                raise self.error(
                    f"Index tensor must have the same number of dimensions as {word} tensor",
                    f"got index {list(index.shape)} and {word} {list(t.shape)}",
                    "index.unsqueeze(dim) gives an index one dimension more",
                )
        fits = all(
            i <= n
            for d, (i, n) in enumerate(zip(index.shape, input.shape, strict=True))
            if d != dim
        )
        if not fits and not isinstance(src, Meta):
            raise self.error(
                f"Size does not match: expected index {list(index.shape)} to be no larger than "
                f"self {list(input.shape)} apart from dimension {dim}"
            )
        if isinstance(src, Meta):
            fits = fits and all(i <= n for i, n in zip(index.shape, src.shape, strict=True))
            if not fits:
                raise self.error(
                    f"Expected index {list(index.shape)} to be no larger than self "
                    f"{list(input.shape)} apart from dimension {dim} and to be no larger size than "
                    f"src {list(src.shape)}"
                )
            if src.dtype is not input.dtype:
                raise self.error(
                    f"{self.name}(): Expected self.dtype to be equal to src.dtype",
                    f"got {input.dtype!r} and {src.dtype!r}",
                    "src.to(x.dtype) converts",
                )


@register
class Gather(AlongDim):
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; shaped as the index."""

    saves = {"input": ("index",)}

    def infer(self, input: Meta, index: Meta, *, dim: int, size: int) -> Meta:
        self.check_shapes(input, index, None, dim)
        return meta(index.shape, input.dtype)

    def reference(self, input: np.ndarray, index: np.ndarray, *, dim: int, size: int) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        if index.size == 0:
            return np.empty(index.shape, input.dtype)
        return input.reshape(-1)[flat_places(input.shape, index, dim)]

    def gradient(self, g: Any, out: Any, input: Any, index: Any, *, dim: int, size: int) -> tuple:
        return (lambda: filled(input.shape, 0, g.dtype).scatter_add(dim, index, g)), None


@register
class Scatter(AlongDim):
    """A copy of the input with ``src`` (a tensor or a number) written where the index says.

    Where places repeat, the last one written stays. ``reduce`` combines instead: add, multiply.
    """

    saves = {"input": ("index",), "src": ("index",)}

    def infer(
        self, input: Meta, index: Meta, src: Any, *, dim: int, size: int, reduce: str | None
    ) -> Meta:
        self.check_shapes(input, index, src, dim)
        return meta(input.shape, input.dtype)

    def reference(
        self,
        input: np.ndarray,
        index: np.ndarray,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: str | None,
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        if index.size == 0:
            return out
        values, places = _source(src, index, input.dtype), flat_places(input.shape, index, dim)
        if reduce is None:
            out.reshape(-1)[places.reshape(-1)] = values.reshape(-1)
        else:
            _REDUCTIONS[reduce][0].at(out.reshape(-1), places.reshape(-1), values.reshape(-1))
        return out

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        index: Any,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: Any,
    ) -> tuple:
        if reduce == "multiply":
            raise self.error(
                "the gradient of scatter with reduce='multiply' is not implemented",
                hint="use scatter_reduce(dim, index, src, 'prod')",
            )

        def for_src() -> Any:
            return _padded_like(g.gather(dim, index), src)

        for_input = g if reduce == "add" else (lambda: g.scatter(dim, index, 0))
        return for_input, None, for_src if hasattr(src, "shape") else None

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"ScatterBackward{0 if hasattr(inputs[2], 'shape') else 1}"


@register
class ScatterAdd(AlongDim):
    """A copy of the input with ``src`` added where the index says."""

    saves = {"input": (), "src": ("index",)}

    def infer(self, input: Meta, index: Meta, src: Meta, *, dim: int, size: int) -> Meta:
        self.check_shapes(input, index, src, dim)
        return meta(input.shape, input.dtype)

    def reference(
        self, input: np.ndarray, index: np.ndarray, src: np.ndarray, *, dim: int, size: int
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        if index.size:
            places = flat_places(input.shape, index, dim).reshape(-1)
            np.add.at(out.reshape(-1), places, _source(src, index, input.dtype).reshape(-1))
        return out

    def gradient(
        self, g: Any, out: Any, input: Any, index: Any, src: Any, *, dim: int, size: int
    ) -> tuple:
        return g, None, lambda: _padded_like(g.gather(dim, index), src)


@register
class ScatterReduce(AlongDim):
    """The input with ``src`` combined into it by sum, prod, mean, amax or amin.

    Without ``include_self`` the input's own elements take no part where anything is written.
    """

    saves = {
        "input": ("input", "index", "src", "out"),
        "src": ("input", "index", "src", "out"),
    }

    def infer(
        self,
        input: Meta,
        index: Meta,
        src: Meta,
        *,
        dim: int,
        size: int,
        reduce: str,
        include_self: bool,
    ) -> Meta:
        self.check_shapes(input, index, src, dim)
        return meta(input.shape, input.dtype)

    def reference(
        self,
        input: np.ndarray,
        index: np.ndarray,
        src: np.ndarray,
        *,
        dim: int,
        size: int,
        reduce: str,
        include_self: bool,
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        if index.size == 0:
            return out
        flat, places = out.reshape(-1), flat_places(input.shape, index, dim).reshape(-1)
        values = _source(src, index, input.dtype).reshape(-1)
        combine, neutral = _REDUCTIONS[reduce]
        if not include_self:
            flat[places] = _extreme(input.dtype, reduce) if neutral is None else neutral
        combine.at(flat, places, values)
        if reduce == "mean":
            count = np.bincount(places, minlength=flat.size) + include_self
            count = np.maximum(count, 1).astype(flat.dtype)
            flat[:] = flat // count if flat.dtype.kind in "iu" else flat / count
        return out

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        index: Any,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: str,
        include_self: bool,
    ) -> tuple:
        if reduce in ("sum", "mean"):
            share = g
            if reduce == "mean":
                ones = filled(src.shape, 1, g.dtype)
                base = (
                    filled(input.shape, 1, g.dtype)
                    if include_self
                    else filled(input.shape, 0, g.dtype)
                )
                share = g / base.scatter_add(dim, index, ones).clamp(min=1)
            for_self, for_src = share, share.gather(dim, index)
        elif reduce == "prod":
            for_self, for_src = self._prod_gradient(g, out, input, index, src, dim, include_self)
        else:
            chosen_self = (input == out).to(g.dtype)
            chosen_src = (_cut(src, index) == out.gather(dim, index)).to(g.dtype)
            count = chosen_self.scatter_add(dim, index, chosen_src)
            share = g / count
            for_self = chosen_self * share
            for_src = chosen_src * share.gather(dim, index)
        if not include_self:
            for_self = for_self.scatter(dim, index, 0)
        return for_self, None, _padded_like(for_src, src)

    def _prod_gradient(
        self, g: Any, out: Any, input: Any, index: Any, src: Any, dim: int, include_self: bool
    ) -> tuple:
        """Products of the other factors: dividing by zero is avoided by taking zeros apart."""
        src = _cut(src, index)
        safe_self = input.masked_fill(input == 0, 1)
        without_self = safe_self.scatter_reduce(dim, index, src, "prod", include_self=include_self)
        for_self = g * without_self / safe_self
        zero = src == 0
        zeros = filled(input.shape, 0, g.dtype).scatter_add(dim, index, zero.to(g.dtype))
        single = zero & (zeros.gather(dim, index) == 1)
        without_zero = input.scatter_reduce(
            dim, index, src.masked_fill(single, 1), "prod", include_self=include_self
        )
        beside_zero = (g * without_zero).gather(dim, index)
        ordinary = (g * out).gather(dim, index) / src.masked_fill(zero, 1)
        return for_self, beside_zero.where(single, ordinary)


def _source(src: Any, index: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The part of the source that the index covers; a number stands everywhere."""
    if isinstance(src, np.ndarray) and src.ndim == index.ndim:
        return src[tuple(map(slice, index.shape))]
    return np.broadcast_to(np.asarray(src).astype(dtype), index.shape)


def _extreme(dtype: np.dtype, reduce: str) -> Any:
    if dtype.kind == "b":
        return reduce == "amin"
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return info.min if reduce == "amax" else info.max
    return -np.inf if reduce == "amax" else np.inf


def _cut(src: Any, index: Any) -> Any:
    """The source narrowed to the index's shape."""
    for d, extent in enumerate(index.shape):
        if src.shape[d] != extent:
            src = src.narrow(d, 0, extent)
    return src


def _padded_like(g: Any, src: Any) -> Any:
    """A gradient of the part of ``src`` that was read, with zeros for the rest."""
    from taimatsu.ops.padding import ConstantPad

    if tuple(g.shape) == tuple(src.shape):
        return g
    pairs = tuple((0, n - m) for n, m in zip(src.shape, g.shape, strict=True))
    return ConstantPad.apply(g, pairs=pairs, value=0)


# -- public functions --------------------------------------------------------------------------


def _at_least_1d(*tensors: Any) -> list:
    return [t.unsqueeze(0) if getattr(t, "ndim", 1) == 0 else t for t in tensors]


def _as(out: Any, shape: tuple[int, ...]) -> Any:
    """The result for a 0-d input, which was taken as a vector of one element."""
    return out if out.ndim == len(shape) else out.reshape(shape)


def _place(input: Any, dim: int) -> dict[str, int]:
    dim = normalize_axis(dim, input.ndim)
    return {"dim": dim, "size": input.shape[dim] if input.ndim else 1}


def _gather_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), 1, integers(3, 2, high=4))
    yield Sample(array(3, 4), 0, integers(5, 2, high=3))
    yield Sample(array(2, 3, 4), -1, integers(1, 2, 6, high=4))
    yield Sample(array(), 0, np.array([0, 0]))


@composite("gather", samples=_gather_samples)
def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """out[i][j] = input[i][index[i][j]] for ``dim`` 1, and so on; shaped as ``index`` (int64).

    The index may be smaller than the input in the other dimensions. Raises IndexError outside.
    """
    place = _place(input, dim)
    scalar = index.ndim == 0
    input, index = _at_least_1d(input, index)
    out = Gather.apply(input, index, **place)
    return out.squeeze(0) if scalar else out


@composite(
    "take_along_dim",
    samples=lambda: iter(
        [
            Sample(array(3, 4), integers(3, 1, high=4), 1),
            Sample(array(3, 4), integers(5, high=12)),
        ]
    ),
)
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """As ``gather``, with input and index broadcast outside ``dim``; without it, from flat."""
    if indices.dtype is not int64:
        raise OperationError.make(
            "take_along_dim",
            "torch.take_along_dim(): dtype of indices should be Long but got "
            f"{indices.dtype.scalar_type}",
            hint="indices.long() converts",
        )
    if dim is None:
        return gather(input.reshape(-1), 0, indices.reshape(-1))
    if input.ndim != indices.ndim:
        raise OperationError.make(
            "take_along_dim",
            "torch.take_along_dim(): input and indices should have the same number of dimensions, "
            f"but got {input.ndim} dimensions for input, and {indices.ndim} dimensions for indices",
        )
    dim = normalize_axis(dim, input.ndim)
    common = list(broadcast_shapes(_one(input.shape, dim), _one(indices.shape, dim)))
    shapes = [[*common[:dim], t.shape[dim], *common[dim + 1 :]] for t in (input, indices)]
    from_start = indices.where(indices >= 0, indices + input.shape[dim])
    return gather(input.expand(shapes[0]), dim, from_start.expand(shapes[1]))


def _one(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], 1, *shape[dim + 1 :])


def _scatter_samples() -> Iterator[Sample]:
    index = np.array([[0, 2, 1], [3, 0, 2]])
    yield Sample(array(3, 4), 1, index, array(3, 4, seed=1))
    yield Sample(array(3, 4), 1, index, 2.5)
    yield Sample(array(3, 4), 1, index, array(2, 3, seed=1), reduce="add")


@composite("scatter", inplace=True, samples=_scatter_samples)
def scatter(
    input: Any, dim: int, index: Any, src: Any = None, value: Any = None, *, reduce: Any = None
) -> Any:
    """A copy with ``src`` (a tensor or a number) written at ``index`` along ``dim``.

    ``reduce`` "add" or "multiply" combines with what is there. Raises IndexError outside.
    """
    src = value if src is None else src
    if src is None:
        raise OperationError.make(
            "scatter", "a src tensor or a value", "got neither", "", TypeError
        )
    if reduce not in (None, "add", "multiply"):
        raise OperationError.make(
            "scatter", "reduce argument must be either add or multiply.", f"got {reduce!r}"
        )
    place = _place(input, dim)
    shape = input.shape
    if not isinstance(src, (bool, int, float, complex)) and src.ndim == 0 and index.ndim:
        src = src.expand(index.shape)
    input, index, src = _at_least_1d(input, index, src)
    return _as(Scatter.apply(input, index, src, **place, reduce=reduce), shape)


def _scatter_add_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), 1, integers(3, 5, high=4), array(3, 5, seed=1))
    yield Sample(array(3, 4), 0, integers(2, 3, high=3), array(4, 4, seed=1))


@composite("scatter_add", inplace=True, samples=_scatter_add_samples)
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """A copy with ``src`` added at ``index`` along ``dim``, repeated places as often as named."""
    place = _place(input, dim)
    shape = input.shape
    input, index, src = _at_least_1d(input, index, src)
    return _as(ScatterAdd.apply(input, index, src, **place), shape)


def _scatter_reduce_samples() -> Iterator[Sample]:
    index = integers(3, 5, high=4)
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for include_self in (True, False):
            yield Sample(
                array(3, 4), 1, index, array(3, 5, seed=1), reduce, include_self=include_self
            )


@composite("scatter_reduce", inplace=True, samples=_scatter_reduce_samples)
def scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """A copy with ``src`` combined in at ``index``: sum, prod, mean, amax or amin.

    ``include_self=False`` leaves the input's own elements out where anything is written.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise OperationError.make(
            "scatter_reduce",
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}",
        )
    place = _place(input, dim)
    shape = input.shape
    input, index, src = _at_least_1d(input, index, src)
    out = ScatterReduce.apply(
        input, index, src, **place, reduce=reduce, include_self=bool(include_self)
    )
    return _as(out, shape)
