"""Linear algebra: factors that multiply back, failures, and what signs leave open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as tm
from taimatsu.autograd import gradcheck, gradgradcheck
from taimatsu.ops import matrices

LinAlgError = tm.linalg.LinAlgError
KINDS = ["float32", "float64", "complex64", "complex128"]
SHAPES = [(3, 3), (4, 3), (3, 4), (2, 3, 3), (2, 2, 4, 3)]


def matrix(*shape: int, kind: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    made = rng.uniform(-2, 2, shape)
    if kind.startswith("complex"):
        made = made + 1j * rng.uniform(-2, 2, shape)
    return tm.from_numpy(made).to(getattr(tm, kind))


def close(a: Any, b: Any) -> None:
    tolerance = 1e-4 if a.dtype in (tm.float32, tm.complex64) else 1e-10
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


def spread(values: Any, like: Any) -> Any:
    return values.to(like.dtype).diag_embed()


# -- factors multiply back ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_svd(shape: tuple, kind: str) -> None:
    a = matrix(*shape, kind=kind)
    u, s, vh = tm.linalg.svd(a, full_matrices=False)
    close(u @ spread(s, u) @ vh, a)
    close(tm.linalg.svdvals(a), s)
    full = tm.linalg.svd(a)
    assert full.U.shape[-1] == shape[-2]
    assert full.Vh.shape[-1] == shape[-1]
    old = tm.svd(a)
    close(old.U @ spread(old.S, u) @ old.V.mH, a)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_qr(shape: tuple, kind: str, mode: str) -> None:
    a = matrix(*shape, kind=kind)
    q, r = tm.linalg.qr(a, mode)
    close(q @ r, a)
    close(r, r.triu())
    close(tm.linalg.qr(a, "r").R, tm.linalg.qr(a).R)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_lu(shape: tuple, kind: str) -> None:
    a = matrix(*shape, kind=kind)
    p, lower, upper = tm.linalg.lu(a)
    close(p @ lower @ upper, a)
    factors, pivots = tm.linalg.lu_factor(a)
    assert pivots.dtype is tm.int32
    if shape[-1] == shape[-2]:
        b = matrix(*shape[:-1], 2, kind=kind)
        close(a @ tm.linalg.lu_solve(factors, pivots, b), b)
        close(a.mH @ tm.linalg.lu_solve(factors, pivots, b, adjoint=True), b)


def test_lu_of_more_columns_than_a_panel() -> None:
    a = matrix(90, 70)
    p, lower, upper = tm.linalg.lu(a)
    close(p @ lower @ upper, a)
    close(tm.linalg.lu(a.mT)[1].abs().amax(), tm.ones((), dtype=tm.float64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["L", "U"])
def test_eigh(kind: str, side: str) -> None:
    a = matrix(2, 4, 4, kind=kind)
    a = a + a.mH
    read = a.tril() if side == "L" else a.triu()
    values, vectors = tm.linalg.eigh(read, side)
    close(vectors @ spread(values, vectors) @ vectors.mH, a)
    close(tm.linalg.eigvalsh(read, side), values)


@pytest.mark.parametrize("kind", KINDS)
def test_eig(kind: str) -> None:
    a = matrix(2, 4, 4, kind=kind)
    values, vectors = tm.linalg.eig(a)
    assert values.is_complex()
    assert vectors.is_complex()
    close(a.to(vectors.dtype) @ vectors, vectors @ spread(values, vectors))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upper", [False, True])
def test_cholesky_reads_one_triangle(kind: str, upper: bool) -> None:
    a = matrix(2, 3, 3, kind=kind)
    a = a @ a.mH + tm.eye(3, dtype=a.dtype)
    factor = tm.linalg.cholesky(a.triu() if upper else a.tril(), upper=upper)
    close(factor.mH @ factor if upper else factor @ factor.mH, a)
    close(tm.cholesky_inverse(factor, upper) @ a, tm.eye(3, dtype=a.dtype).expand(2, 3, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_reflectors(kind: str) -> None:
    a = matrix(4, 3, kind=kind)
    reflectors, tau = tm.geqrf(a)
    close(tm.linalg.householder_product(reflectors, tau), tm.linalg.qr(a).Q)
    whole = tm.linalg.qr(a, "complete").Q
    b = matrix(4, 4, kind=kind, seed=1)
    close(tm.ormqr(reflectors, tau, b), whole @ b)
    close(tm.ormqr(reflectors, tau, b, True, True), whole.mH @ b)
    close(tm.ormqr(reflectors, tau, b, False), b @ whole)
    close(tm.ormqr(reflectors, tau, b, False, True), b @ whole.mH)


def test_pinv_of_low_rank() -> None:
    a = matrix(4, 2) @ matrix(2, 3)
    p = tm.linalg.pinv(a)
    close(a @ p @ a, a)
    close(p @ a @ p, p)
    assert tm.linalg.matrix_rank(a).item() == 2


def test_pinv_with_a_limit_for_each_matrix() -> None:
    a = tm.tensor([[1.0, 0.0], [0.0, 0.1]], dtype=tm.float64).requires_grad_(True)
    made = tm.linalg.pinv(a, atol=tm.tensor([0.0, 0.5], dtype=tm.float64))
    assert made.tolist() == [[[1.0, 0.0], [0.0, 10.0]], [[1.0, 0.0], [0.0, 0.0]]]
    made.sum().backward()
    assert a.grad.shape == (2, 2)


def test_matrix_exp_of_large_norm() -> None:
    a = matrix(4, 4) * 20
    values, vectors = tm.linalg.eig(a)
    wanted = (vectors @ spread(values.exp(), vectors) @ tm.linalg.inv(vectors)).real
    made = tm.matrix_exp(a)
    assert float(((made - wanted).norm() / wanted.norm()).item()) < 1e-9


# -- failures ----------------------------------------------------------------------------------

SINGULAR = tm.ones(3, 3)
MIXED = tm.stack([tm.eye(3), SINGULAR])
NOT_FINITE = tm.full((2, 2), float("nan"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.linalg.inv(SINGULAR), r"linalg.inv: The diagonal element 2 is zero, the inv"),
        (lambda: tm.inverse(MIXED), r"\(Batch element 1\): The diagonal element 2 is zero"),
        (lambda: tm.linalg.solve(SINGULAR, SINGULAR), "solver failed because the input matrix is"),
        (lambda: tm.linalg.cholesky(-SINGULAR), "the leading minor of order 1 is not positive-def"),
        (lambda: tm.linalg.svd(NOT_FINITE), "contained non-finite values"),
        (lambda: tm.linalg.pinv(NOT_FINITE), "contained non-finite values"),
        (lambda: tm.linalg.eig(NOT_FINITE), "should not contain infs or NaNs"),
    ],
)
def test_linalg_error(call: Callable, message: str) -> None:
    pending = tm.ones(2) * 3
    with pytest.raises(LinAlgError, match=message):
        call()
    assert pending.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.linalg.inv(tm.ones(2, 3)), "batches of square matrices, but they are 2 by 3"),
        (lambda: tm.linalg.det(tm.ones(3)), "must have at least 2 dimensions"),
        (lambda: tm.linalg.svd(tm.ones(2, 2, dtype=tm.int64)), "Got Long"),
        (lambda: tm.linalg.inv(tm.ones(2, 2).half()), "Low precision dtypes not supported"),
        (lambda: tm.linalg.solve(tm.eye(3), tm.ones(2, 3)), r"AX = B \(3x3 and 2x3\)"),
        (lambda: tm.linalg.solve(tm.eye(3), tm.ones(3).double()), "A of type Float and B of type"),
        (lambda: tm.linalg.qr(SINGULAR, "bad"), "unrecognized mode 'bad'"),
        (lambda: tm.linalg.eigh(SINGULAR, "X"), "UPLO argument to be 'L' or 'U'"),
        (lambda: tm.linalg.lu_factor(SINGULAR), r"U\[2,2\] is zero"),
        (lambda: tm.linalg.lu(SINGULAR, pivot=False), "LU without pivoting is not implemented"),
        (lambda: tm.linalg.cond(SINGULAR, "x"), "invalid norm type"),
        (lambda: tm.linalg.tensorinv(tm.ones(2, 3, 4), 1), "but got 12 != 2"),
        (lambda: tm.linalg.lstsq(tm.ones(4, 2), tm.ones(3, 2)), "should match other"),
    ],
)
def test_errors_at_the_call(call: Callable, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call()


def test_info_instead_of_an_error() -> None:
    inverse, info = tm.linalg.inv_ex(MIXED)
    assert info.tolist() == [0, 2]
    assert inverse[0].tolist() == tm.eye(3).tolist()
    assert tm.linalg.solve_ex(MIXED, tm.ones(3, 1)).info.tolist() == [0, 2]
    assert tm.linalg.cholesky_ex(MIXED).info.tolist() == [0, 2]
    assert tm.linalg.lu_factor_ex(MIXED).info.tolist() == [0, 2]


def test_singular_matrices_without_an_error() -> None:
    assert tm.linalg.det(SINGULAR).item() == pytest.approx(0)
    assert tm.linalg.slogdet(SINGULAR)[1].item() == float("-inf")
    assert tm.linalg.cond(SINGULAR, 1).item() == float("inf")
    assert np.isnan(tm.linalg.eigvalsh(NOT_FINITE).numpy()).all()
    made = tm.linalg.solve_triangular(tm.zeros(2, 2), tm.ones(2, 1), upper=True)
    assert made[1, 0].item() == float("inf")


def test_gradient_of_a_determinant_that_is_zero() -> None:
    a = tm.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=tm.float64, requires_grad=True)
    tm.linalg.det(a).backward()
    np.testing.assert_allclose(a.grad.numpy(), [[4, -2], [-2, 1]], atol=1e-12)


# -- gradients that signs do not change --------------------------------------------------------


def _hermitian(a: Any) -> Any:
    return a + a.mH


SIGNLESS: dict[str, Callable] = {
    "svd": lambda lib, a: [x.abs() for x in lib.linalg.svd(a, full_matrices=False)],
    "svd, old": lambda lib, a: [x.abs() for x in lib.svd(a)],
    "eigh": lambda lib, a: [x.abs() for x in lib.linalg.eigh(_hermitian(a[..., :3, :3]))],
    "eigvalsh": lambda lib, a: [lib.linalg.eigvalsh(_hermitian(a[..., :3, :3]))],
    "eig": lambda lib, a: [x.abs() for x in lib.linalg.eig(a[..., :3, :3])],
    "cholesky": lambda lib, a: [lib.linalg.cholesky(a.mH @ a)],
    "cholesky_solve": lambda lib, a: [
        lib.cholesky_solve(a.mH, lib.linalg.cholesky(a.mH @ a)).abs()
    ],
    "qr": lambda lib, a: [x.abs() for x in lib.linalg.qr(a)],
    "pinv, hermitian": lambda lib, a: [lib.linalg.pinv(_hermitian(a[..., :3, :3]), hermitian=True)],
}


def weighted(lib: Any, parts: list) -> Any:
    total = 0
    for k, part in enumerate(parts):
        if part.is_complex():
            part = lib.view_as_real(part)
        count = int(np.prod(part.shape))
        weight = np.cos(np.arange(count) + k).reshape(tuple(part.shape))
        total = total + (part * lib.from_numpy(weight).to(part.dtype)).sum()
    return total


@pytest.mark.parametrize("kind", ["float64", "complex128"])
@pytest.mark.parametrize("name", SIGNLESS)
def test_gradients_are_pytorchs(torch: Any, name: str, kind: str) -> None:
    values = matrix(2, 4, 3, kind=kind).numpy()
    found = []
    for lib in (tm, torch):
        a = lib.from_numpy(values.copy()).requires_grad_(True)
        weighted(lib, SIGNLESS[name](lib, a)).backward()
        found.append(a.grad.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["float64", "complex128"])
@pytest.mark.parametrize("name", SIGNLESS)
def test_gradients_of_both_orders(name: str, kind: str) -> None:
    a = matrix(4, 3, kind=kind).requires_grad_(True)

    def function(x: Any) -> tuple:
        return tuple(SIGNLESS[name](tm, x))

    assert gradcheck(function, (a,), fast_mode=True)
    assert gradgradcheck(function, (a,), fast_mode=True, atol=1e-4)


def test_gradient_of_a_phase_is_refused() -> None:
    for decompose in (tm.linalg.eigh, tm.linalg.eig, tm.linalg.svd):
        a = matrix(3, 3, kind="complex128").requires_grad_(True)
        with pytest.raises(RuntimeError, match=r"specified up to multiplication by e\^\{i phi\}"):
            decompose(a)[0 if decompose is tm.linalg.svd else 1].real.sum().backward()


def test_qr_without_q_is_not_differentiable() -> None:
    a = matrix(4, 3).requires_grad_(True)
    with pytest.raises(RuntimeError, match="not computed when mode='r'"):
        tm.linalg.qr(a, "r").R.sum().backward()
    with pytest.raises(RuntimeError, match="mode='complete' and nrows > ncols"):
        tm.linalg.qr(a, "complete").R.sum().backward()


@pytest.mark.parametrize("order", ["nuc", 2, -2])
def test_norms_of_singular_values(order: Any) -> None:
    a = matrix(2, 3, 4)
    made = tm.linalg.matrix_norm(a, order)
    np.testing.assert_allclose(made.numpy(), np.linalg.norm(a.numpy(), order, (1, 2)), rtol=1e-12)


def test_permutation_follows_the_swaps() -> None:
    assert matrices.permutation_of(np.array([3, 3, 3]), 4).tolist() == [2, 0, 1, 3]
