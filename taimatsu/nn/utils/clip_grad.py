"""Limits on gradients, applied in place between ``backward()`` and ``step()``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from taimatsu.autograd import no_grad
from taimatsu.nn.functions import stack, tensor
from taimatsu.tensor import Tensor


def _as_list(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _norm(t: Tensor, p: float) -> Tensor:
    """The vector norm of all entries."""
    if p == 2.0:
        return (t * t).sum().sqrt()
    if p == float("inf"):
        return t.abs().max()
    if p == float("-inf"):
        return t.abs().min()
    if p == 0.0:
        return (t != 0).sum().to(t.dtype)
    if p == 1.0:
        return t.abs().sum()
    return t.abs().pow(p).sum().pow(1.0 / p)


@no_grad()
def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all entries of all tensors, as of one vector: a 0-dimensional tensor.

    Raises RuntimeError when it is not finite and ``error_if_nonfinite``.
    """
    norm_type = float(norm_type)
    listed = _as_list(tensors)
    if not listed:
        return tensor(0.0)
    device = listed[0].device
    norms = [_norm(t, norm_type).to(device) for t in listed]
    total = _norm(stack(norms), norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
            f"{total.item()}, so it cannot be clipped. To disable this error and scale the "
            "gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return total


@no_grad()
def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scales gradients, whose norm is known to be ``total_norm``, down to ``max_norm``."""
    factor = float(max_norm) / (total_norm + 1e-6)
    # Multiplying by 1 where nothing has to shrink spares a wait for the value of the norm.
    factor = factor.clamp(max=1.0)
    for p in _as_list(parameters):
        if p.grad is not None:
            p.grad.mul_(factor.to(p.grad.device))


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales all gradients so that together their norm is at most ``max_norm``.

    Returns the norm before (Pascanu et al., 2013). Raises RuntimeError when it is not finite and
    ``error_if_nonfinite``.
    """
    listed = _as_list(parameters)
    if not listed:
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=3
        )
    grads = [p.grad for p in listed if p.grad is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(listed, max_norm, total, foreach)
    return total


def clip_grad_norm(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The old name of ``clip_grad_norm_``."""
    warnings.warn(
        "torch.nn.utils.clip_grad_norm is now deprecated in favor of "
        "torch.nn.utils.clip_grad_norm_.",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: Any = None
) -> None:
    """Limits every entry of every gradient to [-clip_value, clip_value]."""
    clip_value = float(clip_value)
    for p in _as_list(parameters):
        if p.grad is not None:
            p.grad.clamp_(min=-clip_value, max=clip_value)
