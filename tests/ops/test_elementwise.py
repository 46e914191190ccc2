"""Pointwise operations through the recorder: graph names, saved values, in-place forms, kinks."""

from __future__ import annotations

import math

import numpy as np
import pytest

import taimatsu
from taimatsu.bindings import FUNCTIONS

functional = FUNCTIONS["nn.functional"]


def leaf(*values: float) -> taimatsu.Tensor:
    return taimatsu.tensor(list(values), requires_grad=True)


NAMES = {
    "AddBackward0": lambda x, y: x + y,
    "SubBackward0": lambda x, y: x - 1,
    "RsubBackward1": lambda x, y: 1 - x,
    "MulBackward0": lambda x, y: x * 2,
    "DivBackward0": lambda x, y: x / y,
    "PowBackward0": lambda x, y: x**2,
    "PowBackward1": lambda x, y: x**y,
    "PowBackward2": lambda x, y: 2**x,
    "NegBackward0": lambda x, y: -x,
    "AbsBackward0": lambda x, y: abs(x),
    "RemainderBackward0": lambda x, y: x % 2,
    "RemainderBackward1": lambda x, y: x % y,
    "DivBackward2": lambda x, y: taimatsu.div(x, y, rounding_mode="floor"),
    "Log1PBackward0": lambda x, y: x.log1p(),
    "ClampBackward0": lambda x, y: x.clamp(max=y),
    "ClampBackward1": lambda x, y: x.clamp(0, 1),
    "ClampMinBackward0": lambda x, y: x.clamp_min(0),
    "MaximumBackward0": lambda x, y: taimatsu.maximum(x, y),
    "WhereBackward0": lambda x, y: taimatsu.where(x > 0, x, y),
    "MaskedFillBackward0": lambda x, y: x.masked_fill(x > 0, 1.0),
    "LerpBackward0": lambda x, y: taimatsu.lerp(x, y, 0.5),
    "LerpBackward1": lambda x, y: taimatsu.lerp(x, y, y),
    "AddcmulBackward0": lambda x, y: taimatsu.addcmul(x, x, y),
    "SigmoidBackward0": lambda x, y: x.sigmoid(),
    "ReluBackward0": lambda x, y: x.relu(),
    "CloneBackward0": lambda x, y: x.clone(),
    "ToCopyBackward0": lambda x, y: x.double(),
}


@pytest.mark.parametrize("name", NAMES)
def test_graph_names(name):
    made = NAMES[name](leaf(0.3, 0.6), leaf(0.7, 0.2))
    assert made.grad_fn.name() == name


# what PyTorch saves decides which in-place writes break backward

UNSAVED = [
    lambda x: x + 1,
    lambda x: x * 2,
    lambda x: -x,
    lambda x: x.exp(),
    lambda x: x.tanh(),
    lambda x: x.sqrt(),
    lambda x: x.relu(),
    lambda x: x.masked_fill(x.detach() > 1, 0.0),
]
SAVED = [lambda x: x * x, lambda x: x.sin(), lambda x: x.log(), lambda x: x**3, lambda x: abs(x)]


@pytest.mark.parametrize("function", UNSAVED)
def test_writing_over_an_unsaved_input_is_fine(function):
    x = leaf(0.3, 0.6)
    inner = x * 1.5
    out = function(inner)
    inner.add_(1)
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("function", SAVED)
def test_writing_over_a_saved_input_is_an_error(function):
    inner = leaf(0.3, 0.6) * 1.5
    out = function(inner)
    inner.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "sqrt", "reciprocal", "relu"])
def test_writing_over_a_saved_result_is_an_error(name):
    out = getattr(leaf(0.3, 0.6), name)()
    out.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


# -- subgradients ----------------------------------------------------------------------------

