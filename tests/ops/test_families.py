"""Every sample of the reductions, scans, sorts and products: against PyTorch, and its gradients."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from family_samples import NO_DERIVATIVE, call, cases, function, leaves, tensors

import taimatsu
from taimatsu.ops.base import Sample

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "float16": 5e-3, "bfloat16": 4e-2}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_array(tensor: Any) -> np.ndarray:
    """A tensor's values, 16-bit floats as float32."""
    if str(tensor.dtype) in ("torch.bfloat16", "torch.float16"):
        tensor = tensor.float()
    return np.asarray(tensor.detach().numpy())


@pytest.mark.parametrize(("name", "sample"), list(cases()))
def test_agrees_with_pytorch(torch: Any, name: str, sample: Sample) -> None:
    for floating in {"float64", *sample.dtypes}:
        ours = call(taimatsu, name, sample, floating)
        theirs = call(torch, name, sample, floating)
        assert len(ours) == len(theirs)
        for mine, wanted in zip(ours, theirs, strict=True):
            assert str(mine.dtype) == str(wanted.dtype)
            assert tuple(mine.shape) == tuple(wanted.shape)
            tolerance = TOLERANCE[floating]
            np.testing.assert_allclose(
                as_array(mine), as_array(wanted), rtol=tolerance, atol=tolerance
            )


@pytest.mark.parametrize(("name", "sample"), list(cases()))
def test_gradients_of_both_orders(name: str, sample: Sample) -> None:
    args = [tensors(taimatsu, a, "float64") for a in sample.args]
    kwargs = {k: tensors(taimatsu, v, "float64") for k, v in sample.kwargs.items()}
    inputs = [t for t in leaves([args, *kwargs.values()]) if t.numel()]
    if not sample.grad or not inputs or name in NO_DERIVATIVE:
        pytest.skip("not differentiable here")
    for t in inputs:
        t.requires_grad_(True)

    def results(*_: Any) -> tuple:
        made = function(taimatsu, name)(*args, **kwargs)
        made = made if isinstance(made, tuple) else (made,)
        return tuple(m for m in made if m.requires_grad)

    if not results():
        pytest.skip("not differentiable")
    _check_gradients(results, inputs)


def _weighted(results: Any) -> Any:
    """One number that every result takes part in, each element with another weight."""
    total = None
    for made in results():
        count = made.numel()
        weight = taimatsu.arange(1, count + 1, dtype=made.dtype).cos().reshape(made.shape)
        term = (made * weight).sum()
        total = term if total is None else total + term
    return total


def _slope(value: Any, inputs: list, direction: list) -> Any:
    """The derivative of ``value()`` along ``direction``, from the graph."""
    gradients = taimatsu.autograd.grad(value(), inputs, create_graph=True, allow_unused=True)
    terms = [(g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None]
    total = taimatsu.zeros((), dtype=taimatsu.float64)
    for term in terms:
        total = total + term
    return total


def _difference(value: Any, inputs: list, direction: list, step: float = 1e-5) -> float:
    """The same from central differences."""
    ends = []
    for sign in (1, -1):
        with taimatsu.no_grad():
            for t, d in zip(inputs, direction, strict=True):
                t.add_(d * (sign * step))
        ends.append(value().item())
        with taimatsu.no_grad():
            for t, d in zip(inputs, direction, strict=True):
                t.sub_(d * (sign * step))
    return (ends[0] - ends[1]) / (2 * step)


def _check_gradients(results: Any, inputs: list) -> None:
    generator = np.random.default_rng(0)
    direction = [
        taimatsu.tensor(generator.uniform(-1, 1, tuple(t.shape)), dtype=taimatsu.float64)
        for t in inputs
    ]

    def value() -> Any:
        return _weighted(results)

    def slope() -> Any:
        return _slope(value, inputs, direction)

    first = slope()
    assert first.item() == pytest.approx(_difference(value, inputs, direction), rel=1e-5, abs=1e-6)
    if first.requires_grad:
        second = _slope(slope, inputs, direction).item()
        assert second == pytest.approx(_difference(slope, inputs, direction), rel=1e-4, abs=1e-5)
