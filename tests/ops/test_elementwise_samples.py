"""Every pointwise sample against PyTorch: values, and gradients of first and second order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import taimatsu  # noqa: E402
from taimatsu.bindings import FUNCTIONS  # noqa: E402
from taimatsu.ops import REGISTRY, Operation  # noqa: E402
from taimatsu.ops.base import Sample  # noqa: E402

MODULES = (
    "activations",
    "arithmetic",
    "bessel",
    "bitwise",
    "casting",
    "comparison",
    "complex",
    "maths",
    "multiply_add",
    "piecewise",
    "powers",
    "rounding",
    "selection",
    "signs",
    "special",
    "trigonometry",
)
# PyTorch's own float64 results carry fewer digits here
COARSE = {
    "digamma": 1e-8,
    "polygamma": 1e-8,
    "lgamma": 1e-8,
    "mvlgamma": 1e-8,
    "i0": 1e-8,
    "celu": 1e-7,
}
COARSE |= {f"special.bessel_{kind}": 1e-8 for kind in ("j0", "j1", "y0", "y1")}


def cases() -> Iterator[Any]:
    for operation in REGISTRY.values():
        owner = type(operation) if isinstance(operation, Operation) else operation.function
        in_family = owner.__module__.rsplit(".", 1)[-1] in MODULES
        if not in_family or not operation.functions or operation.samples is None:
            continue
        name = operation.functions[0]
        for number, sample in enumerate(operation.samples()):
            grad = sample.grad and operation.differentiable
            yield pytest.param(name, sample, grad, id=f"{name}-{number}")


def ours(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return FUNCTIONS[module][name]


def theirs(path: str) -> Any:
    found = torch
    for part in path.split("."):
        found = getattr(found, part)
    return found


def call(library: Any, function: Any, sample: Sample, grad: bool) -> tuple[Any, list]:
    """The result (the first of several) in float64, and the leaves."""
    leaves = []

    def tensor(given: Any) -> Any:
        if not isinstance(given, np.ndarray):
            return given
        wide = {"f": np.float64, "c": np.complex128}.get(given.dtype.kind, given.dtype)
        made = library.from_numpy(np.array(given, wide))
        if grad and wide in (np.float64, np.complex128):
            leaves.append(made.requires_grad_())
        return made

    args = [tensor(a) for a in sample.args]
    kwargs = {k: tensor(v) for k, v in sample.kwargs.items()}
    made = function(*args, **kwargs)
    return (made[0] if isinstance(made, tuple) else made), leaves


def weighted(library: Any, tensor: Any, phase: float) -> Any:
    """A real number that depends on each element in its own way."""
    if tensor.is_complex():
        tensor = library.view_as_real(tensor.resolve_conj())
    weights = np.cos(np.arange(tensor.numel()) + phase).reshape(tuple(tensor.shape))
    return (tensor * library.from_numpy(weights)).sum()


def derivatives(library: Any, out: Any, leaves: list) -> list:
    """Gradients of first and second order as arrays, None where there is none."""
    if not out.requires_grad:
        return []
    options = {"allow_unused": True}
    total = weighted(library, out, 0.0)
    first = library.autograd.grad(total, leaves, create_graph=True, **options)
    found = [None if g is None else array(g) for g in first]
    again = [g for g in first if g is not None and g.requires_grad]
    if again:
        total = sum(
            (weighted(library, g, 1.0) for g in again[1:]), weighted(library, again[0], 1.0)
        )
        second = library.autograd.grad(total, leaves, **options)
        found += [None if g is None else array(g) for g in second]
    return found


def array(tensor: Any) -> np.ndarray:
    if isinstance(tensor, torch.Tensor):
        return tensor.detach().resolve_conj().numpy(force=True)
    return tensor.detach().numpy()


def assert_close(got: Any, want: Any, name: str) -> None:
    if got is None or want is None:  # no gradient and a gradient of zeros say the same
        left = got if got is not None else want
        assert left is None or not np.any(left)
        return
    assert got.shape == want.shape
    tolerance = 2e-6 if want.dtype == np.float32 else COARSE.get(name, 1e-9)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "sample", "grad"), cases())
def test_sample(name, sample, grad):
    got, our_leaves = call(taimatsu, ours(name), sample, grad)
    want, their_leaves = call(torch, theirs(name), sample, grad)
    if isinstance(want, bool):
        assert got is want
        return
    assert repr(got.dtype) == repr(want.dtype)
    assert_close(array(got), array(want), name)
    try:
        expected = derivatives(torch, want, their_leaves)
    except RuntimeError:  # PyTorch has no derivative here
        return
    found = derivatives(taimatsu, got, our_leaves)
    found += [None] * (len(expected) - len(found))
    for g, w in zip(found, expected, strict=False):
        assert_close(g, w, name)
