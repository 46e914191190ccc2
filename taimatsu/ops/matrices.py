"""What the operations on matrices share: checks, adjoints, failures, and LU in NumPy.

The kernels never fail because of values: they report through ``info`` (the number of the pivot or
minor that failed, from 1) or NaN. The public functions that raise ``linalg.LinAlgError`` look at
that, which carries out what was recorded so far; those whose name ends in ``_ex`` do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from taimatsu import recorder
from taimatsu.errors import LinAlgError, OperationError
from taimatsu.ops.base import array
from taimatsu.ops.reducing import Wide, is_inexact

_PANEL = 32  # columns that are factored one by one before the rest is updated by a product


# -- arrays ----------------------------------------------------------------------------------


def adjoint(x: np.ndarray) -> np.ndarray:
    """The conjugate transposes of a batch of arrays."""
    return np.conj(np.swapaxes(x, -1, -2))


def well_conditioned(*shape: int, seed: int = 0, complexes: bool = False) -> np.ndarray:
    """Square matrices for samples, far from singular and from equal eigenvalues."""
    made = array(*shape, seed=seed)
    if complexes:
        made = made + 1j * array(*shape, seed=seed + 1)
    return made + np.diag(np.arange(3.0, 3.0 + 2 * shape[-1], 2.0))


def positive_definite(*shape: int, complexes: bool = False) -> np.ndarray:
    """Hermitian positive definite matrices for samples."""
    made = array(*shape)
    if complexes:
        made = made + 1j * array(*shape, seed=1)
    return made @ adjoint(made) + np.eye(shape[-1])


def each(function: Callable, x: np.ndarray, *results: np.ndarray) -> None:
    """``function(matrix)`` for each matrix of a batch, into arrays of the same batch."""
    for i in np.ndindex(x.shape[:-2]):
        made = function(x[i])
        for result, value in zip(results, made, strict=True):
            result[i] = value


def lu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LU with partial pivoting as LAPACK's getrf has it: (LU, pivots from 1, info).

    (..., m, n) -> (..., m, n), (..., k), (...) with k = min(m, n). Blocked, and a whole batch at
    once; Golub and Van Loan, Matrix Computations, section 3.4.
    """
    m, n = x.shape[-2:]
    k = min(m, n)
    a = x.reshape(int(np.prod(x.shape[:-2], dtype=np.int64)), m, n).copy()
    pivots = np.empty((a.shape[0], k), np.int32)
    for start in range(0, k, _PANEL):
        stop = min(start + _PANEL, k)
        for j in range(start, stop):
            _eliminate(a, pivots, j, stop)
        if stop < n:
            unit = np.tril(a[:, start:stop, start:stop], -1) + np.eye(stop - start, dtype=a.dtype)
            a[:, start:stop, stop:] = np.linalg.solve(unit, a[:, start:stop, stop:])
            a[:, stop:, stop:] -= a[:, stop:, start:stop] @ a[:, start:stop, stop:]
    zero = np.diagonal(a, 0, -2, -1) == 0
    info = np.where(zero.any(-1), zero.argmax(-1) + 1, 0) if k else np.zeros(len(a))
    batch = x.shape[:-2]
    return a.reshape(x.shape), pivots.reshape(*batch, k), info.astype(np.int32).reshape(batch)


def _eliminate(a: np.ndarray, pivots: np.ndarray, j: int, stop: int) -> None:
    """Column ``j`` of every matrix: pivot, swap rows, update the panel up to ``stop``."""
    column = a[:, j:, j]
    size = np.abs(column.real) + np.abs(column.imag) if a.dtype.kind == "c" else np.abs(column)
    chosen = j + size.argmax(-1)
    batch = np.arange(len(a))
    moved = a[batch, chosen].copy()
    a[batch, chosen] = a[:, j]
    a[:, j] = moved
    pivots[:, j] = chosen + 1
    pivot = a[:, j, j]
    a[:, j + 1 :, j] /= np.where(pivot == 0, 1, pivot)[:, None]
    a[:, j + 1 :, j + 1 : stop] -= a[:, j + 1 :, j, None] * a[:, j, None, j + 1 : stop]


def permutation_of(pivots: np.ndarray, rows: int) -> np.ndarray:
    """Where the swaps ``pivots`` (from 1) put the rows: (..., k) -> (..., rows)."""
    batch = pivots.shape[:-1]
    order = np.tile(np.arange(rows), (*batch, 1))
    for i in np.ndindex(batch):
        line = order[i]
        for j, chosen in enumerate(pivots[i]):
            line[j], line[chosen - 1] = line[chosen - 1], line[j]
    return order


# -- the protocol ----------------------------------------------------------------------------


class MatrixOperation(Wide, abstract=True):
    """A kernel on batches of matrices; floating-point warnings are silent, as in PyTorch."""

    # No ``lower``: factorisations go step by step and choose by values; LAPACK has them.

    methods: ClassVar[tuple[str, ...]] = ()

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        with np.errstate(all="ignore"):
            return super().evaluate(inputs, attributes, metas, outs)


def check_matrices(label: str, x: Any, square: bool = False) -> None:
    """Refuses what is not a batch of (square) float32, float64 or complex matrices."""
    if x.ndim < 2:
        raise OperationError.make(
            label,
            f"{label}: The input tensor A must have at least 2 dimensions.",
            f"a tensor of shape {list(x.shape)}",
        )
    if square and x.shape[-1] != x.shape[-2]:
        raise OperationError.make(
            label,
            f"{label}: A must be batches of square matrices, but they are {x.shape[-2]} by "
            f"{x.shape[-1]} matrices",
        )
    kind = x.dtype
    if not is_inexact(kind):
        raise OperationError.make(
            label,
            f"{label}: Expected a floating point or complex tensor as input. "
            f"Got {kind.scalar_type}",
            hint="x.float() converts",
        )
    if kind.to_real().itemsize < 4:
        raise OperationError.make(
            label,
            f"{label}: Low precision dtypes not supported. Got {kind.scalar_type}",
            hint="x.float() converts",
        )


def failure(label: str, message: str) -> Exception:
    """A ``LinAlgError``."""
    return OperationError.make(label, message, kind=LinAlgError)


def check_info(label: str, prefix: str, info: Any, message: Callable[[int], str]) -> None:
    """Raises ``LinAlgError`` for the first matrix whose ``info`` is not zero."""
    found = recorder.value(info)
    wrong = np.flatnonzero(found)
    if wrong.size:
        first = int(wrong[0])
        where = f"(Batch element {first}): " if found.ndim else ""
        raise failure(label, f"{prefix}: {where}{message(int(found.reshape(-1)[first]))}")
