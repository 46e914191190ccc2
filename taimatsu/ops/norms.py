"""Norms of vectors and matrices, and distances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.dtypes import dtype as DType
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import REGISTRY, Sample, array, composite, register
from taimatsu.ops.coordinates import broadcast_at, broadcast_extents
from taimatsu.ops.reduced_stages import fold
from taimatsu.ops.reducing import (
    Wide,
    axes_of,
    is_inexact,
    numpy_names,
    reduced_count,
    reduced_shape,
    restore,
    rows,
)
from taimatsu.ops.selecting import shared_evenly
from taimatsu.shapes import broadcast_shapes, normalize_axis

INF = math.inf


def _vector_norm_samples() -> Iterator[Sample]:
    for order in (0, 0.5, 1, 1.5, 2, 3, INF, -INF):
        yield Sample(array(3, 4), order, 1, grad=order != 0)
    yield Sample(array(3, 4), dtypes=("float32", "float64", "float16"))
    yield Sample(array(2, 3, 4), 2, (0, -1), True)
    yield Sample(np.zeros((2, 3)), 2, 1, grad=False)
    yield Sample(array(), 3)


@register
class VectorNorm(Wide):
    """sum(|x| ** ord) ** (1 / ord), of all elements or over ``dim``.

    ``inf`` and ``-inf`` give the largest and smallest magnitude, 0 counts what is not zero. At
    zero the gradient of the norm is zero.
    """

    functions = ("linalg.vector_norm",)
    backward_name = "LinalgVectorNormBackward0"
    saves = ("x", "out")
    samples = staticmethod(_vector_norm_samples)

    @numpy_names
    def __call__(
        self,
        x: Any,
        ord: Any = 2,
        dim: Any = None,
        keepdim: bool = False,
        *,
        dtype: DType | None = None,
    ) -> Any:
        if dtype is not None:
            x = x.to(dtype)
        if ord is None:
            ord = 2
        return self.apply(x, ord=float(ord), dim=axes_of(dim, x.ndim), keepdim=bool(keepdim))

    def infer(self, x: Meta, *, ord: float, dim: Any, keepdim: bool) -> Meta:
        if not is_inexact(x.dtype):
            raise self.error(
                "linalg.vector_norm: Expected a floating point or complex tensor as input. "
                f"Got {x.dtype.scalar_type}",
                hint="x.float() converts",
            )
        if (ord < 0 or ord == INF) and reduced_count(x.shape, dim) == 0:
            raise self.error(
                f"linalg.vector_norm cannot compute the {ord:g} norm on an empty tensor because "
                "the operation does not have an identity"
            )
        return meta(reduced_shape(x.shape, dim, keepdim), x.dtype.to_real())

    def reference(self, x: np.ndarray, *, ord: float, dim: Any, keepdim: bool) -> np.ndarray:
        folded = _norm_of_rows(np.abs(rows(x, dim)), ord)
        return np.asarray(folded).reshape(reduced_shape(x.shape, dim, keepdim))

    def lower(self, b: Builder, x: Any, *, ord: float, dim: Any, keepdim: bool) -> Stage:
        def size(*i: Index) -> Expression:
            return b.abs(x[i])

        def power(*i: Index) -> Expression:
            if ord == 0:
                return b.cast(x[i].ne(0), x.dtype)
            if ord == 1:
                return size(*i)
            return x[i] * x[i] if ord == 2 else b.pow(size(*i), b.constant(ord, x.dtype))

        if abs(ord) == INF:
            return fold(b, "max" if ord > 0 else "min", x, dim, keepdim, size)
        total = fold(b, "add", x, dim, keepdim, power)
        if ord in (0, 1):
            return total
        if ord == 2:
            return b.map(total.shape, x.dtype, lambda *i: b.sqrt(total[i]))
        root = b.constant(1 / ord, x.dtype)
        return b.map(total.shape, x.dtype, lambda *i: b.pow(total[i], root))

    def gradient(self, g: Any, out: Any, x: Any, *, ord, dim, keepdim) -> Any:
        g = restore(g, dim, keepdim)
        out = restore(out, dim, keepdim)
        if ord == 0:
            return g.new_zeros(x.shape)
        if ord == 1:
            return x.sgn() * g
        if ord == 2:
            return x * (g / out).masked_fill(out == 0, 0)
        size = x.abs()
        if ord in (INF, -INF):
            return x.sgn() * shared_evenly(g, size == out, dim)
        if ord < 1:
            slope = x.sgn() * size.pow(ord - 1).masked_fill(x == 0, 0)
            return slope * (g * out.pow(1 - ord))
        slope = x.sgn() * size.pow(ord - 1) if ord < 2 else x * size.pow(ord - 2)
        return slope * (g / out.pow(ord - 1)).masked_fill(out == 0, 0)


def _norm_of_rows(size: np.ndarray, order: float) -> np.ndarray:
    """The norm of the last axis of magnitudes."""
    if order == INF:
        return size.max(-1)
    if order == -INF:
        return size.min(-1)
    if order == 0:
        return np.count_nonzero(size, axis=-1).astype(size.dtype)
    if order == 1:
        return size.sum(-1)
    if order == 2:
        return np.sqrt((size * size).sum(-1))
    kind = size.dtype.type
    with np.errstate(divide="ignore"):
        return (size ** kind(order)).sum(-1) ** kind(1 / order)


# -- matrices --------------------------------------------------------------------------------


def _matrix_error(message: str, got: str = "") -> Exception:
    return OperationError.make("matrix_norm", f"linalg.matrix_norm: {message}", got)


def _matrix_norm_samples() -> Iterator[Sample]:
    for order in ("fro", 1, -1, INF, -INF):
        yield Sample(array(3, 4), order)
    yield Sample(array(2, 3, 4), "fro", (0, -1), True)
    yield Sample(array(2, 3, 4), 1, (0, 2))


@composite("linalg.matrix_norm", methods=(), samples=_matrix_norm_samples)
def matrix_norm(
    A: Any,
    ord: Any = "fro",
    dim: tuple[int, int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Any:
    """A norm of the matrices in dimensions ``dim``.

    "fro": of all elements; 1 and -1: largest and smallest column sum; inf and -inf: row sum;
    2 and -2: largest and smallest singular value; "nuc": the sum of the singular values.
    """
    if dtype is not None:
        A = A.to(dtype)
    if A.ndim < 2:
        raise _matrix_error("The input tensor A must have at least 2 dimensions.", f"{A.ndim}")
    if not is_inexact(A.dtype):
        raise _matrix_error(
            f"Expected a floating point or complex tensor as input. Got {A.dtype.scalar_type}"
        )
    if isinstance(dim, int) or len(dim) != 2:
        raise _matrix_error(f"dim must be a 2-tuple. Got {dim}")
    row, column = (normalize_axis(d, A.ndim) for d in dim)
    if row == column:
        raise _matrix_error(f"dims must be different. Got ({dim[0]}, {dim[1]})")
    if ord == "fro":
        return VectorNorm(A, 2, (row, column), keepdim)
    if ord in ("nuc", 2, -2):
        return _spectral(A, ord, row, column, keepdim)
    if ord not in (1, -1, INF, -INF):
        raise _matrix_error(f"Order {ord} not supported.")
    summed, compared = (row, column) if abs(ord) == 1 else (column, row)
    sums = A.abs().sum(summed, keepdim=True)
    made = _largest(sums, compared) if ord > 0 else sums.amin(compared, keepdim=True)
    return made if keepdim else made.squeeze((row, column))


def _largest(sizes: Any, dim: int) -> Any:
    """The largest along ``dim``, which stays; the norm of an empty matrix is 0."""
    if sizes.shape[dim] == 0:
        return sizes.sum(dim, keepdim=True)
    return sizes.amax(dim, keepdim=True)


def _spectral(matrix: Any, order: Any, row: int, column: int, keepdim: bool) -> Any:
    """The norms made of singular values."""
    singular = REGISTRY["linalg.svdvals"](matrix.movedim((row, column), (-2, -1)))
    if order == "nuc":
        made = singular.sum(-1)
    else:
        made = _largest(singular, -1).squeeze(-1) if order == 2 else singular.amin(-1)
    if keepdim:
        for d in sorted((row, column)):
            made = made.unsqueeze(d)
    return made


def _linalg_norm_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4))
    yield Sample(array(3, 4), 1)
    yield Sample(array(4), 3)
    yield Sample(array(2, 3, 4), "fro", (0, 1))
    yield Sample(array(2, 3, 4), dim=1, keepdim=True)


@composite("linalg.norm", methods=(), samples=_linalg_norm_samples)
def linalg_norm(
    A: Any,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Any:
    """The vector norm (one ``dim``, or no ``ord``) or the matrix norm (two, with ``ord``)."""
    dims = (dim,) if isinstance(dim, int) else dim
    if ord is None:
        return VectorNorm(A, 2, dims, keepdim, dtype=dtype)
    if dims is None:
        if A.ndim not in (1, 2):
            raise OperationError.make(
                "linalg.norm",
                "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. "
                f"Got {A.ndim}D.",
            )
        dims = tuple(range(A.ndim))
    if len(dims) == 1 and not isinstance(ord, str):
        return VectorNorm(A, ord, dims, keepdim, dtype=dtype)
    return matrix_norm(A, ord, tuple(dims), keepdim, dtype=dtype)


def _norm_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4))
    yield Sample(array(3, 4), 1, 0)
    yield Sample(array(2, 3, 4), p=3, dim=(0, 2), keepdim=True)
    yield Sample(array(3, 4), INF)
    yield Sample(array(3, 4), "fro", dim=(0, 1))


@composite("norm", samples=_norm_samples)
@numpy_names
def norm(
    input: Any,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Any:
    """The ``p``-norm of all elements or over ``dim``; "fro" is 2, "nuc" sums singular values."""
    if p is None or p == "fro":
        return VectorNorm(input, 2, dim, keepdim, dtype=dtype)
    if isinstance(p, str):
        dims = (-2, -1) if dim is None else dim
        return matrix_norm(input, p, dims, keepdim, dtype=dtype)
    return VectorNorm(input, p, dim, keepdim, dtype=dtype)


def _renorm_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), 2, 0, 1.5)
    yield Sample(array(2, 3, 4), 1, 1, 2.0)


@composite("renorm", inplace=True, samples=_renorm_samples)
def renorm(input: Any, p: Any, dim: int, maxnorm: Any) -> Any:
    """Slices along ``dim`` whose ``p``-norm exceeds ``maxnorm`` are scaled down to it."""
    axis = normalize_axis(dim, input.ndim)
    others = tuple(d for d in range(input.ndim) if d != axis)
    size: Any = VectorNorm(input, p, others, True)
    scale = (maxnorm / (size + 1e-7)).masked_fill(size <= maxnorm, 1)
    return input * scale


# -- distances -------------------------------------------------------------------------------


def _pair_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(3, 4, seed=1))
    yield Sample(array(3, 4), array(4, seed=1), 1)
    yield Sample(array(3, 4), array(3, 4, seed=1), p=3)


@composite("dist", samples=_pair_samples)
def dist(input: Any, other: Any, p: Any = 2) -> Any:
    """The ``p``-norm of input - other."""
    return VectorNorm(input - other, p)


@composite(
    "nn.functional.pairwise_distance", "pairwise_distance", methods=(), samples=_pair_samples
)
def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Any:
    """The ``p``-norm of x1 - x2 + eps over the last dimension."""
    return VectorNorm(x1 - x2 + eps, p, -1, keepdim)


def _pdist_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3))
    yield Sample(array(4, 3), 1.0)


@composite("nn.functional.pdist", "pdist", methods=(), samples=_pdist_samples)
def pdist(input: Any, p: float = 2.0) -> Any:
    """The distances between all pairs of rows, (n, m) -> (n * (n - 1) / 2)."""
    if input.ndim != 2:
        raise OperationError.make("pdist", "pdist only supports 2D tensors", f"{input.ndim}D")
    first, second = np.triu_indices(input.shape[0], 1)
    away = input.index_select(0, recorder.constant(first)) - input.index_select(
        0, recorder.constant(second)
    )
    return VectorNorm(away, p, -1)


@register
class EuclideanDistances(Wide):
    """Euclidean distances between all rows of two batches: (..., m, k), (..., n, k) -> (..., m, n).

    At distance zero the gradient is zero.
    """

    hidden = True
    methods = ()
    backward_name = "CdistBackward0"
    saves = ("x1", "x2", "out")

    def infer(self, x1: Meta, x2: Meta) -> Meta:
        batch = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        return meta((*batch, x1.shape[-2], x2.shape[-2]), x1.dtype)

    def reference(self, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        # Row by row: exact near zero, unlike |a|^2 + |b|^2 - 2ab, and without the m * n * k array.
        batch = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        out = np.empty((*batch, x1.shape[-2], x2.shape[-2]), x1.dtype)
        for i in range(x1.shape[-2]):
            away = x1[..., i : i + 1, :] - x2
            out[..., i, :] = np.sqrt((away * away).sum(-1))
        return out

    def lower(self, b: Builder, x1: Any, x2: Any) -> Stage:
        batch = broadcast_extents([x1.shape[:-2], x2.shape[:-2]])
        shape = (*batch, x1.shape[-2], x2.shape[-2])

        def squared(i: tuple, r: tuple) -> Expression:
            left = broadcast_at(x1, (*i[:-1], *r))
            away = left - broadcast_at(x2, (*i[:-2], i[-1], *r))
            return away * away

        total = b.reduce("add", shape, x1.shape[-1:], x1.dtype, squared)
        return b.map(shape, x1.dtype, lambda *i: b.sqrt(total[i]))

    def gradient(self, g: Any, out: Any, x1: Any, x2: Any) -> Any:
        weights = (g / out).masked_fill(out == 0, 0)

        def to_x1() -> Any:
            return x1 * weights.sum(-1, keepdim=True) - weights @ x2

        def to_x2() -> Any:
            return x2 * weights.sum(-2).unsqueeze(-1) - weights.transpose(-2, -1) @ x1

        return to_x1, to_x2


def _cdist_samples() -> Iterator[Sample]:
    for p in (0.0, 1.0, 2.0, 3.0, INF):
        yield Sample(array(3, 4), array(5, 4), p, grad=p != 0)
    yield Sample(array(2, 3, 4), array(2, 5, 4))


@composite("cdist", methods=(), samples=_cdist_samples)
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str | None = None) -> Any:
    """The ``p``-norms between all rows: (..., m, k), (..., n, k) -> (..., m, n).

    ``compute_mode`` is accepted as PyTorch's and changes nothing: distances are exact always.
    """
    for name, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise OperationError.make(
                "cdist", f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D"
            )
    if x1.shape[-1] != x2.shape[-1]:
        raise OperationError.make(
            "cdist",
            "X1 and X2 must have the same number of columns. "
            f"X1: {x1.shape[-1]} X2: {x2.shape[-1]}",
        )
    if p == 2:
        return EuclideanDistances.apply(x1, x2)
    away = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    return VectorNorm(away, p, -1)
