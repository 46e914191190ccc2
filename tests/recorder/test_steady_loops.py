"""Loops that repeat add nothing to the trie, and compile nothing, after their third iteration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
from taimatsu import nn, recorder
from taimatsu.recorder import state
from taimatsu.recorder.recording import _roots

F = nn.functional
STATISTICS = recorder.STATISTICS
IMAGES = np.random.default_rng(0).normal(size=(640, 1, 8, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 5, 640)


def assert_steady(step: Callable[[int], Any], warm: int = 3, count: int = 15) -> None:
    for i in range(warm):
        step(i)
    states, programs = STATISTICS.states, STATISTICS.programs
    for i in range(warm, count):
        step(i)
    assert STATISTICS.states == states, f"{STATISTICS.states - states} states were added"
    assert STATISTICS.programs == programs, f"{STATISTICS.programs - programs} programs were built"


def network() -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    )


def data() -> tuple[Any, Any]:
    return torch.tensor(IMAGES), torch.tensor(LABELS)


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("zero_first", [True, False])
@pytest.mark.parametrize("log_every", [0, 1, 3])
def test_training(optimizer: str, to_none: bool, zero_first: bool, log_every: int) -> None:
    model = network()
    update = OPTIMIZERS[optimizer](model.parameters())
    x, y = data()

    def step(i: int) -> None:
        first = 64 * (i % 9)
        if zero_first:
            update.zero_grad(set_to_none=to_none)
        loss = F.cross_entropy(model(x[first : first + 64]), y[first : first + 64])
        loss.backward()
        update.step()
        if not zero_first:
            update.zero_grad(set_to_none=to_none)
        if log_every and i % log_every == 0:
            str(loss)
            loss.item()

    assert_steady(step, 3 if log_every < 2 else 2 * log_every)


def test_learning_rates_that_change() -> None:
    model = network()
    update = OPTIMIZERS["sgd"](model.parameters())
    x, y = data()

    def step(i: int) -> None:
        update.param_groups[0]["lr"] = 0.1 / (i + 1)
        update.zero_grad()
        F.cross_entropy(model(x[:64]), y[:64]).backward()
        update.step()

    assert_steady(step)


def test_accumulation_and_an_odd_last_batch() -> None:
    model = network()
    update = OPTIMIZERS["sgd"](model.parameters())
    x, y = data()

    def step(i: int) -> None:
        for k, size in enumerate((64, 64, 17)):
            part = slice(64 * k, 64 * k + size)
            (F.cross_entropy(model(x[part]), y[part]) / 3).backward()
        update.step()
        update.zero_grad()

    assert_steady(step, warm=5)  # one iteration for each micro-batch to learn where it ends


def test_evaluation_without_no_grad() -> None:
    model = network()
    x, y = data()

    def step(i: int) -> None:
        part = slice(32 * i, 32 * i + 32)
        (model(x[part]).argmax(1) == y[part]).sum().item()

    assert_steady(step)


def test_gradients_of_moving_slices() -> None:
    w = torch.randn(200, 4, requires_grad=True)
    b = torch.randn(4, requires_grad=True)

    def step(i: int) -> None:
        (w[i : i + 2] * b).sum().backward()
        want = np.zeros((200, 4), np.float32)
        want[i : i + 2] = b.detach().numpy()
        np.testing.assert_array_equal(w.grad.numpy(), want)
        np.testing.assert_allclose(b.grad.numpy(), w.detach().numpy()[i : i + 2].sum(0), rtol=1e-6)
        w.grad = b.grad = None

    assert_steady(step)


def test_leaves_that_are_moving_views() -> None:
    data = torch.randn(100, 4)
    w = torch.randn(4, requires_grad=True)

    def step(i: int) -> None:
        leaf = data[i : i + 3].requires_grad_()
        (leaf * w).sum().backward()
        np.testing.assert_allclose(w.grad.numpy(), data[i : i + 3].numpy().sum(0), rtol=1e-5)
        w.grad = None

    assert_steady(step)


def test_writes_at_moving_positions() -> None:
    cache = torch.zeros(2, 50, 4)
    out = torch.zeros(50, 4)
    key = torch.ones(2, 4)
    hidden = torch.zeros(4)

    def step(i: int) -> None:
        nonlocal hidden
        cache[:, i] = key * 2
        hidden = (hidden + 1).tanh()
        out[i] = hidden
        recorder.flush()

    assert_steady(step)
    assert cache[:, :15].sum().item() == 2 * 15 * 4 * 2
    assert (out[:15] != 0).all()


def test_thousands_of_slices_take_linear_time() -> None:
    def seconds(count: int) -> float:
        out = torch.zeros(count, 4)
        table = torch.randn(count, 4)
        begin = time.perf_counter()
        for i in range(count):
            out[i] = table[i] * 2
        assert torch.equal(out, table * 2)
        return time.perf_counter() - begin

    seconds(2_500)
    short, long = seconds(1_250), seconds(5_000)
    assert long < 12 * short + 0.5  # four times the steps; quadratic would be 16 times


def test_a_loop_without_an_end_becomes_one_repeated_program() -> None:
    value = torch.zeros(4)
    recorder.flush()
    seen = []
    for _ in range(16):
        for _ in range(state.SOFT_BOUND // 2):
            value = value * 0.5 + 1
        seen.append((STATISTICS.states, STATISTICS.programs, STATISTICS.flushes))
    (states, programs, flushes), (last_states, last_programs, last_flushes) = seen[8], seen[-1]
    assert (last_states, last_programs) == (states, programs)
    assert last_flushes >= flushes + 6
    assert value.tolist() == [2.0] * 4


def test_two_loops_on_different_lines_are_both_cut() -> None:
    """They share states, but not where their recordings began."""
    value = torch.zeros(4)
    recorder.flush()
    flushes = STATISTICS.flushes
    for _ in range(3 * state.SOFT_BOUND):
        value = value + 1
    recorder.flush()
    assert STATISTICS.flushes >= flushes + 2
    flushes = STATISTICS.flushes
    for _ in range(3 * state.SOFT_BOUND):
        value = value + 1
    recorder.flush()
    assert STATISTICS.flushes >= flushes + 2
    assert value.tolist() == [6.0 * state.SOFT_BOUND] * 4


def count_states() -> int:
    waiting = list(_roots.values())
    count = 0
    for each in waiting:
        waiting.extend(each.known().values())
        count += 1
    return count


def test_what_never_repeats_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder.flush()
    monkeypatch.setattr(state, "TRIE_LIMIT", 500)
    w = torch.randn(1, requires_grad=True)
    for size in range(1, 400):
        (torch.ones(size) * w).sum().backward()
        assert w.grad.item() == size
        w.grad = None
        if size > 2:
            assert STATISTICS.live <= 560
    assert count_states() <= 560
