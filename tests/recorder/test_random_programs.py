"""Random programs: the same values as PyTorch's, and the same bits however they are carried out."""

from __future__ import annotations

import gc
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from recorder.programs import KINDS, Program

import taimatsu
from taimatsu import recorder
from taimatsu.config import config
from taimatsu.recorder import recipe
from taimatsu.recorder.recording import _roots

SEEDS = range(100)
# Bit for bit holds for first gradients; second ones agree but for the rounding of their sums.
FIRST_ORDER = tuple(kind for kind in KINDS if kind != "second_order")
pytestmark = pytest.mark.filterwarnings("ignore")


def close(a: Any, b: Any) -> bool:
    """Equal but for rounding, which differs between the libraries."""
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype
        return alike and np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(a, (tuple, list)):
        return isinstance(b, (tuple, list)) and len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float):
        return isinstance(b, float) and bool(np.isclose(a, b, 1e-3, 1e-4, equal_nan=True))
    return type(a) is type(b) and a == b


def same(a: Any, b: Any) -> bool:
    """Equal to the bit."""
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype
        return alike and a.tobytes() == b.tobytes()
    if isinstance(a, (tuple, list)):
        return isinstance(b, (tuple, list)) and len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def assert_all(compare: Any, want: list, got: list) -> None:
    assert len(want) == len(got), (want, got)
    for position, (a, b) in enumerate(zip(want, got, strict=True)):
        assert compare(a, b), f"observation {position}: expected {a}, got {b}"


def run_eagerly(program: Program) -> list:
    before, config.eager = config.eager, True
    try:
        return program.run(taimatsu)
    finally:
        config.eager = before
        recorder.flush()


@pytest.mark.parametrize("seed", SEEDS)
def test_pytorch_gives_the_same(seed: int) -> None:
    torch = pytest.importorskip("torch")
    program = Program(seed)
    assert_all(close, program.run(torch), program.run(taimatsu))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_gives_the_same(seed: int) -> None:
    program = Program(seed)
    assert_all(close, run_eagerly(program), program.run(taimatsu))


def test_second_gradients_through_several_recordings(torch: Any) -> None:
    def second(lib: Any, look: Callable[[Any], Any]) -> list[np.ndarray]:
        w = lib.tensor([[0.3, -0.2], [0.5, 0.1]], requires_grad=True)
        b = lib.tensor([0.1, 0.2], requires_grad=True)
        h = (lib.tensor([[1.0, 2.0], [3.0, -1.0]]) @ w + b).tanh()
        look(h)
        y = (h * h * w).exp()
        look(y)
        (g,) = lib.autograd.grad((y * y).sum(), w, create_graph=True)
        look(g)
        ((g * g).sum() + (y * b).sum()).backward()
        return [w.grad.numpy(), b.grad.numpy()]

    want = second(torch, lambda t: None)
    for look in (lambda t: None, lambda t: t.detach().numpy().copy()):
        for a, b in zip(want, second(taimatsu, look), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5)


@pytest.mark.parametrize("seed", range(1000, 1006))
def test_a_flush_anywhere_changes_no_value(seed: int) -> None:
    """Up to rounding: what a sum is computed with, and so its order, may change with a flush."""
    program = Program(seed, kinds=FIRST_ORDER)
    want = program.run(taimatsu)

    for k in range(program.length):

        def flush_after(number: int, k: int = k) -> None:
            if number == k:
                recorder.flush()

        assert_all(close, want, program.run(taimatsu, flush_after))


@pytest.mark.parametrize("seed", range(5000, 5040))
@pytest.mark.parametrize("second", [True, False])
def test_computing_again_changes_no_bit(
    seed: int, second: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States recompute from their first graph on, backward or not."""
    program = Program(seed) if second else Program(seed, kinds=FIRST_ORDER)
    often = random.Random(seed).choice([1, 2, 3])

    def flush(number: int) -> None:
        if number % often == 0:
            recorder.flush()

    want = program.run(taimatsu, flush)
    monkeypatch.setattr(recipe, "PATIENCE", 0)
    _roots.clear()
    assert_all(same, want, program.run(taimatsu, flush))
    monkeypatch.undo()
    _roots.clear()


@pytest.mark.parametrize("seed", range(2000, 2020))
def test_collected_garbage_and_held_frames_change_no_bit(seed: int) -> None:
    program = Program(seed)
    want = program.run(taimatsu)
    rng = random.Random(seed)
    held: list[BaseException] = []

    def disturb(number: int) -> None:
        if rng.random() < 0.3:
            gc.collect()
        if rng.random() < 0.3:
            dead = taimatsu.ones(3) * number
            try:
                dead @ taimatsu.ones(4)
            except RuntimeError as error:
                held.append(error)  # its frames hold tensors

    assert_all(same, want, program.run(taimatsu, disturb))


@pytest.mark.parametrize("seed", range(3000, 3020))
def test_the_second_run_of_a_program_gives_the_same_bits(seed: int) -> None:
    """It takes known edges and replays what the first one captured."""
    program = Program(seed)
    first = program.run(taimatsu)
    with warnings.catch_warnings():
        assert_all(same, first, program.run(taimatsu))
        assert_all(same, first, program.run(taimatsu))
