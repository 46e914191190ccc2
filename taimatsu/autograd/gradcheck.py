"""Gradients compared with finite differences: ``gradcheck`` and ``gradgradcheck``.

Complex tensors are treated as pairs of real numbers: a gradient g of a real L stands for
dL/dRe + i dL/dIm, so that one real Jacobian describes every function, holomorphic or not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from taimatsu import autograd, dtypes, recorder
from taimatsu.autograd.modes import set_grad_enabled

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A gradient does not agree with finite differences, or is otherwise not what it should be."""


class Tolerances(NamedTuple):
    eps: float
    atol: float
    rtol: float
    nondet: float


def gradcheck(
    func: Callable,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of ``func`` at ``inputs`` agree with central differences.

    Checked are the inputs that require gradients (give them in float64 or complex128: in float32
    the differences are mostly rounding) against the outputs that do. ``func`` must be a function
    of its inputs alone; they are moved by ``eps`` in place, so a function that holds them some
    other way (a module's parameters) sees the moves too.

    ``fast_mode`` compares one random projection of each Jacobian instead of every entry.
    ``masked`` concerns sparse tensors and changes nothing here. Raises GradcheckError, or returns
    False without ``raise_exception``.
    """
    _refuse_forward(check_batched_grad, check_batched_forward_grad, check_forward_ad)
    if not check_backward_ad:
        raise ValueError("gradcheck has nothing to check: expected check_backward_ad=True")
    tensors = _as_tuple(inputs)
    tolerances = Tolerances(eps, atol, rtol, nondet_tol)
    try:
        _check(func, tensors, tolerances, check_undefined_grad, check_grad_dtypes, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable,
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """``gradcheck`` of the gradient: whether second derivatives agree with finite differences.

    ``grad_outputs`` are the gradients of the outputs at which this is done; by default numbers
    between -1 and 1, the same in every call.
    """
    _refuse_forward(check_batched_grad, False, check_fwd_over_rev)
    if not check_rev_over_rev:
        raise ValueError("gradgradcheck has nothing to check: expected check_rev_over_rev=True")
    tensors = _as_tuple(inputs)
    if grad_outputs is None:
        outputs = _differentiable(func(*tensors))
        weights = tuple(_random_like(o, gen_non_contig_grad_outputs) for o in outputs)
    else:
        weights = _as_tuple(grad_outputs)
    count = len(weights)

    def gradient(*arguments: Any) -> tuple:
        given = arguments[: len(arguments) - count]
        seeds = arguments[len(arguments) - count :]
        outputs = _differentiable(func(*given))
        wanted = [x for x in given if _wants_grad(x)]
        found = autograd.grad(outputs, wanted, seeds, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradient,
        tensors + weights,
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        fast_mode=fast_mode,
    )


# -- what is checked ---------------------------------------------------------------------------


def _check(
    func: Callable,
    tensors: tuple,
    tolerances: Tolerances,
    check_undefined: bool,
    check_dtypes: bool,
    fast: bool,
) -> None:
    checked = _checked_inputs(tensors)
    with set_grad_enabled(True):
        outputs = _differentiable(func(*tensors))
        if not outputs:
            return _check_constant(func, tensors, checked, tolerances)
        if check_dtypes or check_undefined:
            _check_zero_gradient(outputs, checked, check_undefined, check_dtypes)
        compare = _compare_projected if fast else _compare_jacobians
        compare(func, tensors, checked, outputs, tolerances)


def _checked_inputs(tensors: tuple) -> list[tuple[int, Any]]:
    """The inputs that require gradients, with their positions."""
    found = []
    for position, x in enumerate(tensors):
        if not _wants_grad(x):
            continue
        if x.dtype not in (dtypes.float64, dtypes.complex128):
            warnings.warn(
                f"Input #{position} requires gradient and is not a double precision floating point "
                f"or complex: {x.dtype}. The check will likely fail; convert it with .double()",
                stacklevel=4,
            )
        if any(s == 0 and n > 1 for s, n in zip(x.stride(), x.shape, strict=True)):
            raise RuntimeError(
                f"The {position}th input has a dimension with stride 0. gradcheck only supports "
                "inputs that are non-overlapping to be able to compute the numerical gradients "
                "correctly. You should call .contiguous on the input before passing it to "
                "gradcheck."
            )
        found.append((position, x))
    if not found:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them "
            "have requires_grad=True."
        )
    return found


def _check_constant(func: Callable, tensors: tuple, checked: list, tolerances: Tolerances) -> None:
    """No output requires gradients: then the outputs must not depend on the inputs."""
    outputs = [o for o in _as_tuple(func(*tensors)) if _is_float(o)]
    for number in range(len(outputs)):
        for position, x in checked:
            columns = _numerical(func, tensors, x, number, tolerances.eps, _is_float)
            if any(np.any(column) for column in columns):
                raise GradcheckError(
                    f"Numerical gradient for function expected to be zero: output {number} does "
                    f"not require grad, but depends on input {position}"
                )


def _check_zero_gradient(
    outputs: tuple, checked: list, check_undefined: bool, check_dtypes: bool
) -> None:
    """Zero gradients of the outputs give zero (or no) gradients, of the inputs' dtypes."""
    seeds = [o.new_zeros(tuple(o.shape)) for o in outputs]
    tensors = [x for _, x in checked]
    found = autograd.grad(outputs, tensors, seeds, retain_graph=True, allow_unused=True)
    for (position, x), g in zip(checked, found, strict=True):
        if g is None:
            continue
        if check_undefined and np.any(recorder.value(g) != 0):
            raise GradcheckError(
                "Expected all input grads to be undefined or zero when all output grads are "
                f"undefined or zero; the gradient of input {position} is not"
            )
        if check_dtypes and g.dtype is not x.dtype:
            raise GradcheckError(
                f"The gradient of input {position} has dtype {g.dtype}, the input {x.dtype}"
            )


# -- Jacobians, as real matrices ---------------------------------------------------------------


def _compare_jacobians(
    func: Callable, tensors: tuple, checked: list, outputs: tuple, tolerances: Tolerances
) -> None:
    for number, output in enumerate(outputs):
        analytical = _analytical(output, checked)
        again = _analytical(output, checked)
        for (position, x), rows, repeated in zip(checked, analytical, again, strict=True):
            columns = list(_numerical(func, tensors, x, number, tolerances.eps, _wants_grad))
            numerical = np.stack(columns, 1) if columns else np.zeros_like(rows)
            if not _close(rows, numerical, tolerances):
                raise GradcheckError(_mismatch(number, position, numerical, rows))
            _refuse_change(rows, repeated, tolerances)


def _compare_projected(
    func: Callable, tensors: tuple, checked: list, outputs: tuple, tolerances: Tolerances
) -> None:
    """u' J v for random unit vectors: by the gradient of u'f, and by moving along v."""
    rng = np.random.default_rng(0)
    for number, output in enumerate(outputs):
        u = _unit(rng, _real_size(output))
        found = _gradients(output, checked, u)
        again = _gradients(output, checked, u)
        for (position, x), row, repeated in zip(checked, found, again, strict=True):
            v = _unit(rng, _real_size(x))
            moved = _difference(func, tensors, x, v, number, tolerances.eps, _wants_grad)
            # Both sums grow like the square root of the number of entries they hide.
            scale = np.sqrt(max(u.size * v.size, 1))
            analytical, numerical = scale * np.dot(row, v), scale * np.dot(u, moved)
            if not _close(analytical, numerical, tolerances):
                raise GradcheckError(
                    "Fast gradcheck: "
                    + _mismatch(number, position, np.asarray(numerical), np.asarray(analytical))
                    + "fast_mode=False shows the whole Jacobians"
                )
            _refuse_change(row, repeated, tolerances)


def _analytical(output: Any, checked: list) -> list[np.ndarray]:
    """By backward: for each input the Jacobian of one output, (outputs, inputs) real numbers."""
    m = _real_size(output)
    rows = [np.zeros((m, _real_size(x))) for _, x in checked]
    for i in range(m):
        seed = np.zeros(m)
        seed[i] = 1
        for matrix, row in zip(rows, _gradients(output, checked, seed), strict=True):
            matrix[i] = row
    return rows


def _gradients(output: Any, checked: list, seed: np.ndarray) -> list[np.ndarray]:
    weight = recorder.constant(_complex_pairs(seed, output))
    tensors = [x for _, x in checked]
    found = autograd.grad([output], tensors, [weight], retain_graph=True, allow_unused=True)
    made = []
    for x, g in zip(tensors, found, strict=True):
        if g is not None and g.shape != x.shape:
            raise GradcheckError(
                f"Analytical gradient has incorrect size: {list(g.shape)} for {list(x.shape)}"
            )
        made.append(np.zeros(_real_size(x)) if g is None else _reals(g))
    return made


def _numerical(
    func: Callable, tensors: tuple, x: Any, number: int, eps: float, keep: Callable
) -> Iterator[np.ndarray]:
    """By central differences: the Jacobian of output ``number``, a column for each number of x."""
    for j in range(_real_size(x)):
        direction = np.zeros(_real_size(x))
        direction[j] = 1
        yield _difference(func, tensors, x, direction, number, eps, keep)


def _difference(
    func: Callable,
    tensors: tuple,
    x: Any,
    direction: np.ndarray,
    number: int,
    eps: float,
    keep: Callable,
) -> np.ndarray:
    """(f(x + eps v) - f(x - eps v)) / (2 eps) for one output, as real numbers."""
    before = np.array(recorder.value(x))
    step = eps * _complex_pairs(direction, x)
    try:
        _overwrite(x, before + step)
        ahead = _output(func, tensors, number, keep)
        _overwrite(x, before - step)
        behind = _output(func, tensors, number, keep)
    finally:
        _overwrite(x, before)
    return (ahead - behind) / (2 * eps)


def _output(func: Callable, tensors: tuple, number: int, keep: Callable) -> np.ndarray:
    outputs = [o for o in _as_tuple(func(*tensors)) if keep(o)]
    return _reals(outputs[number])


def _overwrite(x: Any, content: np.ndarray) -> None:
    """Other values in the same memory, unnoticed by the graph."""
    x.data.copy_(recorder.constant(content))


# -- real numbers of tensors -------------------------------------------------------------------


def _real_size(tensor: Any) -> int:
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def _reals(tensor: Any) -> np.ndarray:
    """A copy of the values as float64; complex ones as pairs."""
    flat = np.array(recorder.value(tensor)).reshape(-1)
    if tensor.is_complex():
        return flat.astype(np.complex128).view(np.float64)
    return flat.astype(np.float64)


def _complex_pairs(reals: np.ndarray, like: Any) -> np.ndarray:
    """The inverse of ``_reals``: an array of the shape and dtype of ``like``."""
    values = np.ascontiguousarray(reals, np.float64)
    if like.is_complex():
        values = values.view(np.complex128)
    return values.astype(like.dtype.numpy).reshape(tuple(like.shape))


def _unit(rng: np.random.Generator, size: int) -> np.ndarray:
    drawn = rng.standard_normal(size)
    return drawn / max(float(np.linalg.norm(drawn)), 1e-300)


def _random_like(output: Any, with_gaps: bool) -> Any:
    """Gradients of an output: numbers in (-1, 1) that require gradients themselves."""
    size = _real_size(output)
    reals = np.random.default_rng(size).uniform(-1, 1, size)
    made = recorder.constant(_complex_pairs(reals, output))
    if with_gaps:
        wide = made.new_zeros((*made.shape, 2))
        wide.select(-1, 0).copy_(made)
        made = wide.select(-1, 0).detach()
    return made.requires_grad_(True)


def _close(a: Any, b: Any, tolerances: Tolerances) -> bool:
    return bool(np.allclose(a, b, tolerances.rtol, tolerances.atol, equal_nan=True))


def _refuse_change(first: np.ndarray, second: np.ndarray, tolerances: Tolerances) -> None:
    if np.all(np.abs(first - second) <= tolerances.nondet) or np.array_equal(
        first, second, equal_nan=True
    ):
        return
    raise GradcheckError(
        "Backward is not reentrant, i.e., running backward with same input and grad_output "
        "multiple times gives different values, although analytical gradient matches numerical "
        f"gradient. The tolerance for nondeterminism was {tolerances.nondet}."
    )


def _mismatch(number: int, position: int, numerical: np.ndarray, analytical: np.ndarray) -> str:
    return (
        f"Jacobian mismatch for output {number} with respect to input {position},\n"
        f"numerical:{numerical.T}\nanalytical:{analytical.T}\n"
    )


# -- arguments ---------------------------------------------------------------------------------


def _as_tuple(given: Any) -> tuple:
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def _is_float(x: Any) -> bool:
    return isinstance(x, recorder.TensorBase) and x.dtype.category >= dtypes.FLOAT


def _wants_grad(x: Any) -> bool:
    return isinstance(x, recorder.TensorBase) and x.requires_grad


def _differentiable(outputs: Any) -> tuple:
    return tuple(o for o in _as_tuple(outputs) if _wants_grad(o))


def _refuse_forward(batched: bool, batched_forward: bool, forward: bool) -> None:
    checks: Sequence[tuple[bool, str]] = (
        (batched, "check_batched_grad"),
        (batched_forward, "check_batched_forward_grad"),
        (forward, "forward-mode checks"),
    )
    for wanted, name in checks:
        if wanted:
            raise NotImplementedError(
                f"{name}: only reverse-mode gradients, one at a time, can be checked; "
                "leave it False"
            )
