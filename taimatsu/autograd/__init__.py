"""Reverse-mode automatic differentiation over recorded operations."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

from taimatsu import recorder
from taimatsu.autograd.ahead import look_ahead
from taimatsu.autograd.anomaly import (
    detect_anomaly,
    is_anomaly_enabled,
    set_detect_anomaly,
)
from taimatsu.autograd.engine import Walk
from taimatsu.autograd.function import Function
from taimatsu.autograd.gradcheck import gradcheck, gradgradcheck
from taimatsu.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from taimatsu.autograd.replay import replayed_backward
from taimatsu.autograd.variable import Variable
from taimatsu.autograd.views import rebase, refresh_view
from taimatsu.ops.filling import filled

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]

recorder.registered.refresh_view = refresh_view
recorder.registered.rebase = rebase
recorder.registered.look_ahead = look_ahead


def _walking(create_graph: bool) -> Any:
    return enable_grad() if create_graph else no_grad()


def _several(given: Any) -> tuple:
    if isinstance(given, recorder.TensorBase):
        return (given,)
    return tuple(given)


def _root_gradients(roots: tuple, given: Any) -> list:
    """One gradient for each root: ones for a scalar, else as given and of the root's shape."""
    gradients = (None,) * len(roots) if given is None else _several(given)
    if len(gradients) != len(roots):
        raise RuntimeError(
            f"got {len(roots)} tensors and {len(gradients)} gradients; give one for each"
        )
    made: list = []
    for root, gradient in zip(roots, gradients, strict=True):
        described = root._meta
        if gradient is None:
            if not root.requires_grad:
                made.append(None)
                continue
            if described.numel != 1:
                raise RuntimeError(
                    "grad can be implicitly created only for scalar outputs, but this tensor has "
                    f"shape {list(described.shape)}; reduce it with .sum() or .mean(), or give "
                    "backward a gradient of that shape"
                )
            if described.dtype.category < 2 or described.dtype.is_complex:
                raise RuntimeError(
                    "grad can be implicitly created only for real scalar outputs but got "
                    f"{described.dtype}"
                )
            made.append(filled(tuple(described.shape), 1, described.dtype))
            continue
        if gradient._meta.shape != described.shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output[{len(made)}] has a shape of "
                f"{gradient._meta.shape} and output[{len(made)}] has a shape of "
                f"{described.shape}."
            )
        if gradient._meta.dtype.is_complex != described.dtype.is_complex:
            raise RuntimeError(
                "For complex Tensors, both grad_output and output are required to have the same "
                f"dtype, got {gradient._meta.dtype} and {described.dtype}"
            )
        made.append(gradient)
    return made


def _start(walk: Walk, roots: tuple, gradients: list) -> None:
    for root, gradient in zip(roots, gradients, strict=True):
        if not root.requires_grad:
            raise RuntimeError(
                "element 0 of tensors does not require grad and does not have a grad_fn; it was "
                "computed from tensors without requires_grad=True, under no_grad(), or by steps "
                "without gradient (detach(), argmax(), integers)"
            )
        walk.start(root, gradient)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Any = None,
) -> None:
    """Accumulates the gradients of ``tensors`` in the ``grad`` of the graph's leaves.

    ``grad_tensors`` are the gradients of the roots themselves (1 for scalars). ``inputs`` limits
    which leaves accumulate. The graph is freed unless ``retain_graph`` (or ``create_graph``).
    """
    if grad_variables is not None:
        warnings.warn("`grad_variables` is deprecated. Use `grad_tensors` instead.", stacklevel=2)
        grad_tensors = grad_variables if grad_tensors is None else grad_tensors
    roots = _several(tensors)
    retain = create_graph if retain_graph is None else retain_graph
    targets = None
    if inputs is not None:
        targets = _several(inputs)
        if not targets:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    if targets is None and not create_graph and len(roots) == 1:
        own = None if grad_tensors is None else _several(grad_tensors)[0]
        if replayed_backward(roots[0], own, retain):
            return
    gradients = _root_gradients(roots, grad_tensors)
    with _walking(create_graph):
        walk = Walk(retain, create_graph, targets)
        _start(walk, roots, gradients)
        walk.run()
        if targets is not None:
            from taimatsu.autograd.engine import accumulate

            for leaf, gradient in zip(targets, walk.found, strict=True):
                if gradient is not None:
                    accumulate(leaf, gradient, create_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple:
    """The gradients of ``outputs`` with respect to ``inputs``, as a tuple."""
    if is_grads_batched:
        raise NotImplementedError(
            "is_grads_batched needs vmap; call grad once for each row of grad_outputs"
        )
    if allow_unused is False and materialize_grads:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, "
            "but got: allow_unused=False."
        )
    roots = _several(outputs)
    targets = _several(inputs)
    retain = create_graph if retain_graph is None else retain_graph
    for tensor in targets:
        if not tensor.requires_grad:
            raise RuntimeError(
                "One of the differentiated Tensors does not require grad; set "
                "requires_grad_() before computing the outputs"
            )
    gradients = _root_gradients(roots, grad_outputs)
    with _walking(create_graph):
        walk = Walk(retain, create_graph, targets)
        _start(walk, roots, gradients)
        walk.run()
    found = []
    for tensor, gradient in zip(targets, walk.found, strict=True):
        if gradient is None and materialize_grads:
            gradient = filled(tuple(tensor.shape), 0, tensor.dtype)
        elif gradient is None and not allow_unused:
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
        found.append(gradient)
    return tuple(found)


def __getattr__(name: str) -> Any:
    """``functional`` loads when first named."""
    if name == "functional":
        return importlib.import_module("taimatsu.autograd.functional")
    raise AttributeError(f"module 'taimatsu.autograd' has no attribute {name!r}")
