"""LU factors, triangular systems, reflectors, and functions of matrices."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder, return_types
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops import matrices
from taimatsu.ops.base import REGISTRY, Sample, array, composite, register
from taimatsu.ops.decompositions import checked_svd
from taimatsu.ops.elementwise import complex_array
from taimatsu.ops.matrices import (
    MatrixOperation,
    check_matrices,
    each,
    positive_definite,
    well_conditioned,
)
from taimatsu.ops.solvers import check_equation, check_same_dtype, inv_ex, scalars
from taimatsu.shapes import broadcast_shapes

BOTH = ("float32", "float64")


# -- triangular systems ----------------------------------------------------------------------


@register
class TriangularKernel(MatrixOperation):
    """X with A X = B for upper triangular A; what is below the diagonal is not read."""

    hidden = True
    backward_name = "LinalgSolveTriangularBackward0"
    saves = ("A", "out")

    def infer(self, A: Meta, B: Meta, *, upper: bool, unit: bool) -> Meta:
        batch = broadcast_shapes(A.shape[:-2], B.shape[:-2])
        return meta((*batch, *B.shape[-2:]), B.dtype)

    def reference(self, A: np.ndarray, B: np.ndarray, *, upper: bool, unit: bool) -> np.ndarray:
        if not upper:  # read backwards, a lower triangle is an upper one
            turned = self.reference(A[..., ::-1, ::-1], B[..., ::-1, :], upper=True, unit=unit)
            return turned[..., ::-1, :]
        triangle = np.triu(A)
        if unit:
            i = np.arange(A.shape[-1])
            triangle[..., i, i] = 1
        try:
            return np.linalg.solve(triangle, B)  # elimination finds nothing to do
        except np.linalg.LinAlgError:
            return _substitute(triangle, B)

    def gradient(self, g: Any, out: Any, A: Any, B: Meta, *, upper: bool, unit: bool) -> Any:
        to_b = TriangularKernel.apply(A.mH, g, upper=not upper, unit=unit)

        def to_a() -> Any:
            whole = -(to_b @ out.mH)
            return whole.triu(int(unit)) if upper else whole.tril(-int(unit))

        return to_a, to_b


def _substitute(triangle: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row from the last: a zero on the diagonal gives infinities, as a division does."""
    batch = broadcast_shapes(triangle.shape[:-2], b.shape[:-2])
    made = np.array(np.broadcast_to(b, (*batch, *b.shape[-2:])))
    for i in reversed(range(triangle.shape[-1])):
        made[..., i, :] /= triangle[..., i, i, None]
        made[..., :i, :] -= triangle[..., :i, i, None] * made[..., i, None, :]
    return made


def _solve_triangular_samples() -> Iterator[Sample]:
    a = well_conditioned(3, 3)
    yield Sample(a, array(3, 2), upper=True, dtypes=BOTH)
    yield Sample(well_conditioned(2, 3, 3), array(3, 2), upper=False)
    yield Sample(a, array(2, 3), upper=False, left=False)
    yield Sample(a, array(3, 2), upper=True, unitriangular=True)
    yield Sample(well_conditioned(3, 3, complexes=True), complex_array(3, 2), upper=True)


