"""Products made of products: outer, inner, tensordot, kron, cross, chains and powers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.index import minimum
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import REGISTRY, Sample, array, composite, integers, register
from taimatsu.ops.matmul import Matmul, mm
from taimatsu.ops.reducing import Accumulating, numpy_names, sum_result
from taimatsu.shapes import normalize_axis


@composite(
    "outer",
    "ger",
    samples=lambda: iter([Sample(array(3), array(4)), Sample(integers(3), array(4))]),
)
def outer(input: Any, vec2: Any) -> Any:
    """All products of two vectors' elements: (m), (n) -> (m, n)."""
    for name, vector in (("self", input), ("vec2", vec2)):
        if vector.ndim != 1:
            raise OperationError.make(
                "outer", f"outer: Expected 1-D argument {name}, but got {vector.ndim}-D"
            )
    return input.unsqueeze(1) * vec2


def _inner_samples() -> Iterator[Sample]:
    yield Sample(array(4), array(4, seed=1))
    yield Sample(array(2, 3), array(4, 5, 3))
    yield Sample(array(), array(2, 3))


@composite("inner", samples=_inner_samples)
def inner(input: Any, other: Any) -> Any:
    """Sums of products over the last dimension of both; by a 0-d tensor a plain product."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise OperationError.make(
            "inner",
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(input.shape)} and {list(other.shape)}",
        )
    return tensordot(input, other, ([-1], [-1]))


def _tensordot_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4, 5), array(4, 5, 2))
    yield Sample(array(3, 4), array(4, 5), dims=1)
    yield Sample(array(3, 4), array(5, 4), dims=([1], [1]))
    yield Sample(array(3, 4), array(5), dims=0)
    yield Sample(array(2, 3, 4), array(4, 5, 2), ([0, 2], [2, 0]))


def _contracted(a: Any, b: Any, dims: Any) -> tuple[list[int], list[int]]:
    """The dimensions of ``a`` and of ``b`` to sum over, from tensordot's ``dims``."""
    if hasattr(dims, "tolist"):
        dims = dims.tolist()
    if isinstance(dims, (tuple, list)):
        if len(dims) != 2:
            raise RuntimeError(f"tensordot expects dims to be int or two lists; got {dims}")
        first, second = ([d] if isinstance(d, int) else list(d) for d in dims)
    else:
        n = operator.index(dims)
        if n < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={n}")
        if n > min(a.ndim, b.ndim):
            raise RuntimeError(
                f"tensordot expects dims < ndim_a or ndim_b, but got dims={n}; "
                f"the tensors have {a.ndim} and {b.ndim} dimensions"
            )
        first, second = list(range(a.ndim - n, a.ndim)), list(range(n))
    if len(first) != len(second):
        raise RuntimeError("both dimension lists should have same length")
    return (
        [normalize_axis(d, a.ndim) for d in first],
        [normalize_axis(d, b.ndim) for d in second],
    )


def _extent(shape: Sequence[int], dims: Sequence[int]) -> int:
    return int(np.prod([shape[d] for d in dims], dtype=np.int64))


@composite("tensordot", methods=(), samples=_tensordot_samples)
def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """Sums of products over the ``dims`` last dimensions of ``a`` and first of ``b``.

    Or ``dims = (of a, of b)``. Dimensions of extent 1 broadcast. What is left of ``a`` precedes
    what is left of ``b``.
    """
    in_a, in_b = _contracted(a, b, dims)
    for d, e in zip(in_a, in_b, strict=True):
        n, m = a.shape[d], b.shape[e]
        if n == m:
            continue
        if n == 1:
            b = b.sum(e, keepdim=True, dtype=b.dtype)
        elif m == 1:
            a = a.sum(d, keepdim=True, dtype=a.dtype)
        else:
            raise OperationError.make(
                "tensordot",
                f"contracted dimensions need to match, but first has size {n} in dim {d} and "
                f"second has size {m} in dim {e}",
            )
    left = [d for d in range(a.ndim) if d not in in_a]
    right = [d for d in range(b.ndim) if d not in in_b]
    k = _extent(a.shape, in_a)
    rows = a.permute(*left, *in_a).reshape(_extent(a.shape, left), k)
    columns = b.permute(*in_b, *right).reshape(k, _extent(b.shape, right))
    shape = [a.shape[d] for d in left] + [b.shape[d] for d in right]
    return Matmul.apply(rows, columns).reshape(shape)


