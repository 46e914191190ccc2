"""Jacobians, Hessians and their products against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import taimatsu

RNG = np.random.default_rng(0)
X, V, M = RNG.uniform(0.2, 1, 3), RNG.uniform(0.2, 1, 3), RNG.uniform(0.2, 1, (3, 3))


class Problem:
    """The same functions and points for a library."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.of = library.autograd.functional
        self.x, self.v, self.m = (library.tensor(a) for a in (X, V, M))

    def vector(self, x: Any) -> Any:
        return (self.m @ x).exp()

    def scalar(self, x: Any) -> Any:
        return ((self.m @ x).exp() * x).sum()

    def scalar_of_two(self, x: Any, y: Any) -> Any:
        return ((self.m @ x) * y * x).sum()

    def two_of_two(self, x: Any, y: Any) -> tuple:
        return (self.m @ x) * y, (x * y).sum()

    def linear_in_one(self, x: Any, y: Any) -> Any:
        return (x**2).sum() + y.sum()


CASES: dict[str, Callable[[Problem], Any]] = {
    "jacobian": lambda p: p.of.jacobian(p.vector, p.x),
    "jacobian of several": lambda p: p.of.jacobian(p.two_of_two, (p.x, p.v)),
    "jacobian of a constant": lambda p: p.of.jacobian(lambda x: p.library.ones(2), p.x),
    "jacobian, vectorized": lambda p: p.of.jacobian(p.vector, p.x, vectorize=True),
    "hessian": lambda p: p.of.hessian(p.scalar, p.x),
    "hessian of several": lambda p: p.of.hessian(p.scalar_of_two, (p.x, p.v)),
    "hessian of a sum": lambda p: p.of.hessian(lambda x: x.sum(), p.x),
    "vjp": lambda p: p.of.vjp(p.vector, p.x, p.v),
    "vjp without v": lambda p: p.of.vjp(p.scalar, p.x),
    "jvp": lambda p: p.of.jvp(p.vector, p.x, p.v),
    "jvp of several": lambda p: p.of.jvp(p.two_of_two, (p.x, p.v), (p.v, p.x)),
    "hvp": lambda p: p.of.hvp(p.scalar, p.x, p.v),
    "hvp of several": lambda p: p.of.hvp(p.scalar_of_two, (p.x, p.v), (p.v, p.v)),
    "hvp of a sum": lambda p: p.of.hvp(lambda x: x.sum(), p.x, p.v),
    "hvp, linear in one": lambda p: p.of.hvp(p.linear_in_one, (p.x, p.v), (p.v, p.v)),
    "vhp": lambda p: p.of.vhp(p.scalar, p.x, p.v),
    "vhp of several": lambda p: p.of.vhp(p.scalar_of_two, (p.x, p.v), (p.v, p.v)),
}


def arrays(made: Any) -> Iterator[np.ndarray]:
    if isinstance(made, (tuple, list)):
        for part in made:
            yield from arrays(part)
    else:
        assert not made.requires_grad
        yield made.numpy()


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_pytorch(torch: Any, name: str) -> None:
    mine = list(arrays(CASES[name](Problem(taimatsu))))
    wanted = list(arrays(CASES[name](Problem(torch))))
    assert [a.shape for a in mine] == [a.shape for a in wanted]
    for a, b in zip(mine, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


DIFFERENTIABLE: dict[str, Callable[[Problem], Any]] = {
    "jacobian": lambda p: p.of.jacobian(p.vector, p.x, create_graph=True),
    "hessian": lambda p: p.of.hessian(p.scalar, p.x, create_graph=True),
    "vjp": lambda p: p.of.vjp(p.vector, p.x, p.v, create_graph=True)[1],
    "jvp": lambda p: p.of.jvp(p.vector, p.x, p.v, create_graph=True)[1],
    "hvp": lambda p: p.of.hvp(p.scalar, p.x, p.v, create_graph=True)[1],
    "vhp": lambda p: p.of.vhp(p.scalar, p.x, p.v, create_graph=True)[1],
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_results_are_differentiable_with_create_graph(torch: Any, name: str) -> None:
    found = []
    for library in (taimatsu, torch):
        problem = Problem(library)
        problem.x.requires_grad_(True)
        DIFFERENTIABLE[name](problem).sum().backward()
        found.append(problem.x.grad.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10)


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "hvp", "vhp"])
def test_strict_refuses_independent_outputs(name: str) -> None:
    p = Problem(taimatsu)
    rest = () if name in ("jacobian", "hessian") else (p.x,)
    with pytest.raises(RuntimeError, match="independent"):
        getattr(p.of, name)(lambda x: p.library.tensor(1.0), p.x, *rest, strict=True)
    with pytest.raises(TypeError, match="Tensor or a tuple of Tensors"):
        getattr(p.of, name)(lambda x: 3.0, p.x, *rest)


def test_wrong_vectors_and_outputs() -> None:
    p = Problem(taimatsu)
    with pytest.raises(RuntimeError, match="v can only be None"):
        p.of.vjp(p.vector, p.x)
    with pytest.raises(RuntimeError, match="invalid size"):
        p.of.vjp(p.vector, p.x, p.v[:2])
    with pytest.raises(RuntimeError, match="invalid length"):
        p.of.vjp(p.vector, p.x, (p.v, p.v))
    with pytest.raises(RuntimeError, match="single element"):
        p.of.hessian(p.vector, p.x)
    with pytest.raises(RuntimeError, match="single Tensor"):
        p.of.hvp(lambda x: (x.sum(), x.sum()), p.x, p.v)