@composite("linalg.solve_triangular", methods=(), samples=_solve_triangular_samples)
def solve_triangular(
    A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """X with A X = B, or X A = B unless ``left``, for triangular A: the rest of A is not read.

    (..., n, n), (..., n, k) -> (..., n, k). A zero on the diagonal gives infinities, no error.
    """
    check_matrices("linalg.solve_triangular", A, square=True)
    check_same_dtype("linalg.solve_triangular", A, B)
    check_equation("linalg.solve_triangular", A, B, left)
    unit = bool(unitriangular)
    if left:
        return TriangularKernel.apply(A, B, upper=bool(upper), unit=unit)
    return TriangularKernel.apply(A.mT, B.mT, upper=not upper, unit=unit).mT


def _triangular_solve_samples() -> Iterator[Sample]:
    yield Sample(array(3, 2), well_conditioned(3, 3))
    yield Sample(array(3, 2), well_conditioned(2, 3, 3), upper=False, transpose=True)


def _check_two_dimensional(label: str, **sides: Any) -> None:
    for name, x in sides.items():
        if x.ndim < 2:
            raise OperationError.make(
                label,
                f"{name} should have at least 2 dimensions, but has {x.ndim} dimensions instead",
                hint=f"{name}.unsqueeze(-1) makes a column",
            )


@composite("triangular_solve", samples=_triangular_solve_samples)
def triangular_solve(
    input: Any,
    A: Any,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    """(X with A X = input, A): ``linalg.solve_triangular`` in its old form."""
    _check_two_dimensional("triangular_solve", b=input, A=A)
    matrix, upper = (A.mT, not upper) if transpose else (A, bool(upper))
    made = solve_triangular(matrix, input, upper=upper, unitriangular=unitriangular)
    batch = made.shape[:-2]
    return return_types.triangular_solve((made, A.expand(*batch, *A.shape[-2:]).clone()))


@register
class CholeskySolveKernel(MatrixOperation):
    """X with L L^H X = B (or L^H L X = B): (..., n, k), (..., n, n) -> (..., n, k).

    One triangle of ``L`` is read. The gradient is, as PyTorch's, that of the whole product.
    """

    hidden = True
    backward_name = "CholeskySolveBackward0"
    saves = ("L", "out")

    def infer(self, B: Meta, L: Meta, *, upper: bool) -> Meta:
        check_matrices("cholesky_solve", L, square=True)
        batch = broadcast_shapes(B.shape[:-2], L.shape[:-2])
        return meta((*batch, *B.shape[-2:]), B.dtype)

    def reference(self, B: np.ndarray, L: np.ndarray, *, upper: bool) -> np.ndarray:
        solve = TriangularKernel.reference
        lower = matrices.adjoint(L) if upper else L
        first = solve(lower, B, upper=False, unit=False)
        return solve(matrices.adjoint(lower), first, upper=True, unit=False)

    def gradient(self, g: Any, out: Any, B: Meta, L: Any, *, upper: bool) -> Any:
        to_b = CholeskySolveKernel.apply(g, L, upper=upper)

        def to_l() -> Any:
            outer = to_b @ out.mH
            outer = outer + outer.mH
            return -(L @ outer) if upper else -(outer @ L)

        return to_b, to_l


def _cholesky_solve_samples() -> Iterator[Sample]:
    factor = np.linalg.cholesky(positive_definite(3, 3))
    yield Sample(array(3, 2), factor, dtypes=BOTH)
    yield Sample(array(2, 3, 2), factor.T.copy(), upper=True)


@composite("cholesky_solve", samples=_cholesky_solve_samples)
def cholesky_solve(input: Any, L: Any, upper: bool = False) -> Any:
    """X with L L^H X = input (or U^H U X = input) from a Cholesky factor."""
    _check_two_dimensional("cholesky_solve", b=input, u=L)
    check_matrices("cholesky_solve", L, square=True)
    check_same_dtype("cholesky_solve", L, input)
    check_equation("cholesky_solve", L, input, True)
    return CholeskySolveKernel.apply(input, L, upper=bool(upper))


def _cholesky_inverse_samples() -> Iterator[Sample]:
    factor = np.linalg.cholesky(positive_definite(3, 3))
    yield Sample(factor, dtypes=BOTH)
    yield Sample(factor.T.copy(), True)


@composite("cholesky_inverse", samples=_cholesky_inverse_samples)
def cholesky_inverse(L: Any, upper: bool = False) -> Any:
    """The inverse of L L^H (or U^H U) from a Cholesky factor."""
    check_matrices("cholesky_inverse", L, square=True)
    identity = L.new_ones(L.shape[:-1]).diag_embed()
    return cholesky_solve(identity, L, upper)


# -- LU --------------------------------------------------------------------------------------


@register
class LuKernel(MatrixOperation):
    """(..., m, n) -> L below U in one matrix, row swaps (from 1), info: P L U = input."""

    hidden = True
    outputs = 3
    backward_name = "LinalgLuFactorExBackward0"
    saves = ("out[0]", "out[1]")

    def infer(self, input: Meta) -> tuple[Meta, Meta, Meta]:
        check_matrices("linalg.lu_factor", input)
        *batch, m, n = input.shape
        pivots = meta((*batch, min(m, n)), dtypes.int32)
        return meta(input.shape, input.dtype), pivots, meta(batch, dtypes.int32)

    def reference(self, input: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return matrices.lu(input)

    def gradient(self, g: tuple, out: tuple, input: Meta) -> Any:
        m, n = input.shape[-2:]
        k = min(m, n)
        factors, pivots = out[0], out[1]
        square = factors.narrow(-2, 0, k).narrow(-1, 0, k)
        lower, upper = _unit_lower(square).mH, square.triu().mH
        outer = g[0].narrow(-2, 0, k).narrow(-1, 0, k)
        left, right = lower @ outer.tril(-1), outer.triu() @ upper
        below = beside = None
        if m > k:
            below, part = g[0].narrow(-2, k, m - k), factors.narrow(-2, k, m - k)
            right = right - part.mH @ below
        if n > k:
            beside, part = g[0].narrow(-1, k, n - k), factors.narrow(-1, k, n - k)
            left = left - beside @ part.mH
        inner = left.tril(-1) + right.triu()
        made = solve_triangular(lower, inner, upper=True, unitriangular=True)
        made = solve_triangular(upper, made, upper=False, left=False)
        if below is not None:
            rest = solve_triangular(upper, below, upper=False, left=False)
            made = REGISTRY["cat"]([made, rest], -2)
        if beside is not None:
            rest = solve_triangular(lower, beside, upper=True, unitriangular=True)
            made = REGISTRY["cat"]([made, rest], -1)
        return _permutation(pivots, m, made) @ made


def _unit_lower(x: Any) -> Any:
    """The part below the diagonal, with ones on the diagonal."""
    return x.tril(-1) + recorder.constant(np.eye(x.shape[-2], x.shape[-1])).to(x.dtype)


@register
class PermutationKernel(MatrixOperation):
    """Row swaps (from 1) -> the matrices P that undo them: (..., k) -> (..., m, m)."""

    hidden = True
    differentiable = False

    def infer(self, pivots: Meta, *, rows: int, kind: Any) -> Meta:
        return meta((*pivots.shape[:-1], rows, rows), kind)

    def reference(self, pivots: np.ndarray, *, rows: int, kind: Any) -> np.ndarray:
        order = matrices.permutation_of(pivots, rows)
        return np.swapaxes(np.eye(rows, dtype=kind.numpy)[order], -1, -2)


def _permutation(pivots: Any, rows: int, like: Any) -> Any:
    return PermutationKernel.apply(pivots, rows=rows, kind=like.dtype)


def _lu_samples() -> Iterator[Sample]:
    yield Sample(array(3, 3), dtypes=BOTH)
    yield Sample(array(2, 4, 3))
    yield Sample(array(3, 5))
    yield Sample(complex_array(3, 3))


def _factored(label: str, A: Any, pivot: bool) -> tuple[Any, Any, Any]:
    check_matrices(label, A)
    if not pivot:
        raise OperationError.make(
            label, f"{label}: LU without pivoting is not implemented on the CPU"
        )
    return LuKernel.apply(A)


def _check_regular(info: Any) -> None:
    found = recorder.value(info)
    wrong = np.flatnonzero(found)
    if wrong.size:
        i = int(found.reshape(-1)[wrong[0]])
        where = f"(Batch element {wrong[0]}): " if found.ndim else ""
        raise OperationError.make(
            "linalg.lu_factor",
            f"torch.linalg.lu_factor: {where}U[{i},{i}] is zero and using it on lu_solve would "
            "result in a division by zero. If you still want to perform the factorization, "
            "consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)",
        )


@composite("linalg.lu_factor_ex", methods=(), samples=_lu_samples)
def lu_factor_ex(A: Any, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(LU, pivots, info): as ``lu_factor``; info is 0 or the number of the pivot that is zero."""
    made = _factored("linalg.lu_factor", A, pivot)
    if check_errors:
        _check_regular(made[2])
    return return_types.linalg_lu_factor_ex(made)


@composite("linalg.lu_factor", methods=(), samples=_lu_samples)
def lu_factor(A: Any, *, pivot: bool = True) -> Any:
    """(LU, pivots): L (unit, below the diagonal) and U in one matrix; row i was swapped with
    row pivots[i], counted from 1. RuntimeError where a pivot is zero.
    """
    return return_types.linalg_lu_factor(lu_factor_ex(A, pivot=pivot, check_errors=True)[:2])


@composite("lu", methods=("lu",), samples=_lu_samples)
def lu_old(A: Any, pivot: bool = True, get_infos: bool = False) -> Any:
    """``linalg.lu_factor`` under its old name; with ``get_infos``, ``lu_factor_ex``."""
    made = lu_factor_ex(A, pivot=pivot, check_errors=not get_infos)
    return tuple(made) if get_infos else tuple(made[:2])


def _lu_unpack_samples() -> Iterator[Sample]:
    yield Sample(array(3, 3), np.array([2, 2, 3], np.int32))
    yield Sample(array(4, 3), np.array([2, 4, 3], np.int32))
    yield Sample(array(2, 3, 4), np.array([[2, 2, 3], [1, 2, 3]], np.int32))


@composite("lu_unpack", methods=(), samples=_lu_unpack_samples)
def lu_unpack(
    LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True
) -> Any:
    """(P, L, U) with P L U = A, from what ``lu_factor`` gives; empty where not asked for."""
    m, n = LU_data.shape[-2:]
    k = min(m, n)
    if unpack_pivots and LU_pivots.dtype is not dtypes.int32:
        raise OperationError.make(
            "lu_unpack",
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype",
            str(LU_pivots.dtype),
            "this function is intended for the output of lu_factor",
        )
    empty = LU_data.new_empty(0)
    p = _permutation(LU_pivots, m, LU_data) if unpack_pivots else empty
    if not unpack_data:
        return return_types.lu_unpack((p, empty, empty))
    lower = _unit_lower(LU_data.narrow(-1, 0, k))
    return return_types.lu_unpack((p, lower, LU_data.narrow(-2, 0, k).triu()))


@composite("linalg.lu", methods=(), samples=_lu_samples)
def linalg_lu(A: Any, *, pivot: bool = True) -> Any:
    """(P, L, U) with A = P L U: a permutation, unit lower and upper triangular matrices."""
    factors, pivots, _ = _factored("linalg.lu", A, pivot)
    return return_types.linalg_lu(lu_unpack(factors, pivots))


def _lu_solve_samples() -> Iterator[Sample]:
    pivots = np.array([2, 2, 3], np.int32)
    yield Sample(well_conditioned(3, 3), pivots, array(3, 2), dtypes=BOTH)
    yield Sample(well_conditioned(3, 3), pivots, array(2, 3), left=False)
    yield Sample(well_conditioned(3, 3), pivots, array(3, 2), adjoint=True)
    stacked = np.stack([pivots, pivots[::-1] + 1]).clip(max=3).astype(np.int32)
    yield Sample(well_conditioned(2, 3, 3), stacked, array(2, 2, 3), left=False, adjoint=True)


@composite("linalg.lu_solve", methods=(), samples=_lu_solve_samples)
def linalg_lu_solve(
    LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False
) -> Any:
    """X with A X = B (X A = B unless ``left``; A^H for A with ``adjoint``), from lu_factor(A)."""
    check_matrices("linalg.lu_solve", LU, square=True)
    check_same_dtype("linalg.lu_solve", LU, B)
    check_equation("linalg.lu_solve", LU, B, left)
    if not left:
        made = linalg_lu_solve(LU, pivots, B.mH, left=True, adjoint=not adjoint)
        return made.mH
    p = _permutation(pivots, LU.shape[-1], LU)
    if adjoint:
        made = solve_triangular(LU.mH, B, upper=False)
        return p @ solve_triangular(LU.mH, made, upper=True, unitriangular=True)
    made = solve_triangular(LU, p.mT @ B, upper=False, unitriangular=True)
    return solve_triangular(LU, made, upper=True)


def _old_lu_solve_samples() -> Iterator[Sample]:
    yield Sample(array(3, 2), well_conditioned(3, 3), np.array([2, 2, 3], np.int32))


@composite("lu_solve", samples=_old_lu_solve_samples)
def lu_solve(input: Any, LU_data: Any, LU_pivots: Any) -> Any:
    """``linalg.lu_solve`` in its old form."""
    return linalg_lu_solve(LU_data, LU_pivots, input)


# -- reflectors ------------------------------------------------------------------------------


def _reflected(input: Any, tau: Any, other: Any, first_to_last: bool) -> Any:
    """``other`` multiplied from the left by the reflectors 1 - tau v v^H, in that order."""
    rows = input.shape[-2]
    below = input.tril(-1)
    unit = np.eye(rows, input.shape[-1])
    columns = below + recorder.constant(unit).to(input.dtype)
    count = tau.shape[-1]
    for i in range(count) if first_to_last else reversed(range(count)):
        v = columns.narrow(-1, i, 1)
        other = other - (tau.narrow(-1, i, 1).unsqueeze(-1) * v) @ (v.mH @ other)
    return other


def _householder_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3), array(3), dtypes=BOTH)
    yield Sample(array(2, 4, 3), array(2, 2))
    yield Sample(complex_array(3, 2), complex_array(2))


@composite("linalg.householder_product", "orgqr", methods=("orgqr",), samples=_householder_samples)
def householder_product(A: Any, tau: Any) -> Any:
    """The first n columns of a product of reflectors: (..., m, n), (..., k) -> (..., m, n).

    Reflector i is 1 - tau[i] v v^H, where v is column i of ``A`` below its diagonal, 1 on it.
    """
    label = "torch.linalg.householder_product"
    check_matrices(label, A)
    m, n = A.shape[-2:]
    if m < n:
        raise OperationError.make(
            label, f"{label}: input.shape[-2] must be greater than or equal to input.shape[-1]"
        )
    if n < tau.shape[-1]:
        raise OperationError.make(
            label, f"{label}: input.shape[-1] must be greater than or equal to tau.shape[-1]"
        )
    check_same_dtype(label, A, tau)
    # Nothing of A remains where there are no reflectors; the gradient is then zero, not absent.
    identity = A.masked_fill(A == A, 0) + recorder.constant(np.eye(m, n)).to(A.dtype)
    return _reflected(A, tau, identity, False)


def _ormqr_samples() -> Iterator[Sample]:
    for left in (True, False):
        for transpose in (True, False):
            yield Sample(array(4, 3), array(3), array(4, 4), left, transpose)


@composite("ormqr", samples=_ormqr_samples)
def ormqr(input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False) -> Any:
    """``other`` multiplied by the whole Q (or Q^H) that ``geqrf`` left as reflectors."""
    check_matrices("ormqr", input)
    check_equation("ormqr", input, other, left)
    conjugated = tau.conj() if transpose else tau
    if left:
        return _reflected(input, conjugated, other, transpose)
    return _reflected(input, conjugated.conj(), other.mH, not transpose).mH


# -- functions of matrices -------------------------------------------------------------------

# Numerator of the diagonal Pade approximant of degree 13, and the norm up to which it is exact
# in double precision: Higham, The scaling and squaring method revisited (2005).
_PADE = (
    64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800,
    129060195264000, 10559470521600, 670442572800, 33522128640, 1323241920, 40840800,
    960960, 16380, 182, 1,
)  # fmt: skip
_PADE_REACH = 5.371920351148152


def _matrix_exp_samples() -> Iterator[Sample]:
    yield Sample(array(3, 3), dtypes=BOTH)
    yield Sample(10 * array(2, 3, 3), dtypes=("float64",), grad=False)
    yield Sample(complex_array(2, 2))
    yield Sample(np.zeros((2, 0, 0)))


@register
class MatrixExp(MatrixOperation):
    """The exponentials of square matrices, by scaling, a rational function and squaring."""

    methods = ("matrix_exp",)
    backward_name = "LinalgMatrixExpBackward0"
    saves = ("input",)

    def infer(self, input: Meta) -> Meta:
        check_matrices("linalg.matrix_exp", input, square=True)
        return meta(input.shape, input.dtype)

    def reference(self, input: np.ndarray) -> np.ndarray:
        made = np.empty(input.shape, np.result_type(input.dtype, np.float64))
        each(lambda x: (_exponential(x.astype(made.dtype)),), input, made)
        return made

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        # exp [[A^H, G], [0, A^H]] has the derivative at A^H in the direction G in its corner.
        n = input.shape[-1]
        adjoints = input.mH
        above = REGISTRY["cat"]([adjoints, g], -1)
        below = REGISTRY["cat"]([adjoints * 0, adjoints], -1)
        return MatrixExp.apply(REGISTRY["cat"]([above, below], -2))[..., :n, n:]

    samples = staticmethod(_matrix_exp_samples)


@composite("linalg.matrix_exp", methods=(), samples=_matrix_exp_samples)
def linalg_matrix_exp(A: Any) -> Any:
    """The exponentials of square matrices."""
    return MatrixExp.apply(A)


def _exponential(a: np.ndarray) -> np.ndarray:
    """One matrix."""
    norm = np.abs(a).sum(0).max(initial=0)
    if not np.isfinite(norm):
        return np.full_like(a, np.nan)
    squarings = max(0, int(np.ceil(np.log2(norm / _PADE_REACH)))) if norm > 0 else 0
    a = a / 2.0**squarings
    identity = np.eye(len(a), dtype=a.dtype)
    powers = [identity, a @ a]
    powers += [powers[1] @ powers[1]]
    powers += [powers[2] @ powers[1]]
    b = _PADE
    odd = powers[3] @ (b[13] * powers[3] + b[11] * powers[2] + b[9] * powers[1])
    odd = a @ (odd + sum(b[2 * i + 1] * p for i, p in enumerate(powers)))
    even = powers[3] @ (b[12] * powers[3] + b[10] * powers[2] + b[8] * powers[1])
    even = even + sum(b[2 * i] * p for i, p in enumerate(powers))
    made = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        made = made @ made
    return made


def _cond_samples() -> Iterator[Sample]:
    for order in (None, 2, -2, 1, -1, np.inf, "fro", "nuc"):
        yield Sample(well_conditioned(3, 3), order)
    yield Sample(array(2, 4, 3))


@composite("linalg.cond", methods=(), samples=_cond_samples)
def cond(A: Any, p: Any = None) -> Any:
    """norm(A) * norm(A^-1) in the matrix norm ``p``; 2 unless given. inf for singular matrices."""
    if p is None or p in (2, -2):
        check_matrices("linalg.cond", A)
        sizes = checked_svd(A, False)[1]
        if sizes.shape[-1] == 0:
            return A.new_zeros(A.shape[:-2], dtype=A.dtype.to_real())
        largest, least = sizes.select(-1, 0), sizes.select(-1, -1)
        return least / largest if p == -2 else largest / least
    if p not in ("fro", "nuc", 1, -1, np.inf, -np.inf):
        raise OperationError.make("linalg.cond", f"linalg.cond got an invalid norm type: {p}")
    check_matrices("linalg.cond", A, square=True)
    norm = REGISTRY["linalg.matrix_norm"]
    made, info = inv_ex(A)
    singular = info != 0
    regular = made.masked_fill(scalars(singular), 0)
    return (norm(A, p) * norm(regular, p)).masked_fill(singular, float("inf"))


def _vander_samples() -> Iterator[Sample]:
    yield Sample(array(3), dtypes=BOTH)
    yield Sample(array(2, 3), N=4)


@composite("linalg.vander", methods=(), samples=_vander_samples)
def linalg_vander(x: Any, *, N: int | None = None) -> Any:
    """The powers 0 ... N - 1 of each element as a row: (..., n) -> (..., n, N).

    N is n unless given. Integers give int64.
    """
    count = (x.shape[-1] if x.ndim else 1) if N is None else operator.index(N)
    if count <= 1:
        raise OperationError.make("linalg.vander", "N must be greater than 1.", str(count))
    if x.ndim == 0:
        x = x.unsqueeze(0)
    if x.dtype is dtypes.bool or not (x.is_floating_point() or x.is_complex()):
        x = x.to(dtypes.int64)
    ones = x.new_ones(*x.shape, 1)
    rest = x.unsqueeze(-1).expand(*x.shape, count - 1).cumprod(-1)
    return REGISTRY["cat"]([ones, rest], -1)


def _diagonal_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4))
    yield Sample(array(2, 3, 4), offset=1)
    yield Sample(array(2, 3, 4), dim1=0, dim2=1)


@composite("linalg.diagonal", methods=(), samples=_diagonal_samples)
def linalg_diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """``diagonal`` of the last two dimensions unless others are named."""
    return A.diagonal(offset, dim1, dim2)
