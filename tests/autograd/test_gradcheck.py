"""gradcheck finds what is wrong, and nothing where all is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taimatsu
from taimatsu.autograd import Function, Variable, gradcheck, gradgradcheck
from taimatsu.autograd.gradcheck import GradcheckError


def leaf(*shape: int, seed: int = 0, imaginary: bool = False) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 1.5, shape)
    if imaginary:
        values = values + 1j * rng.uniform(0.5, 1.5, shape)
    return taimatsu.tensor(values, requires_grad=True)


class Tripled(Function):
    """Twice the input, with three times the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 3


@pytest.mark.parametrize("fast", [False, True])
def test_right_gradients_pass(fast: bool) -> None:
    x, y = leaf(2, 3), leaf(3, seed=1)
    assert gradcheck(lambda a, b: (a * b).sin(), (x, y), fast_mode=fast)
    assert gradcheck(lambda a: (a.exp(), a.sum(0)), x, fast_mode=fast)
    assert gradgradcheck(lambda a, b: (a * b).sin(), (x, y), fast_mode=fast)
    assert gradgradcheck(lambda a: a**3, x, gen_non_contig_grad_outputs=True, fast_mode=fast)


@pytest.mark.parametrize("fast", [False, True])
def test_complex_functions_holomorphic_or_not(fast: bool) -> None:
    z = leaf(3, imaginary=True)
    for function in (lambda z: z * z, lambda z: z.conj() * z.exp(), lambda z: z.abs()):
        assert gradcheck(function, (z,), fast_mode=fast)
        assert gradgradcheck(function, (z,), fast_mode=fast)


@pytest.mark.parametrize("fast", [False, True])
def test_a_wrong_gradient_is_found(fast: bool) -> None:
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to inpu"):
        gradcheck(Tripled.apply, (leaf(3),), fast_mode=fast)
    assert not gradcheck(Tripled.apply, (leaf(3),), raise_exception=False, fast_mode=fast)


def test_a_gradient_that_changes_is_found() -> None:
    calls = []

    class Unsteady(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            calls.append(1)
            return g * (2 + 1e-7 * len(calls))

    with pytest.raises(GradcheckError, match="Backward is not reentrant"):
        gradcheck(Unsteady.apply, (leaf(3),))
    assert gradcheck(Unsteady.apply, (leaf(3),), nondet_tol=1e-3)


def test_an_output_outside_the_graph_must_not_depend_on_inputs() -> None:
    assert gradcheck(lambda x: taimatsu.ones(3, dtype=taimatsu.float64), (leaf(3),))
    with pytest.raises(GradcheckError, match="expected to be zero"):
        gradcheck(lambda x: x.detach() * 2, (leaf(3),))


def test_inputs_are_as_before() -> None:
    x = leaf(2, 2)
    before = x.detach().clone()
    version = x._version
    gradcheck(lambda a: a.exp(), (x,))
    assert taimatsu.equal(x.detach(), before)
    assert x._version == version
    assert x.grad is None


def test_parameters_of_a_module_can_be_checked() -> None:
    linear = taimatsu.nn.Linear(3, 2).double()
    assert gradcheck(lambda x, *parameters: linear(x), (leaf(4, 3), *linear.parameters()))


def test_wrong_arguments() -> None:
    x = leaf(3)
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda a: a, (x.detach(),))
    with pytest.raises(RuntimeError, match="stride 0"):
        gradcheck(lambda a: a, (x.detach().expand(2, 3).requires_grad_(),))
    with pytest.warns(UserWarning, match="not a double precision"):
        gradcheck(lambda a: a * 1, (x.detach().float().requires_grad_(),), atol=1.0)
    with pytest.raises(NotImplementedError, match="check_batched_grad"):
        gradcheck(lambda a: a, (x,), check_batched_grad=True)
    with pytest.raises(NotImplementedError, match="forward"):
        gradcheck(lambda a: a, (x,), check_forward_ad=True)


def test_variable_is_the_tensor_class_of_old_programs() -> None:
    x = taimatsu.ones(2)
    assert isinstance(x, Variable)
    assert not isinstance(1.0, Variable)
    made = Variable(x, requires_grad=True)
    assert type(made) is taimatsu.Tensor
    assert made.requires_grad
    assert made.data_ptr() == x.data_ptr()
    assert not Variable(made * 2).requires_grad
    with pytest.warns(UserWarning, match="volatile"):
        Variable(x, volatile=True)
    with pytest.raises(TypeError, match="data has to be a tensor"):
        Variable([1.0])