def _kron_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), array(4, 2))
    yield Sample(array(3), array(2, 2))
    yield Sample(array(), array(2))


@composite("kron", samples=_kron_samples)
def kron(input: Any, other: Any) -> Any:
    """The Kronecker product: every element of ``input`` times the whole of ``other``."""
    ndim = max(input.ndim, other.ndim)
    a = [1] * (ndim - input.ndim) + list(input.shape)
    b = [1] * (ndim - other.ndim) + list(other.shape)
    spread = input.reshape([n for m in a for n in (m, 1)])
    blocks = other.reshape([n for m in b for n in (1, m)])
    return (spread * blocks).reshape([m * n for m, n in zip(a, b, strict=True)])


@register
class Trace(Accumulating):
    """The sum of a matrix's diagonal. Integers and booleans sum in int64."""

    def infer(self, input: Meta) -> Meta:
        if input.ndim != 2:
            raise self.error(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
        return meta((), sum_result(input.dtype))

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(input.diagonal()).sum(dtype=input.dtype)

    def lower(self, b: Builder, input: Any) -> Stage:
        places = (minimum(*input.shape),)
        return b.reduce("add", (), places, input.dtype, lambda i, r: input[r[0], r[0]])

    def gradient(self, g: Any, out: Any, input: Meta) -> Any:
        rows, columns = input.shape
        n = min(rows, columns)
        diagonal = REGISTRY["diag_embed"](g.expand(n))
        return REGISTRY["nn.functional.pad"](diagonal, (0, columns - n, 0, rows - n))

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 3))
        yield Sample(array(3, 4))
        yield Sample(integers(3, 2))


def _cross_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3), array(4, 3, seed=1))
    yield Sample(array(3, 4), array(3, 1, seed=1), dim=0)


@composite("linalg.cross", methods=(), samples=_cross_samples)
def linalg_cross(input: Any, other: Any, *, dim: int = -1) -> Any:
    """The cross product of vectors of three elements along ``dim``; the rest broadcasts."""
    if input.ndim != other.ndim:
        raise OperationError.make(
            "linalg.cross",
            "linalg.cross: inputs must have the same number of dimensions.",
            f"got {input.ndim} and {other.ndim}",
        )
    axis = normalize_axis(dim, input.ndim)
    if input.ndim == 0 or input.shape[axis] != 3 or other.shape[axis] != 3:
        lengths = [x.shape[axis] if x.ndim else 1 for x in (input, other)]
        raise OperationError.make(
            "linalg.cross",
            f"linalg.cross: inputs dimension {dim} must have length 3. "
            f"Got {lengths[0]} and {lengths[1]}",
        )
    return input.roll(-1, axis) * other.roll(-2, axis) - input.roll(-2, axis) * other.roll(-1, axis)


@composite("cross", samples=_cross_samples)
@numpy_names
def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """The cross product along ``dim``; without it along the first dimension of extent 3."""
    if dim is None:
        if 3 not in input.shape:
            raise OperationError.make(
                "cross",
                "no dimension of size 3 in input",
                f"got shape {list(input.shape)}",
            )
        dim = list(input.shape).index(3)
    return linalg_cross(input, other, dim=dim)


def _vecdot_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(3, 4, seed=1))
    yield Sample(array(3, 4), array(3, 1, seed=1), dim=0)


@composite("linalg.vecdot", methods=(), samples=_vecdot_samples)
def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """Sums of conj(x) * y along ``dim``."""
    return ((x.conj() if x.is_complex() else x) * y).sum(dim)


