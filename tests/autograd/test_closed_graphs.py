"""Backward over graphs that were carried out already is replayed, with the same results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
from taimatsu import nn, recorder
from taimatsu.autograd.engine import Walk
from taimatsu.config import config
from taimatsu.recorder.recording import _roots

F = nn.functional
needs_recording = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 nothing is replayed"
)


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    recorder.flush()
    _roots.clear()


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Walk]:
    """The walks that were made, not replayed."""
    made: list[Walk] = []
    inner = Walk.run

    def run(self: Walk) -> None:
        made.append(self)
        inner(self)

    monkeypatch.setattr(Walk, "run", run)
    return made


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25),
        nn.Linear(36, 5),
    )  # fmt: skip


def train(look: bool, steps: int = 6, to_none: bool = True, every: int = 1) -> tuple[list, list]:
    """Losses and final parameters, where each step looks at the loss first or not."""
    model = network()
    update = torch.optim.Adam(model.parameters(), lr=1e-2)
    images = torch.randn(40, 1, 8, 8)
    labels = torch.randint(0, 5, (40,))
    losses = []
    for i in range(steps):
        update.zero_grad(set_to_none=to_none)
        part = slice(5 * (i % 8), 5 * (i % 8) + 5)
        loss = F.cross_entropy(model(images[part]), labels[part]) * (1 + i / 10)
        if look and i % every == 0:
            losses.append(loss.item())
        loss.backward()
        update.step()
        if not look:
            losses.append(loss.item())
    return losses, [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize("to_none", [True, False])
def test_training_is_the_same(to_none: bool) -> None:
    """The other runs are different programs, which may round their sums in other ways."""
    want, parameters = train(False, to_none=to_none)
    got, same = train(True, to_none=to_none)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    for a, b in zip(parameters, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@needs_recording
@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("every", [1, 3])
def test_steps_are_replayed(walks: list[Walk], to_none: bool, every: int) -> None:
    for _ in range(3):  # the first step of all, which makes the parameters, is one of its own
        train(True, 3 * every, to_none, every)
    warm = len(walks)
    states, programs = recorder.STATISTICS.states, recorder.STATISTICS.programs
    train(True, 5 * every, to_none, every)
    assert warm <= 5 if every == 1 else warm <= 7
    assert len(walks) == warm, "nothing was walked again"
    assert recorder.STATISTICS.states == states
    assert recorder.STATISTICS.programs == programs


@needs_recording
def test_accumulation_is_replayed(walks: list[Walk]) -> None:
    w = torch.ones(3, requires_grad=True)
    x = torch.arange(3.0)

    def step(k: int) -> None:
        for factor in (1.0 + k, 2.0 + k):
            loss = (w * x).exp().sum() * factor
            loss.item()
            loss.backward()
        want = np.arange(3) * np.exp(np.arange(3)) * (3 + 2 * k)
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5)
        w.grad = None

    for k in range(4):
        step(k)
    warm, states = len(walks), recorder.STATISTICS.states
    for k in range(4, 9):
        step(k)
    assert len(walks) == warm
    assert recorder.STATISTICS.states == states


@needs_recording
def test_the_optimizer_meets_the_parameters_that_backward_brought_in() -> None:
    """They are parameters to the programs, and written whole."""
    model = network()
    update = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[Any] = []
    inner = recorder.registered.execute

    def watch(graph: Any, *given: Any) -> Any:
        seen.append(graph)
        return inner(graph, *given)

    x, y = torch.randn(5, 1, 8, 8), torch.randint(0, 5, (5,))
    recorder.registered.execute = watch
    try:
        loss = F.cross_entropy(model(x), y)
        loss.item()
        loss.backward()
        update.step()
        recorder.flush()
    finally:
        recorder.registered.execute = inner
    graph = seen[-1]
    writes = [node for node in graph.nodes if node.is_write]
    assert len(writes) == 4
    assert all(node.attributes["whole"] for node in writes)
    assert sum(given.grad for given in graph.given.values()) == 4


def test_retained_graphs() -> None:
    for _ in range(4):
        w = torch.ones(3, requires_grad=True)
        loss = (w * 2).exp().sum()
        loss.item()
        for k in range(3):
            loss.backward(retain_graph=True)
            np.testing.assert_allclose(w.grad.numpy(), (k + 1) * 2 * np.exp([2, 2, 2]), rtol=1e-5)
        loss.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()
        assert w.grad.tolist() == pytest.approx([8 * np.exp(2)] * 3)


def test_parts_of_a_graph() -> None:
    for _ in range(3):
        w = torch.arange(4.0).requires_grad_()
        shared = w.exp()
        first, second = (shared * shared).sum(), (shared * 3).sum()
        (first + second).item()
        first.backward(retain_graph=True)
        np.testing.assert_allclose(w.grad.numpy(), 2 * np.exp(2 * np.arange(4)), rtol=1e-5)
        second.backward()
        want = 2 * np.exp(2 * np.arange(4)) + 3 * np.exp(np.arange(4))
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5)
        with pytest.raises(RuntimeError, match="a second time"):
            second.backward()


def test_gradients_given() -> None:
    """They may be memory that NumPy sees: read at each call."""
    array = np.ones(3, np.float32)
    w = torch.ones(3, requires_grad=True)
    for look in (False, True):
        for k in range(5):
            array[:] = k
            out = w * w
            if look:
                out.tolist()
            out.backward(torch.from_numpy(array))
            assert w.grad.tolist() == [2.0 * k] * 3
            w.grad = None
            out = w * w
            if look:
                out.tolist()
            out.backward(torch.full((3,), float(k)))
            assert w.grad.tolist() == [2.0 * k] * 3
            w.grad = None


def test_overwritten_values_are_refused_each_time() -> None:
    for k in range(4):
        x = torch.ones(3)
        w = torch.ones(3, requires_grad=True)
        loss = (w * x).sum()
        loss.item()
        if k % 2:
            x.add_(1)
            with pytest.raises(RuntimeError, match=r"modified by an inplace.*expected version 0"):
                loss.backward()
        else:
            loss.backward()
            assert w.grad.tolist() == [1.0] * 3


def test_recorded_writes_before_the_values_were_saved() -> None:
    for k in range(4):
        x = torch.ones(3)
        w = torch.ones(3, requires_grad=True)
        x.add_(k)
        y = w * x  # saved at version 1
        z = (y * 2).relu_()
        loss = z.sum()
        loss.item()
        if k == 3:
            x.add_(1)
            with pytest.raises(RuntimeError, match=r"at version 2; expected version 1 instead"):
                loss.backward()
        else:
            loss.backward()
            assert w.grad.tolist() == [2.0 * (1 + k)] * 3


def test_data_exchanged_in_between() -> None:
    for k in range(4):
        w = torch.ones(3, requires_grad=True)
        loss = (w * w).sum()
        loss.item()
        if k % 2:
            w.data = torch.full((3,), 5.0)
        loss.backward()
        assert w.grad.tolist() == [10.0 if k % 2 else 2.0] * 3


def test_memory_that_numpy_changes_in_between() -> None:
    array = np.ones(3, np.float32)
    w = torch.ones(3, requires_grad=True)
    for k in range(6):
        array[:] = 1
        loss = (w * torch.from_numpy(array)).sum()
        assert loss.item() == 3
        array[:] = k if k % 2 else 1
        loss.backward()
        assert w.grad.tolist() == [float(k if k % 2 else 1)] * 3
        w.grad = None


def test_parameters_that_numpy_sees() -> None:
    w = torch.ones(3, requires_grad=True)
    for k in range(5):
        seen = w.detach().numpy() if k % 2 else None
        loss = (w * w).sum()
        loss.item()
        loss.backward()
        assert w.grad.tolist() == [2.0] * 3
        w.grad = None
        del seen


@pytest.mark.parametrize("hook", ["leaf", "result", "accumulated"])
def test_hooks_take_the_walk(hook: str) -> None:
    calls: list[int] = []
    for k in range(4):
        w = torch.ones(3, requires_grad=True)
        y = w * 3
        loss = y.sum()
        loss.item()
        if k % 2:
            if hook == "leaf":
                w.register_hook(lambda g: calls.append(1))
            elif hook == "result":
                y.register_hook(lambda g: calls.append(1))
            else:
                w.register_post_accumulate_grad_hook(lambda p: calls.append(1))
        loss.backward()
        assert w.grad.tolist() == [3.0] * 3
    assert len(calls) == 2


def test_moving_slices_and_numbers() -> None:
    table = torch.arange(40.0).reshape(10, 4)
    weights = torch.ones(10, 4, requires_grad=True)
    for i in range(8):
        loss = (weights[i] * table[i : i + 2]).sum() * (i + 0.5) - weights[i : i + 2].exp().sum()
        loss.item()
        loss.backward()
        want = np.zeros((10, 4))
        rows = np.arange(40.0).reshape(10, 4)[i : i + 2]
        want[i] = rows.sum(0) * (i + 0.5)
        want[i : i + 2] -= np.exp(1)
        np.testing.assert_allclose(weights.grad.numpy(), want, rtol=1e-5)
        weights.grad = None


def test_a_graph_over_an_older_one() -> None:
    for _ in range(4):
        w = torch.ones(3, requires_grad=True)
        hidden = (w * 2).exp()
        hidden.tolist()
        loss = (hidden * w).sum()
        loss.item()
        loss.backward()
        want = np.full(3, np.exp(2) + 2 * np.exp(2))
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5)


def test_a_leaf_met_twice() -> None:
    """Through NumPy's eyes on it one leaf is copied for each read."""
    for _ in range(4):
        array = np.ones(3, np.float32)
        w = torch.from_numpy(array).requires_grad_()
        loss = (w * 2).sum() + (w * w).sum()
        loss.item()
        loss.backward()
        assert w.grad.tolist() == [4.0] * 3


SHAPES: list[Callable[[Any], Any]] = [lambda x: x, lambda x: x[:, ::2], lambda x: x.t()]


@pytest.mark.parametrize("shape", range(3))
def test_leaves_and_their_views(shape: int) -> None:
    view = SHAPES[shape]
    for k in range(4):
        w = torch.full((4, 4), float(k + 1)).requires_grad_()
        loss = (view(w) * view(w)).sum()
        loss.item()
        loss.backward()
        want = np.zeros((4, 4))
        region = want.T if shape == 2 else view(want)
        region[...] = 2 * (k + 1)
        np.testing.assert_allclose(w.grad.numpy(), want)
