"""Decompositions of matrices: Cholesky, QR, eigenvalues and singular values.

What a decomposition leaves open (signs, phases, the order of equal eigenvalues) is as LAPACK
gives it. Gradients: Giles, Collected matrix derivative results (2008); Walter and Lehmann,
Algorithmic differentiation of linear algebra functions (2012); Townsend, Differentiating the
singular value decomposition (2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from taimatsu import dtypes, recorder, return_types
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import REGISTRY, Sample, array, composite, register
from taimatsu.ops.elementwise import complex_array
from taimatsu.ops.matrices import (
    MatrixOperation,
    adjoint,
    check_info,
    check_matrices,
    each,
    failure,
    positive_definite,
    well_conditioned,
)

BOTH = ("float32", "float64")
NOT_CONVERGED = (
    "linalg.svd: The algorithm failed to converge because the input matrix contained non-finite "
    "values."
)


def _triangular(a: Any, b: Any, upper: bool, left: bool = True) -> Any:
    """The solution of a triangular system, by the kernel."""
    return REGISTRY["linalg.solve_triangular"](a, b, upper=upper, left=left)


def _diagonal(x: Any) -> Any:
    return x.diagonal(0, -2, -1)


def _with_diagonal(x: Any, value: float) -> Any:
    """A square matrix with its diagonal replaced by one number."""
    n = x.shape[-1]
    return x.masked_fill(recorder.constant(np.eye(n, dtype=bool)), value)


def _check_phase(name: str, what: str, imaginary: Any, scale: Any) -> None:
    """Refuses the gradient of a function of the phases that a decomposition leaves open."""
    if not imaginary.numel():
        return
    found, size = recorder.value(imaginary.detach()), recorder.value(scale.detach())
    tolerance = 1e-2 if found.dtype == np.float32 else 1e-5
    if not np.allclose(found, 0, atol=tolerance * max(1.0, float(np.abs(size).max()))):
        raise OperationError.make(
            name,
            f"{name}_backward: The {what} in the complex case are specified up to multiplication "
            "by e^{i phi}. The specified loss function depends on this quantity, so it is "
            "ill-defined.",
        )


# -- Cholesky --------------------------------------------------------------------------------


@register
class CholeskyKernel(MatrixOperation):
    """(..., n, n) -> L with L L^H = input (only one triangle is read), and info."""

    hidden = True
    outputs = 2
    backward_name = "LinalgCholeskyExBackward0"
    saves = ("out[0]",)

    def infer(self, input: Meta, *, upper: bool) -> tuple[Meta, Meta]:
        check_matrices("linalg.cholesky", input, square=True)
        return meta(input.shape, input.dtype), meta(input.shape[:-2], dtypes.int32)

    def reference(self, input: np.ndarray, *, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        lower = adjoint(input) if upper else input
        info = np.zeros(input.shape[:-2], np.int32)
        try:
            made = np.linalg.cholesky(lower)
        except np.linalg.LinAlgError:
            made = np.empty_like(input, order="C")
            each(_cholesky_until_failure, lower, made, info)
        return adjoint(made) if upper else made, info

    def gradient(self, g: tuple, out: tuple, input: Meta, *, upper: bool) -> Any:
        lower = out[0].mH if upper else out[0]
        outer = g[0].mH if upper else g[0]
        inner = (lower.mH @ outer).tril()
        half = _triangular(lower.mH, 0.5 * (inner + inner.tril(-1).mH), True)
        return _triangular(lower, half, False, left=False)


def _cholesky_until_failure(a: np.ndarray) -> tuple[np.ndarray, int]:
    """One matrix, column by column; with the order of the leading minor that is not positive."""
    made = np.tril(a)
    for j in range(len(a)):
        row = made[j, :j]
        square = a[j, j].real - np.vdot(row, row).real
        if not square > 0:
            return made, j + 1
        made[j, j] = np.sqrt(square)
        made[j + 1 :, j] = (a[j + 1 :, j] - made[j + 1 :, :j] @ row.conj()) / made[j, j]
    return made, 0


def _cholesky_samples() -> Iterator[Sample]:
    yield Sample(positive_definite(3, 3), dtypes=BOTH)
    yield Sample(positive_definite(2, 3, 3), upper=True)
    yield Sample(positive_definite(3, 3, complexes=True))
    yield Sample(np.zeros((2, 0, 0)))


def _check_definite(info: Any) -> None:
    check_info(
        "linalg.cholesky",
        "linalg.cholesky",
        info,
        lambda i: (
            "The factorization could not be completed because the input is not positive-definite "
            f"(the leading minor of order {i} is not positive-definite)."
        ),
    )


@composite("linalg.cholesky_ex", methods=(), samples=_cholesky_samples)
def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False) -> Any:
    """The Cholesky factor, and 0 or the order of the minor that is not positive definite."""
    made = CholeskyKernel.apply(A, upper=bool(upper))
    if check_errors:
        _check_definite(made[1])
    return return_types.linalg_cholesky_ex(made)


@composite("linalg.cholesky", methods=(), samples=_cholesky_samples)
def linalg_cholesky(A: Any, *, upper: bool = False) -> Any:
    """L with L L^H = A, or U with U^H U = A; ``LinAlgError`` unless A is positive definite."""
    return cholesky_ex(A, upper=upper, check_errors=True)[0]


@composite("cholesky", samples=_cholesky_samples)
def cholesky(input: Any, upper: bool = False) -> Any:
    """``linalg.cholesky`` under its old name."""
    return linalg_cholesky(input, upper=upper)


# -- QR --------------------------------------------------------------------------------------


@register
class QrKernel(MatrixOperation):
    """(..., m, n) -> Q with orthonormal columns and upper triangular R, Q R = input."""

    hidden = True
    outputs = 2
    backward_name = "LinalgQrBackward0"
    saves = ("out",)

    def infer(self, input: Meta, *, mode: str) -> tuple[Meta, Meta]:
        check_matrices("linalg.qr", input)
        *batch, m, n = input.shape
        inner = m if mode == "complete" else min(m, n)
        q = (0,) if mode == "r" else (*batch, m, inner)
        return meta(q, input.dtype), meta((*batch, inner, n), input.dtype)

    def reference(self, input: np.ndarray, *, mode: Literal["reduced", "complete", "r"]) -> tuple:
        if mode == "r":
            return np.zeros(0, input.dtype), np.linalg.qr(input, "r")
        return tuple(np.linalg.qr(input, mode))

    def gradient(self, g: tuple, out: tuple, input: Meta, *, mode: str) -> Any:
        m, n = input.shape[-2:]
        if mode == "r":
            raise self.error(
                "The derivative of linalg.qr depends on Q, which is not computed when mode='r'",
                hint="Please use linalg.qr(A, mode='reduced') if you are going to differentiate "
                "through linalg.qr.",
            )
        if mode == "complete" and m > n:
            raise self.error(
                "The QR decomposition is not differentiable when mode='complete' and nrows > ncols."
            )
        q, r = out
        gq, gr = (x if y is None else y for x, y in zip((q * 0, r * 0), g, strict=True))
        if m >= n:
            return _qr_gradient(q, r, gq, gr)
        # A = [X | Y], R = [R1 | Q^H Y]: a square decomposition, and a product.
        left, right = r.narrow(-1, 0, m), gr.narrow(-1, m, n - m)
        rest = q @ r.narrow(-1, m, n - m)
        square = _qr_gradient(q, left, gq + rest @ right.mH, gr.narrow(-1, 0, m))
        return REGISTRY["cat"]([square, q @ right], -1)


def _qr_gradient(q: Any, r: Any, gq: Any, gr: Any) -> Any:
    """The gradient for a matrix that is not wider than high."""
    inner = r @ gr.mH - gq.mH @ q
    lower = inner.tril(-1)
    diagonal = _diagonal(inner)
    diagonal = REGISTRY["real"](diagonal).to(inner.dtype).diag_embed()
    return _triangular(r.mH, gq + q @ (lower + lower.mH + diagonal), False, left=False)


def _qr_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3), dtypes=BOTH)
    yield Sample(array(2, 3, 3))
    yield Sample(array(3, 5))
    yield Sample(complex_array(3, 3), grad=False)


def _linalg_qr_samples() -> Iterator[Sample]:
    yield from _qr_samples()
    yield Sample(array(4, 3), "r", grad=False)
    yield Sample(array(4, 3), mode="complete", grad=False)
    yield Sample(array(3, 4), mode="complete")


@composite("linalg.qr", methods=(), samples=_linalg_qr_samples)
def linalg_qr(A: Any, mode: str = "reduced") -> Any:
    """(Q, R): "reduced" has min(m, n) columns in Q, "complete" m, "r" computes R alone."""
    if mode not in ("reduced", "complete", "r"):
        raise OperationError.make(
            "linalg.qr",
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), "
            "'r', or 'complete'",
        )
    return return_types.linalg_qr(QrKernel.apply(A, mode=mode))


@composite("qr", samples=_qr_samples)
def qr(input: Any, some: bool = True) -> Any:
    """``linalg.qr`` under its old name; ``some=False`` is "complete"."""
    return return_types.qr(QrKernel.apply(input, mode="reduced" if some else "complete"))


@register
class GeqrfKernel(MatrixOperation):
    """(..., m, n) -> R above reflectors, and their factors tau, as LAPACK's geqrf."""

    hidden = True
    outputs = 2
    differentiable = False

    def infer(self, input: Meta) -> tuple[Meta, Meta]:
        check_matrices("geqrf", input)
        *batch, m, n = input.shape
        return meta(input.shape, input.dtype), meta((*batch, min(m, n)), input.dtype)

    def reference(self, input: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        made, tau = np.linalg.qr(input, "raw")
        return np.swapaxes(made, -1, -2), tau


@composite("geqrf", samples=lambda: iter([Sample(array(4, 3)), Sample(array(2, 3, 4))]))
def geqrf(input: Any) -> Any:
    """QR with Q left as Householder reflectors (see ``linalg.householder_product``): (a, tau)."""
    return return_types.geqrf(GeqrfKernel.apply(input))


# -- eigenvalues -----------------------------------------------------------------------------


def _check_triangle(uplo: str) -> str:
    if uplo.upper() not in ("L", "U"):
        raise OperationError.make(
            "linalg.eigh", f"Expected UPLO argument to be 'L' or 'U', but got {uplo}"
        )
    return uplo.upper()


@register
class EighKernel(MatrixOperation):
    """Hermitian (..., n, n) -> ascending eigenvalues and orthonormal eigenvectors."""

    hidden = True
    outputs = 2
    backward_name = "LinalgEighBackward0"
    saves = ("out",)

    def infer(self, input: Meta, *, triangle: str) -> tuple[Meta, Meta]:
        check_matrices("linalg.eigh", input, square=True)
        return meta(input.shape[:-1], input.dtype.to_real()), meta(input.shape, input.dtype)

    def reference(self, input: np.ndarray, *, triangle: Literal["L", "U"]) -> tuple:
        try:
            return tuple(np.linalg.eigh(input, triangle))
        except np.linalg.LinAlgError:
            return _of_finite(input, lambda x: tuple(np.linalg.eigh(x, triangle)))

    def gradient(self, g: tuple, out: tuple, input: Meta, *, triangle: str) -> Any:
        values, vectors = out
        inner = None
        if g[1] is not None:
            turned = vectors.mH @ g[1]
            if turned.is_complex():
                phases = REGISTRY["imag"](_diagonal(turned))
                _check_phase("linalg_eigh", "eigenvectors", phases, turned.abs())
            gaps = _with_diagonal(values.unsqueeze(-2) - values.unsqueeze(-1), np.inf)
            inner = turned / gaps
        if g[0] is not None:
            along = g[0].to(vectors.dtype).diag_embed()
            inner = along if inner is None else inner + along
        return vectors @ inner @ vectors.mH


def _of_finite(x: np.ndarray, function: Any) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors matrix by matrix; NaN for a matrix that is not finite."""
    real = x.real.dtype
    values, vectors = np.full(x.shape[:-1], np.nan, real), np.full(x.shape, np.nan, x.dtype)
    for i in np.ndindex(x.shape[:-2]):
        if not np.isfinite(x[i]).all():
            continue
        try:
            values[i], vectors[i] = function(x[i])
        except np.linalg.LinAlgError:
            raise failure(
                "linalg.eigh",
                "linalg.eigh: The algorithm failed to converge because the input matrix is "
                "ill-conditioned or has too many repeated eigenvalues.",
            ) from None
    return values, vectors


def _eigh_samples() -> Iterator[Sample]:
    yield Sample(positive_definite(3, 3), dtypes=BOTH)
    yield Sample(positive_definite(2, 3, 3), "U")
    yield Sample(positive_definite(3, 3, complexes=True), grad=False)


def _eigvalsh_samples() -> Iterator[Sample]:
    yield from _eigh_samples()
    yield Sample(positive_definite(3, 3, complexes=True), UPLO="U")
    yield Sample(np.zeros((2, 0, 0)))


@composite("linalg.eigh", methods=(), samples=_eigh_samples)
def eigh(A: Any, UPLO: str = "L") -> Any:
    """Eigenvalues (ascending) and eigenvectors (columns) of Hermitian matrices.

    Only the triangle ``UPLO`` is read; the gradient is that of the whole matrix.
    """
    made = EighKernel.apply(A, triangle=_check_triangle(UPLO))
    return return_types.linalg_eigh(made)


@composite("linalg.eigvalsh", methods=(), samples=_eigvalsh_samples)
def eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """The eigenvalues of Hermitian matrices, ascending."""
    return eigh(A, UPLO)[0]


@register
class EigKernel(MatrixOperation):
    """(..., n, n) -> complex eigenvalues and eigenvectors of norm 1."""

    hidden = True
    outputs = 2
    backward_name = "LinalgEigBackward0"
    saves = ("out",)

    def infer(self, input: Meta) -> tuple[Meta, Meta]:
        kind = input.dtype.to_complex()
        return meta(input.shape[:-1], kind), meta(input.shape, kind)

    def reference(self, input: np.ndarray) -> tuple:
        return tuple(np.linalg.eig(input))

    def gradient(self, g: tuple, out: tuple, input: Meta) -> Any:
        values, vectors = out
        adjoints = vectors.mH
        inner = None
        if g[1] is not None:
            turned = adjoints @ g[1]
            diagonal = _diagonal(turned)
            phases = REGISTRY["imag"](diagonal)
            _check_phase("linalg_eig", "eigenvectors", phases, turned.abs())
            norms = REGISTRY["real"](diagonal).to(vectors.dtype).unsqueeze(-2)
            gaps = (values.unsqueeze(-2) - values.unsqueeze(-1)).conj()
            inner = (turned - adjoints @ (vectors * norms)) / _with_diagonal(gaps, 1)
            inner = _with_diagonal(inner, 0)
        if g[0] is not None:
            along = g[0].diag_embed()
            inner = along if inner is None else inner + along
        made = REGISTRY["linalg.solve_ex"](adjoints, inner @ adjoints)[0]
        return made if input.dtype.is_complex else REGISTRY["real"](made)


def _eig_samples() -> Iterator[Sample]:
    yield Sample(np.diag([1.0, 3.0, 5.0]) + 0.2 * array(3, 3), dtypes=BOTH, grad=False)
    yield Sample(well_conditioned(3, 3, complexes=True), grad=False)


def _eigvals_samples() -> Iterator[Sample]:
    yield Sample(np.diag([1.0, 3.0, 5.0]) + 0.2 * array(3, 3), dtypes=BOTH)
    yield Sample(np.diag([1.0, 4.0, 8.0]) + 0.2 * complex_array(2, 3, 3))


@composite("linalg.eig", methods=(), samples=_eig_samples)
def eig(A: Any) -> Any:
    """Complex eigenvalues and eigenvectors (columns) of square matrices, in no fixed order."""
    check_matrices("linalg.eig", A, square=True)
    if not np.isfinite(recorder.value(A)).all():
        raise failure(
            "linalg.eig", "torch.linalg.eig: input tensor should not contain infs or NaNs."
        )
    return return_types.linalg_eig(EigKernel.apply(A))


@composite("linalg.eigvals", methods=(), samples=_eigvals_samples)
def eigvals(A: Any) -> Any:
    """The complex eigenvalues of square matrices, in no fixed order."""
    return eig(A)[0]


# -- singular values -------------------------------------------------------------------------


@register
class SvdKernel(MatrixOperation):
    """(..., m, n) -> U, descending S, V^H with U diag(S) V^H = input; NaN where it fails."""

    hidden = True
    outputs = 3
    backward_name = "LinalgSvdBackward0"
    saves = ("out",)

    def infer(self, input: Meta, *, full: bool) -> tuple[Meta, Meta, Meta]:
        check_matrices("linalg.svd", input)
        *batch, m, n = input.shape
        k = min(m, n)
        return (
            meta((*batch, m, m if full else k), input.dtype),
            meta((*batch, k), input.dtype.to_real()),
            meta((*batch, n if full else k, n), input.dtype),
        )

    def reference(self, input: np.ndarray, *, full: bool) -> tuple[np.ndarray, ...]:
        try:
            return tuple(np.linalg.svd(input, full))
        except np.linalg.LinAlgError:
            shapes = [tuple(part.shape) for part in self.infer(_described(input), full=full)]
            kinds = (input.dtype, input.real.dtype, input.dtype)
            return tuple(np.full(s, np.nan, k) for s, k in zip(shapes, kinds, strict=True))

    def gradient(self, g: tuple, out: tuple, input: Meta, *, full: bool) -> Any:
        m, n = input.shape[-2:]
        k = min(m, n)
        u, s, vh = out[0].narrow(-1, 0, k), out[1], out[2].narrow(-2, 0, k)
        gu = None if g[0] is None else g[0].narrow(-1, 0, k)
        gvh = None if g[2] is None else g[2].narrow(-2, 0, k)
        inner = None if g[1] is None else g[1].to(u.dtype).diag_embed()
        if gu is None and gvh is None:
            return u @ inner @ vh
        turned = _svd_turned(u, s, vh, gu, gvh)
        made = u @ (turned if inner is None else inner + turned) @ vh
        if gu is not None and m > k:
            off = gu / s.unsqueeze(-2)
            made = made + (off - u @ (u.mH @ off)) @ vh
        if gvh is not None and n > k:
            off = gvh / s.unsqueeze(-1)
            made = made + u @ (off - (off @ vh.mH) @ vh)
        return made


def _described(x: np.ndarray) -> Meta:
    return meta(x.shape, dtypes.from_numpy(x.dtype))


def _svd_turned(u: Any, s: Any, vh: Any, gu: Any, gvh: Any) -> Any:
    """What rotations of the singular vectors give the gradient of U^H A V: (..., k, k)."""
    squares = s * s
    gaps = _with_diagonal(squares.unsqueeze(-2) - squares.unsqueeze(-1), 1)
    left = right = None
    if gu is not None:
        left = u.mH @ gu
        left = left - left.mH
    if gvh is not None:
        right = vh @ gvh.mH
        right = right - right.mH
    if u.is_complex():
        phases = sum(REGISTRY["imag"](_diagonal(x)) for x in (left, right) if x is not None)
        scale = sum(x.abs().sum() for x in (left, right) if x is not None)
        _check_phase("svd", "singular vectors", phases, scale)
    made: Any = 0
    if left is not None:
        made = made + (left / gaps) * s.unsqueeze(-2)
        if u.is_complex():
            made = made + (_diagonal(left) / (2 * s)).diag_embed()
            made = made - (_diagonal(left) * s).diag_embed()
    if right is not None:
        off = _with_diagonal(right, 0) if u.is_complex() else right
        made = made + s.unsqueeze(-1) * (off / gaps)
    return made


def _svd_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3), False, dtypes=BOTH)
    yield Sample(array(3, 5), full_matrices=False)
    yield Sample(array(2, 3, 3))
    yield Sample(array(4, 2), grad=False)


def _svdvals_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3), dtypes=BOTH)
    yield Sample(array(2, 3, 5))
    yield Sample(complex_array(3, 2))
    yield Sample(np.zeros((2, 0, 3)))


def checked_svd(A: Any, full: bool) -> tuple[Any, Any, Any]:
    """The decomposition, or ``LinAlgError`` where it does not exist."""
    made = SvdKernel.apply(A, full=full)
    values = recorder.value(made[1].detach())
    if np.isnan(values).any():
        raise failure("linalg.svd", NOT_CONVERGED)
    return made


@composite("linalg.svd", methods=(), samples=_svd_samples)
def linalg_svd(A: Any, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) with A = U diag(S) Vh; ``full_matrices`` makes U and Vh square.

    ``driver`` chooses among CUDA's solvers in PyTorch; like there, it is refused for the CPU.
    """
    if driver is not None:
        raise OperationError.make(
            "linalg.svd",
            "torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with "
            "cuSOLVER backend.",
        )
    return return_types.linalg_svd(checked_svd(A, bool(full_matrices)))


@composite("linalg.svdvals", methods=(), samples=_svdvals_samples)
def svdvals(A: Any, *, driver: str | None = None) -> Any:
    """The singular values, descending: (..., m, n) -> (..., min(m, n))."""
    return linalg_svd(A, False, driver=driver)[1]


@composite("svd", samples=lambda: iter([Sample(array(4, 3)), Sample(array(2, 3, 4))]))
def svd(input: Any, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V) with input = U diag(S) V^H: ``linalg.svd`` in its old form."""
    if compute_uv:
        u, s, vh = checked_svd(input, not some)
        return return_types.svd((u, s, vh.mH))
    check_matrices("svd", input)
    *batch, m, n = input.shape
    values = checked_svd(input, False)[1]
    return return_types.svd((input.new_zeros(*batch, m, m), values, input.new_zeros(*batch, n, n)))
