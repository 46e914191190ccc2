"""gather and the scatters: elements chosen, or written, by an index tensor along one dimension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.dtypes import dtype as DType
from taimatsu.dtypes import int32, int64
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.coordinates import (
    Places,
    filled_stage,
    is_empty,
    replaced,
)
from taimatsu.ops.filling import filled
from taimatsu.ops.reducing import Wide
from taimatsu.shapes import broadcast_shapes, normalize_axis


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


def outside(name: str, dim: int) -> str:
    """What a compiled program says of an index outside of a dimension."""
    return f"[{name}] an index is out of bounds for dimension {dim}"


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

    def lower(self, b: Builder, input: Any, index: Any, *, dim: int, size: int) -> Stage | None:
        if is_empty(index.shape):
            return filled_stage(b, index.shape, 0, input.dtype)
        if is_empty(input.shape):
            return None  # nothing to read: the reference refuses the indices
        places = Places(b)

        def at(*i: Index) -> Expression:
            return input[replaced(i, dim, places.place(index[i], input.shape[dim]))]

        return places.check(b.map(index.shape, input.dtype, at), outside(self.name, dim))

    def gradient(self, g: Any, out: Any, input: Any, index: Any, *, dim: int, size: int) -> tuple:
        return (lambda: filled(input.shape, 0, g.dtype).scatter_add(dim, index, g)), None


# -- public functions --------------------------------------------------------------------------


def at_least_1d(*tensors: Any) -> list:
    return [t.unsqueeze(0) if getattr(t, "ndim", 1) == 0 else t for t in tensors]


def place_of(input: Any, dim: int) -> dict[str, int]:
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
    place = place_of(input, dim)
    scalar = index.ndim == 0
    input, index = at_least_1d(input, index)
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