# -- chains and powers -----------------------------------------------------------------------


def _cheapest_split(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split a chain of matrices sizes[i] x sizes[i+1] for the fewest multiplications.

    The textbook dynamic programme: (first, last) -> the last matrix of the left part.
    """
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length - 1
            choices = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(choices)
    return split


def _multiply_chain(matrices: Sequence[Any]) -> Any:
    sizes = [m.shape[0] for m in matrices] + [matrices[-1].shape[1]]
    split = _cheapest_split(sizes)

    def product(i: int, j: int) -> Any:
        if i == j:
            return matrices[i]
        k = split[i, j]
        return mm(product(i, k), product(k + 1, j))

    return product(0, len(matrices) - 1)


def _multi_dot_samples() -> Iterator[Sample]:
    yield Sample([array(3, 4), array(4, 2), array(2, 5)])
    yield Sample([array(4), array(4, 2), array(2)])


@composite("linalg.multi_dot", methods=(), samples=_multi_dot_samples)
def multi_dot(tensors: Sequence[Any]) -> Any:
    """The product of two or more matrices, in the order that costs least.

    The first may be a row and the last a column, given as 1-d tensors.
    """
    tensors = list(tensors)
    if len(tensors) < 2:
        raise OperationError.make(
            "linalg.multi_dot",
            "multi_dot(): expected at least 2 tensors but got",
            str(len(tensors)),
        )
    for i, t in enumerate(tensors):
        ends = i in (0, len(tensors) - 1)
        if t.ndim != 2 and not (ends and t.ndim == 1):
            raise OperationError.make(
                "linalg.multi_dot",
                f"multi_dot(): tensor {i} must be {'1D or ' if ends else ''}2D but got {t.ndim}D",
            )
    first, last = tensors[0], tensors[-1]
    if first.ndim == 1:
        tensors[0] = first.unsqueeze(0)
    if last.ndim == 1:
        tensors[-1] = last.unsqueeze(1)
    made = _multiply_chain(tensors)
    if last.ndim == 1:
        made = made.squeeze(1)
    return made.squeeze(0) if first.ndim == 1 else made


@composite(
    "chain_matmul",
    methods=(),
    samples=lambda: iter([Sample(array(3, 4), array(4, 2), array(2, 5)), Sample(array(3, 4))]),
)
def chain_matmul(*matrices: Any) -> Any:
    """The product of matrices, in the order that costs least (``linalg.multi_dot`` succeeds it)."""
    if len(matrices) == 1 and isinstance(matrices[0], (tuple, list)):
        matrices = tuple(matrices[0])
    return matrices[0] if len(matrices) == 1 else _multiply_chain(matrices)


def _matrix_power_samples() -> Iterator[Sample]:
    for n in (0, 1, 2, 5):
        yield Sample(array(3, 3), n)
    yield Sample(array(2, 3, 3), 3)


@composite("matrix_power", "linalg.matrix_power", samples=_matrix_power_samples)
def matrix_power(input: Any, n: int) -> Any:
    """Square matrices (..., m, m) to the integer power ``n``; negative powers of the inverse."""
    n = operator.index(n)
    if input.ndim < 2 or input.shape[-1] != input.shape[-2]:
        size = " by ".join(str(e) for e in input.shape[-2:])
        raise OperationError.make(
            "matrix_power",
            "linalg.matrix_power: A must be batches of square matrices, "
            f"but they are {size} matrices",
        )
    if n == 0:
        identity = input.new_ones(input.shape[-1:]).diag_embed()
        # Constant, but a part of the graph, as PyTorch has it: the gradient is zero.
        return input.masked_fill(identity == identity, 0) + identity
    base = REGISTRY["linalg.inv"](input) if n < 0 else input
    return _power(base, abs(n))


def _power(base: Any, n: int) -> Any:
    """By repeated squaring: the bits of ``n`` from the lowest."""
    made = None
    while n:
        if n & 1:
            made = base if made is None else made @ base
        n >>= 1
        if n:
            base = base @ base
    return made
