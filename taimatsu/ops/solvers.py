"""Inverses, determinants, linear systems and least squares."""

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
from taimatsu.ops.decompositions import NOT_CONVERGED, eigvalsh, svdvals
from taimatsu.ops.elementwise import complex_array
from taimatsu.ops.matrices import (
    MatrixOperation,
    adjoint,
    check_info,
    check_matrices,
    failure,
    positive_definite,
    well_conditioned,
)
from taimatsu.shapes import broadcast_shapes

BOTH = ("float32", "float64")
SQUARE = well_conditioned(3, 3)


def _square_samples() -> Iterator[Sample]:
    yield Sample(SQUARE, dtypes=BOTH)
    yield Sample(well_conditioned(2, 3, 3))
    yield Sample(well_conditioned(3, 3, complexes=True))
    yield Sample(np.zeros((2, 0, 0)))


# -- inverses --------------------------------------------------------------------------------


@register
class InvKernel(MatrixOperation):
    """(..., n, n) -> the inverses (NaN where there is none), and info."""

    hidden = True
    outputs = 2
    backward_name = "LinalgInvExBackward0"
    saves = ("out[0]",)

    def infer(self, input: Meta) -> tuple[Meta, Meta]:
        check_matrices("linalg.inv", input, square=True)
        return meta(input.shape, input.dtype), meta(input.shape[:-2], dtypes.int32)

    def reference(self, input: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        info = np.zeros(input.shape[:-2], np.int32)
        try:
            return np.linalg.inv(input), info
        except np.linalg.LinAlgError:
            info = matrices.lu(input)[2]
        made = np.full(input.shape, np.nan, input.dtype)
        made[info == 0] = np.linalg.inv(input[info == 0])
        return made, info

    def gradient(self, g: tuple, out: tuple, input: Meta) -> Any:
        adjoints = out[0].mH
        return -(adjoints @ g[0] @ adjoints)


def _check_invertible(info: Any) -> None:
    check_info(
        "linalg.inv",
        "linalg.inv",
        info,
        lambda i: (
            f"The diagonal element {i} is zero, the inversion could not be completed because the "
            "input matrix is singular."
        ),
    )


@composite("linalg.inv_ex", methods=(), samples=_square_samples)
def inv_ex(A: Any, *, check_errors: bool = False) -> Any:
    """The inverse, and 0 or the number (from 1) of the pivot that is zero."""
    made = InvKernel.apply(A)
    if check_errors:
        _check_invertible(made[1])
    return return_types.linalg_inv_ex(made)


@composite("linalg.inv", methods=(), samples=_square_samples)
def inv(A: Any) -> Any:
    """The inverses of square matrices; ``LinAlgError`` for a singular one."""
    return inv_ex(A, check_errors=True)[0]


@composite("inverse", samples=_square_samples)
def inverse(input: Any) -> Any:
    """``linalg.inv`` under its old name."""
    return inv(input)


# -- determinants ----------------------------------------------------------------------------


def scalars(x: Any) -> Any:
    """One number a matrix, to multiply matrices with."""
    return x.unsqueeze(-1).unsqueeze(-1)


@register
class DetKernel(MatrixOperation):
    """The determinants of square matrices: (..., n, n) -> (...)."""

    hidden = True
    backward_name = "LinalgDetBackward0"
    saves = ("A",)

    def infer(self, A: Meta) -> Meta:
        check_matrices("linalg.det", A, square=True)
        return meta(A.shape[:-2], A.dtype)

    def reference(self, A: np.ndarray) -> np.ndarray:
        return np.linalg.det(A)

    def gradient(self, g: Any, out: Any, A: Any) -> Any:
        return scalars(g) * Cofactors.apply(A)


@register
class Cofactors(MatrixOperation):
    """The conjugate matrix of cofactors, which is the gradient of the determinant.

    From the singular values, so that it holds for singular matrices too; its own gradient needs
    the inverse.
    """

    hidden = True
    saves = ("A",)

    def infer(self, A: Meta) -> Meta:
        return meta(A.shape, A.dtype)

    def reference(self, A: np.ndarray) -> np.ndarray:
        n = A.shape[-1]
        if not np.isfinite(A).all():
            return np.full(A.shape, np.nan, A.dtype)
        u, s, vh = np.linalg.svd(A)
        others = np.repeat(s[..., None, :], n, -2)
        others[..., np.arange(n), np.arange(n)] = 1
        phase = np.conj(np.linalg.det(u) * np.linalg.det(vh))
        return phase[..., None, None] * ((u * others.prod(-1)[..., None, :]) @ vh)

    def gradient(self, g: Any, out: Any, A: Any) -> Any:
        adjoints = InvKernel.apply(A)[0].mH
        trace = (g.mH @ adjoints).diagonal(0, -2, -1).sum(-1)
        outer = scalars(trace) * adjoints - adjoints @ g.mH @ adjoints
        return scalars(DetKernel.apply(A).conj()) * outer


@composite("linalg.det", methods=(), samples=_square_samples)
def linalg_det(A: Any) -> Any:
    """The determinants of square matrices: (..., n, n) -> (...)."""
    return DetKernel.apply(A)


@composite("det", samples=_square_samples)
def det(input: Any) -> Any:
    """``linalg.det`` under its old name."""
    return DetKernel.apply(input)


@register
class SlogdetKernel(MatrixOperation):
    """The sign (or phase) of the determinants, and the logarithm of their absolute value."""

    hidden = True
    outputs = 2
    backward_name = "LinalgSlogdetBackward0"
    saves = ("A", "out[0]")

    def infer(self, A: Meta) -> tuple[Meta, Meta]:
        check_matrices("linalg.slogdet", A, square=True)
        return meta(A.shape[:-2], A.dtype), meta(A.shape[:-2], A.dtype.to_real())

    def reference(self, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.linalg.slogdet(A))

    def gradient(self, g: tuple, out: tuple, A: Any) -> Any:
        slope = None if g[1] is None else g[1].to(A.dtype)
        if A.is_complex() and g[0] is not None:
            turn = REGISTRY["imag"](g[0] * out[0].conj()) * 1j
            slope = turn if slope is None else slope + turn
        if slope is None:
            return A * 0
        return scalars(slope) * InvKernel.apply(A)[0].mH


@composite("linalg.slogdet", methods=(), samples=_square_samples)
def linalg_slogdet(A: Any) -> Any:
    """(sign, logabsdet) with det(A) = sign * exp(logabsdet); (0, -inf) for singular matrices."""
    return return_types.linalg_slogdet(SlogdetKernel.apply(A))


@composite("slogdet", samples=_square_samples)
def slogdet(input: Any) -> Any:
    """``linalg.slogdet`` under its old name."""
    return return_types.slogdet(SlogdetKernel.apply(input))


def _logdet_samples() -> Iterator[Sample]:
    yield Sample(positive_definite(3, 3), dtypes=BOTH)
    yield Sample(positive_definite(2, 3, 3))
    yield Sample(-np.eye(3), grad=False)
    yield Sample(well_conditioned(3, 3, complexes=True))


@composite("logdet", samples=_logdet_samples)
def logdet(input: Any) -> Any:
    """The logarithm of the determinants; NaN for a negative one."""
    sign, size = SlogdetKernel.apply(input)
    if input.is_complex():
        return sign.log() + size
    return size.masked_fill(sign == -1, float("nan"))


# -- systems ---------------------------------------------------------------------------------


def check_same_dtype(label: str, a: Any, b: Any) -> None:
    """Both sides of an equation have one dtype."""
    if a.dtype is not b.dtype:
        raise OperationError.make(
            label,
            f"{label}: Expected A and B to have the same dtype, but found A of type "
            f"{a.dtype.scalar_type} and B of type {b.dtype.scalar_type} instead",
            hint="convert one with .to(dtype)",
        )


def check_equation(label: str, a: Any, b: Any, left: bool) -> None:
    """The extents fit in A X = B, or X A = B."""
    if b.ndim < 2:
        raise OperationError.make(
            label,
            f"{label}: The input tensor B must have at least 2 dimensions.",
            f"a tensor of shape {list(b.shape)}",
        )
    if a.shape[-2] != b.shape[-2 if left else -1]:
        raise OperationError.make(
            label,
            f"{label}: Incompatible shapes of A and B for the equation "
            f"{'AX = B' if left else 'XA = B'} ({a.shape[-2]}x{a.shape[-1]} and "
            f"{b.shape[-2]}x{b.shape[-1]})",
        )


@register
class SolveKernel(MatrixOperation):
    """X with A X = B: (..., n, n), (..., n, k) -> (..., n, k), and info."""

    hidden = True
    outputs = 2
    backward_name = "LinalgSolveExBackward0"
    saves = ("A", "out[0]")

    def infer(self, A: Meta, B: Meta) -> tuple[Meta, Meta]:
        batch = broadcast_shapes(A.shape[:-2], B.shape[:-2])
        return meta((*batch, *B.shape[-2:]), B.dtype), meta(A.shape[:-2], dtypes.int32)

    def reference(self, A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        info = np.zeros(A.shape[:-2], np.int32)
        try:
            return np.linalg.solve(A, B), info
        except np.linalg.LinAlgError:
            info = matrices.lu(A)[2]
        regular = np.where((info == 0)[..., None, None], A, np.eye(A.shape[-1], dtype=A.dtype))
        made = np.linalg.solve(regular, B)
        return np.where((info == 0)[..., None, None], made, made.dtype.type(np.nan)), info

    def gradient(self, g: tuple, out: tuple, A: Any, B: Meta) -> Any:
        to_b = SolveKernel.apply(A.mH, g[0])[0]
        return lambda: -(to_b @ out[0].mH), to_b


def _solve_samples() -> Iterator[Sample]:
    yield Sample(SQUARE, array(3, 2), dtypes=BOTH)
    yield Sample(well_conditioned(2, 3, 3), array(3, 2))
    yield Sample(SQUARE, array(3))
    yield Sample(well_conditioned(2, 3, 3), array(2, 3))
    yield Sample(SQUARE, array(2, 3), left=False)
    yield Sample(well_conditioned(3, 3, complexes=True), complex_array(3, 2))


def is_vector(a: Any, b: Any) -> bool:
    """Whether ``b`` is a (batch of) right-hand sides without a dimension for several."""
    return b.ndim == 1 or (a.ndim - 1 == b.ndim and tuple(b.shape) == tuple(a.shape[:-1]))


@composite("linalg.solve_ex", methods=(), samples=_solve_samples)
def solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False) -> Any:
    """The solution of A X = B (or X A = B), and 0 or the number of the pivot that is zero."""
    check_matrices("linalg.solve", A, square=True)
    check_same_dtype("linalg.solve", A, B)
    vector = is_vector(A, B)
    if vector and not left:
        raise OperationError.make(
            "linalg.solve",
            "linalg.solve: Vector broadcasting of the left hand side is not supported for "
            "left=False. In this case linalg.solve is equivalent to B / A.squeeze(-1)",
        )
    right = B.unsqueeze(-1) if vector else B
    check_equation("linalg.solve", A, right, left)
    if left:
        made, info = SolveKernel.apply(A, right)
    else:
        made, info = SolveKernel.apply(A.mT, right.mT)
        made = made.mT
    if check_errors:
        message = "The solver failed because the input matrix is singular."
        check_info("linalg.solve", "torch.linalg.solve", info, lambda _: message)
    return return_types.linalg_solve_ex((made.squeeze(-1) if vector else made, info))


@composite("linalg.solve", methods=(), samples=_solve_samples)
def solve(A: Any, B: Any, *, left: bool = True) -> Any:
    """X with A X = B, or X A = B unless ``left``; ``LinAlgError`` for a singular A.

    (..., n, n), (..., n, k) or (..., n) or (n) -> the shape of B, batches broadcast.
    """
    return solve_ex(A, B, left=left, check_errors=True)[0]


# -- least squares ---------------------------------------------------------------------------


@register
class PinvKernel(MatrixOperation):
    """The pseudoinverses; singular values up to max(atol, rtol * largest) count as zero.

    Gradient: Golub and Pereyra, The differentiation of pseudo-inverses (1973).
    """

    hidden = True
    backward_name = "LinalgPinvBackward0"
    saves = ("input", "out")

    def infer(self, input: Meta, atol: Any, rtol: Any, *, hermitian: bool) -> Meta:
        check_matrices("linalg.pinv", input, square=hermitian)
        limits = [x.shape for x in (atol, rtol) if isinstance(x, Meta)]
        batch = broadcast_shapes(input.shape[:-2], *limits)
        return meta((*batch, input.shape[-1], input.shape[-2]), input.dtype)

    def reference(self, input: np.ndarray, atol: Any, rtol: Any, *, hermitian: bool) -> np.ndarray:
        if not np.isfinite(input).all():
            batch = np.broadcast_shapes(input.shape[:-2], np.shape(atol), np.shape(rtol))
            return np.full((*batch, input.shape[-1], input.shape[-2]), np.nan, input.dtype)
        if hermitian:
            s, u = np.linalg.eigh(input)
            vh = adjoint(u)
        else:
            u, s, vh = np.linalg.svd(input, full_matrices=False)
        size = np.abs(s)
        largest = size.max(-1, initial=0)
        least = np.maximum(*_limits(largest, atol, rtol, input))
        kept = size > least[..., None]
        inverted = np.where(kept, 1 / np.where(kept, s, 1), 0).astype(s.dtype)
        return (adjoint(vh) * inverted[..., None, :]) @ adjoint(u)

    def gradient(self, g: Any, out: Any, input: Any, atol: Any, rtol: Any, **_: Any) -> Any:
        p, ph, gh = out, out.mH, g.mH
        first = gh @ p @ ph
        last = ph @ p @ gh
        made = first - input @ (p @ first) + last - (last @ p) @ input - ph @ g @ ph
        return made, None, None


def _limits(largest: np.ndarray, atol: Any, rtol: Any, input: np.ndarray) -> tuple:
    """What is at most max(atol, rtol * largest) counts as zero: both, with their defaults."""
    if rtol is None:
        eps = np.finfo(input.dtype).eps
        given = atol is not None and np.any(np.asarray(atol) > 0)
        rtol = 0.0 if given else max(input.shape[-2:]) * eps
    absolute = np.asarray(0.0 if atol is None else atol)
    return np.broadcast_arrays(absolute, np.asarray(rtol) * largest)


def _limit_tensor(value: Any) -> Any:
    """A tolerance given as a tensor, without its graph."""
    return value.detach() if isinstance(value, recorder.TensorBase) else value


def _pinv_samples() -> Iterator[Sample]:
    yield Sample(array(3, 2), dtypes=BOTH)
    yield Sample(array(2, 3, 4))
    yield Sample(complex_array(3, 2))
    yield Sample(np.diag([1.0, 2.0, 0.1]), atol=0.5, rtol=0.0, grad=False)
    yield Sample(np.zeros((2, 0, 3)))
    yield Sample(positive_definite(3, 3), hermitian=True, grad=False)


@composite("linalg.pinv", methods=(), samples=_pinv_samples)
def pinv(
    A: Any,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
) -> Any:
    """The Moore-Penrose inverses: (..., m, n) -> (..., n, m).

    Singular values up to max(atol, rtol * largest) count as zero; rtol is max(m, n) * eps, or 0
    where ``atol`` is given. ``rcond`` is the old name of ``rtol``.
    """
    limits = _limit_tensor(atol), _limit_tensor(rcond if rtol is None else rtol)
    made = PinvKernel.apply(A, *limits, hermitian=bool(hermitian))
    if not hermitian and np.isnan(recorder.value(made.detach())).any():
        raise failure("linalg.pinv", NOT_CONVERGED)
    return made


@composite("pinverse", samples=lambda: iter([Sample(array(3, 2)), Sample(array(2, 2, 3))]))
def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    """``linalg.pinv`` under its old name."""
    return pinv(input, rcond)


def _matrix_rank_samples() -> Iterator[Sample]:
    low = array(4, 2) @ array(2, 3)
    yield Sample(low, dtypes=BOTH)
    yield Sample(np.stack([low, array(4, 3)]))
    yield Sample(np.diag([1.0, 2.0, 0.1]), 0.5)
    yield Sample(np.diag([1.0, -2.0, 0.1]), hermitian=True, rtol=0.5)


@composite("linalg.matrix_rank", methods=(), samples=_matrix_rank_samples)
def matrix_rank(
    A: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Any:
    """How many singular values exceed max(atol, rtol * largest): (..., m, n) -> (...).

    rtol is max(m, n) * eps, or 0 where ``atol`` (or its old name ``tol``) is given.
    """
    check_matrices("torch.linalg.matrix_rank", A, square=hermitian)
    A = A.detach()
    if tol is not None:
        atol, rtol = tol, 0.0
    if atol is not None and rtol is None:
        given = isinstance(atol, recorder.TensorBase) or atol > 0
        rtol = 0.0 if given else None
    if rtol is None:
        rtol = max(A.shape[-2:]) * dtypes.finfo(A.dtype).eps
    sizes = eigvalsh(A).abs() if hermitian else svdvals(A)
    if sizes.shape[-1] == 0:
        return A.new_zeros(A.shape[:-2], dtype=dtypes.int64)
    least = sizes.amax(-1) * rtol
    if atol is not None:
        least = (
            least.clamp(min=atol)
            if not isinstance(atol, recorder.TensorBase)
            else (REGISTRY["maximum"](least, atol.to(least.dtype)))
        )
    return (sizes > least.unsqueeze(-1)).sum(-1)


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def _lstsq_samples() -> Iterator[Sample]:
    yield Sample(array(4, 2), array(4, 1), dtypes=BOTH)
    yield Sample(array(2, 4, 3), array(2, 4, 2), driver="gelsd")
    yield Sample(array(2, 4), array(2, 1), driver="gels")
    yield Sample(array(2, 4, 3), array(2, 4), driver="gelss")


@composite("linalg.lstsq", methods=(), samples=_lstsq_samples)
def lstsq(A: Any, B: Any, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """X of least norm with least ||A X - B||: (solution, residuals, rank, singular_values).

    (..., m, n), (..., m, k) -> (..., n, k). ``driver`` says, as in LAPACK, what else is computed:
    "gels" takes A to have full rank; the others give its rank (singular values up to rcond times
    the largest count as zero), and "gelsd" and "gelss" the singular values. The solution is the
    same: by the pseudoinverse. Residuals are given where m > n and every rank is full, except by
    "gelsy", the default.
    """
    driver = driver or "gelsy"
    if driver not in _DRIVERS:
        raise OperationError.make(
            "linalg.lstsq",
            "torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)",
            repr(driver),
        )
    check_matrices("torch.linalg.lstsq", A)
    check_same_dtype("torch.linalg.lstsq", A, B)
    vector = is_vector(A, B)
    right = B.unsqueeze(-1) if vector else B
    m, n = A.shape[-2:]
    if right.ndim < 2 or right.shape[-2] != m:
        raise OperationError.make(
            "linalg.lstsq",
            "torch.linalg.lstsq: input.size(-2) should match other.size(-2)",
            f"{list(A.shape)} and {list(B.shape)}",
        )
    limit = dtypes.finfo(A.dtype).eps * max(m, n) if rcond is None else rcond
    made = PinvKernel.apply(A, None, 0.0 if driver == "gels" else limit, hermitian=False) @ right
    singular, rank = _ranks(A.detach(), limit, driver)
    full = driver == "gels" or (driver != "gelsy" and bool((rank == n).all()))
    residuals = A.new_empty(0, dtype=A.dtype.to_real())
    if m > n and full:
        residuals = (A @ made - right).abs().square().sum(-2)
    made = made.squeeze(-1) if vector else made
    return return_types.linalg_lstsq((made, residuals, rank, singular))


def _ranks(A: Any, limit: float, driver: str) -> tuple[Any, Any]:
    """The singular values and the rank, empty where the driver does not give them."""
    nothing = A.new_empty(0, dtype=A.dtype.to_real())
    if driver == "gels":
        return nothing, A.new_empty(0, dtype=dtypes.int64)
    rank = matrix_rank(A, rtol=limit)
    return (nothing if driver == "gelsy" else svdvals(A)), rank


# -- shapes as matrices ----------------------------------------------------------------------


def _tensorinv_samples() -> Iterator[Sample]:
    yield Sample(well_conditioned(6, 6).reshape(2, 3, 6), dtypes=BOTH)
    yield Sample(well_conditioned(6, 6).reshape(6, 3, 2), 1)


@composite("linalg.tensorinv", methods=(), samples=_tensorinv_samples)
def tensorinv(A: Any, ind: int = 2) -> Any:
    """The inverse of the map from the dimensions after ``ind`` to those before it."""
    ind = operator.index(ind)
    if ind <= 0:
        raise OperationError.make(
            "linalg.tensorinv", f"Expected a strictly positive integer for 'ind', but got {ind}"
        )
    rows = int(np.prod(A.shape[:ind], dtype=np.int64))
    columns = int(np.prod(A.shape[ind:], dtype=np.int64))
    if rows != columns:
        raise OperationError.make(
            "linalg.tensorinv",
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == "
            f"prod(self.shape[:ind]), but got {columns} != {rows}",
        )
    made, info = inv_ex(A.reshape(rows, columns))
    message = "Failed to invert the input tensor, because it is singular."
    check_info("linalg.tensorinv", "linalg.tensorinv", info, lambda _: message)
    return made.reshape(*A.shape[ind:], *A.shape[:ind])


def _tensorsolve_samples() -> Iterator[Sample]:
    yield Sample(well_conditioned(6, 6).reshape(2, 3, 6), array(2, 3), dtypes=BOTH)
    yield Sample(well_conditioned(6, 6).reshape(3, 2, 6).transpose(0, 2, 1), array(3, 2), (1,))


@composite("linalg.tensorsolve", methods=(), samples=_tensorsolve_samples)
def tensorsolve(A: Any, B: Any, dims: tuple[int, ...] | None = None) -> Any:
    """X with tensordot(A, X, X.ndim) = B; ``dims`` of A are moved to its end before."""
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = A.shape[B.ndim :]
    rows = int(np.prod(A.shape[: B.ndim], dtype=np.int64))
    columns = int(np.prod(shape, dtype=np.int64))
    if rows != columns:
        raise OperationError.make(
            "linalg.tensorsolve",
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {columns} != {rows}",
        )
    return solve(A.reshape(rows, columns), B.reshape(rows)).reshape(shape)
