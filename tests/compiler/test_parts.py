"""Vector loops in parts: what ``cat``, ``pad``, ``roll`` and gradients of slices are read by."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import taimatsu
from taimatsu.config import config
from taimatsu.evaluate.explain import program_text

pytestmark = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 there are no kernels to show"
)

F = taimatsu.nn.functional


def numbers(*shape: int) -> taimatsu.Tensor:
    rng = np.random.default_rng(len(shape))
    return taimatsu.tensor(rng.standard_normal(shape).astype(np.float32))


A, B = numbers(6, 9, 40), numbers(6, 9, 24)


def joined() -> taimatsu.Tensor:
    return taimatsu.cat([A * 2, B.abs(), A], 2) + 1


def joined_rows() -> taimatsu.Tensor:
    return taimatsu.cat([A * 2, A[:, :4].abs(), A], 1) + 1


def stacked() -> taimatsu.Tensor:
    return taimatsu.stack([A * 2, A + 1], 1).neg()


def padded() -> taimatsu.Tensor:
    return F.pad(A.abs(), (3, 1, 2, 0)) * 2


def rolled() -> taimatsu.Tensor:
    return taimatsu.roll(A.abs(), 3, 2) + 1


def summed_rows() -> taimatsu.Tensor:
    """Sums in lanes, a row each, of what is chosen along the lanes: lanes may not change."""
    return taimatsu.roll(A.reshape(-1, 40)[:, :10], 5, 1).sum(0)


def gradient_of_parts() -> taimatsu.Tensor:
    x = A.clone().requires_grad_()
    first, second, third = x.split([8, 25, 7], 2)
    loss = (first * 2).sum() + (second * second).sum() + third.abs().sum()
    return taimatsu.autograd.grad(loss, [x])[0]


def gradient_of_slices() -> taimatsu.Tensor:
    x = A.clone().requires_grad_()
    loss = (x[:, :, 1:] * x[:, :, :-1]).sum() + x[:, 2].sum()
    return taimatsu.autograd.grad(loss, [x])[0]


PROGRAMS: dict[str, Callable[[], taimatsu.Tensor]] = {
    "cat": joined,
    "cat of rows": joined_rows,
    "stack": stacked,
    "pad": padded,
    "roll": rolled,
    "sums of roll": summed_rows,
    "split": gradient_of_parts,
    "slices": gradient_of_slices,
}


def vector_loads(text: str) -> list[str]:
    """The coordinates of what is read, in statements of vector loops, with their variables."""
    found = []
    var = ""
    for line in text.splitlines():
        loop = re.match(r"\s*vector (i\d+) <", line)
        var = loop.group(1) if loop else var
        if var and " = " in line:
            found += [
                f"{var}: {at}" for at in re.findall(r"a\d+\[([^]]*)\]", line.split(" = ", 1)[1])
            ]
    return found


def folds_along(load: str) -> bool:
    """Whether a coordinate clamps or wraps the variable of its vector loop."""
    var, at = load.split(": ", 1)
    if re.search(rf"\([^()]*\b{var}\b[^()]*\) % ", at):
        return True
    return any(var in part for part in re.findall(r"min\(([^()]*(?:\([^()]*\)[^()]*)*)\)", at))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_result_is_the_reference_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = PROGRAMS[name]().numpy()
    monkeypatch.setattr(config, "eager", True)
    np.testing.assert_allclose(found, PROGRAMS[name]().numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in PROGRAMS if "sums" not in n])
def test_nothing_is_read_at_clamped_places(name: str) -> None:
    loads = vector_loads(program_text(lambda: PROGRAMS[name]().numpy()))
    assert loads
    assert not [load for load in loads if folds_along(load)]


def test_what_outer_loops_choose_is_read_alone() -> None:
    """Each vector loop of a stack's kernel reads one of what is stacked."""
    text = program_text(lambda: stacked().numpy())
    assert text.count("if ") >= 2
    assert "select" not in text


def drawn(rng: np.random.Generator, x: taimatsu.Tensor) -> taimatsu.Tensor:
    """One more random step: choices among elements, and what may be fused with them."""
    dim = int(rng.integers(x.ndim))
    n = x.shape[dim]
    at = int(rng.integers(1, max(n, 2)))
    steps = [
        lambda: taimatsu.cat([x.narrow(dim, 0, min(at, n)) * 2, x.abs()], dim),
        lambda: taimatsu.roll(x, at, dim) + x,
        lambda: F.pad(x, (at % 4, 1, 0, at % 3)),
        lambda: taimatsu.stack([x, x * 3], dim).sum(dim + int(rng.integers(2))),
        lambda: x.flip(dim) - x.cumsum(dim) * 0.01,
        lambda: taimatsu.cat([x.sum(dim, keepdim=True), x], dim),
        lambda: x.narrow(dim, n - at, at) if at < n else x.neg(),
        lambda: x.transpose(0, -1) * 0.5,
        lambda: taimatsu.softmax(x, dim) + x.mean(dim, keepdim=True),
    ]
    return steps[int(rng.integers(len(steps)))]()


def program(seed: int) -> list[np.ndarray]:
    """A random value and its gradient."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 24, int(rng.integers(2, 4))))
    start = taimatsu.tensor(rng.standard_normal(shape).astype(np.float32)).requires_grad_()
    x: taimatsu.Tensor = start
    for _ in range(int(rng.integers(2, 6))):
        x = drawn(rng, x)
    (gradient,) = taimatsu.autograd.grad((x * x.detach().cos()).sum(), [start])
    return [x.detach().numpy(), x.detach().sum(0).numpy(), gradient.numpy()]


@pytest.mark.parametrize("seed", range(40))
def test_random_choices(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(seed)
    monkeypatch.setattr(config, "eager", True)
    for a, b in zip(found, program(seed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(b).max(initial=0)))