KINKS = [
    (lambda x: x.abs(), (0.0,), (0.0,)),
    (lambda x: x.relu(), (0.0,), (0.0,)),
    (lambda x: x.clamp(-1, 1), (-1.0, 1.0, 2.0), (1.0, 1.0, 0.0)),
    (lambda x: functional["hardtanh"](x), (-1.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    (lambda x: functional["leaky_relu"](x, 0.1), (0.0,), (0.1,)),
    (lambda x: functional["relu6"](x), (0.0, 6.0, 3.0), (0.0, 0.0, 1.0)),
    (lambda x: functional["threshold"](x, 1.0, 5.0), (1.0, 2.0), (0.0, 1.0)),
    (lambda x: x.sign(), (0.0, 2.0), (0.0, 0.0)),
    (lambda x: x.floor(), (1.0, 1.5), (0.0, 0.0)),
    (lambda x: x**0, (0.0, 2.0), (0.0, 0.0)),
    (lambda x: x.sinc(), (0.0,), (0.0,)),
]


@pytest.mark.parametrize(("function", "points", "slopes"), KINKS)
def test_gradients_at_kinks(function, points, slopes):
    x = leaf(*points)
    function(x).sum().backward()
    assert x.grad.tolist() == pytest.approx(list(slopes))


def test_ties_share_the_gradient():
    for function in (taimatsu.maximum, taimatsu.minimum):
        x, y = leaf(1.0, 2.0), leaf(1.0, 2.0)
        function(x, y).sum().backward()
        assert x.grad.tolist() == y.grad.tolist() == [0.5, 0.5]


def test_where_stops_infinities():
    x = leaf(0.0, 4.0)
    taimatsu.where(x > 0, x, 1.0).sqrt().sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_relu_passes_infinite_gradients_only_where_open():
    x = leaf(-1.0, 1.0)
    x.relu().backward(taimatsu.tensor([math.inf, math.inf]))
    assert x.grad.tolist() == [0.0, math.inf]


def test_second_derivatives():
    x = leaf(0.4, 1.2)
    for function, second in (
        (lambda t: t.sin(), lambda v: -math.sin(v)),
        (lambda t: t.exp(), math.exp),
        (lambda t: t**3, lambda v: 6 * v),
        (lambda t: 1 / t, lambda v: 2 / v**3),
        (lambda t: t.tanh(), lambda v: -2 * math.tanh(v) / math.cosh(v) ** 2),
    ):
        (first,) = taimatsu.autograd.grad(function(x).sum(), x, create_graph=True)
        (found,) = taimatsu.autograd.grad(first.sum(), x)
        assert found.tolist() == pytest.approx([second(v) for v in (0.4, 1.2)], rel=1e-5)


# -- numbers, in place, errors ---------------------------------------------------------------


def test_alpha():
    x, y = taimatsu.tensor([1.0, 2.0]), taimatsu.tensor([3.0, 4.0])
    assert taimatsu.add(x, y, alpha=2).tolist() == [7.0, 10.0]
    assert taimatsu.sub(x, y, alpha=0.5).tolist() == [-0.5, 0.0]
    with pytest.raises(RuntimeError, match="alpha must not be a floating point number"):
        taimatsu.add(taimatsu.tensor([1]), 1, alpha=0.5)


def test_numbers_on_either_side():
    x = taimatsu.tensor([1.0, 4.0])
    assert (2 - x).tolist() == [1.0, -2.0]
    assert (2 / x).tolist() == [2.0, 0.5]
    assert (2**x).tolist() == [2.0, 16.0]
    assert (9 // x).tolist() == [9.0, 2.0]
    assert (9 % x).tolist() == [0.0, 1.0]


def test_in_place_forms():
    x = taimatsu.tensor([-1.0, 4.0])
    x.add_(1, alpha=2).mul_(2).clamp_(min=0)
    assert x.tolist() == [2.0, 12.0]
    assert functional["relu"](x.neg_(), inplace=True) is x
    assert x.tolist() == [0.0, 0.0]
    with pytest.raises(RuntimeError, match="can't be cast"):
        taimatsu.tensor([1, 2]).add_(0.5)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        functional["relu"](leaf(1.0), inplace=True)


def test_values_that_are_wrong_are_named():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        (taimatsu.tensor([1, 2]) // 0).tolist()
    with pytest.raises(RuntimeError, match="Integers to negative integer powers"):
        taimatsu.tensor([2]) ** -1
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        taimatsu.tensor([1.0, 2.0]) + taimatsu.tensor([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        taimatsu.maximum(taimatsu.tensor([1.0]), 1)


def test_layout_is_kept():
    x = taimatsu.tensor(np.arange(6.0).reshape(2, 3)).t()
    assert (x + 1).stride() == x.stride()
    assert x.exp().stride() == x.stride()
    assert x.clone().stride() == x.stride()


def test_where_is_a_method_too():
    x = taimatsu.tensor([1.0, 2.0])
    assert x.where(x > 1, 0.0).tolist() == [0.0, 2.0]


def test_equality_of_whole_tensors():
    x = taimatsu.tensor([1.0, math.nan])
    assert not taimatsu.equal(x, x.clone())
    assert taimatsu.allclose(x, x + 1e-9, equal_nan=True)
    assert not taimatsu.equal(x, x[:1])
