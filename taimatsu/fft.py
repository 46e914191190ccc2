"""Fourier transforms: every operation with a public name under ``fft``, and their frequencies."""

from __future__ import annotations

from typing import Any

from taimatsu import dtypes
from taimatsu.bindings import FUNCTIONS
from taimatsu.sequences import arange

globals().update(FUNCTIONS["fft"])

__all__ = sorted([*FUNCTIONS["fft"], "fftfreq", "rfftfreq"])


def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    out: Any = None,
    pin_memory: bool = False,
) -> Any:
    """The frequencies that ``fft`` of ``n`` points ``d`` apart gives, in its order: (n,)."""
    steps = (arange(n, device=device) + n // 2) % n - n // 2
    return _frequencies(steps, n, d, dtype, requires_grad, out)


def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    out: Any = None,
    pin_memory: bool = False,
) -> Any:
    """The frequencies that ``rfft`` of ``n`` points ``d`` apart gives: (n // 2 + 1,)."""
    return _frequencies(arange(n // 2 + 1, device=device), n, d, dtype, requires_grad, out)


def _frequencies(steps: Any, n: int, d: float, dtype: Any, requires_grad: bool, out: Any) -> Any:
    made = steps.to(dtype or dtypes.get_default_dtype()) * (1.0 / (n * d))
    if out is not None:
        return out.copy_(made)
    return made.requires_grad_(True) if requires_grad else made
