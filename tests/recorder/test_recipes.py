"""Values that only a graph holds are left out where no backward comes, and computed if one does."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from recorder.test_invariances import in_threads

import taimatsu as torch
from taimatsu import nn, recorder
from taimatsu.autograd import replay
from taimatsu.config import config
from taimatsu.recorder import registered
from taimatsu.recorder.recipe import Ahead
from taimatsu.recorder.recording import _roots

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(config.eager, reason="with TAIMATSU_EAGER=1 every value is written at once"),
]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Habits are kept with the states, and where backwards end: each test begins with none."""
    recorder.flush()
    _roots.clear()
    replay._launched.clear()


class Executed:
    """The programs carried out so far, with the slots that each wrote."""

    def __init__(self, inner: Callable) -> None:
        self.inner = inner
        self.graphs: list[Any] = []

    def __call__(self, graph: Any, buffers: Any, items: Any, background: bool = False) -> Any:
        self.graphs.append(graph)
        return self.inner(graph, buffers, items, background)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Executed:
    recorder.flush()
    watch = Executed(registered.execute)
    monkeypatch.setattr(registered, "execute", watch)
    return watch


class Case:
    """A small network whose activations the backward reads, and data for it."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.w = torch.tensor(rng.normal(size=(5, 7)).astype(np.float32)).requires_grad_()
        self.v = torch.tensor(rng.normal(size=(7, 3)).astype(np.float32)).requires_grad_()
        self.x = torch.tensor(rng.normal(size=(4, 5)).astype(np.float32))
        self.start = [t.detach().clone() for t in (self.w, self.v, self.x)]
        recorder.flush()

    def forward(self) -> Any:
        return ((self.x @ self.w).tanh() @ self.v).exp()

    def evaluate(self, times: int = 3) -> Any:
        """Forward passes without a backward; the last one's loss, carried out."""
        for _ in range(times):
            loss = self.forward().sum()
            loss.item()
        return loss

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of w and v at the values that the case began with."""
        w, v, x = (t.numpy().astype(np.float64) for t in self.start)
        h = np.tanh(x @ w)
        g = np.exp(h @ v)
        return x.T @ ((g @ v.T) * (1 - h * h)), h.T @ g

    def check(self, factor: float = 1.0) -> None:
        for leaf, want in zip((self.w, self.v), self.expected(), strict=True):
            np.testing.assert_allclose(leaf.grad.numpy(), factor * want, rtol=2e-5, atol=1e-5)


def is_owed(loss: Any) -> bool:
    """Whether the loss's graph is closed and what its backward needs is not in memory."""
    assert loss._tape.recording is None
    saved = loss._tape.saved
    if isinstance(saved, Ahead):
        return False
    return saved is not None and any(loss._tape.items[s].buffer is None for s in saved.slots)


# -- what is written ---------------------------------------------------------------------------


def test_evaluation_stops_writing_what_backward_would_read(executed: Executed) -> None:
    case = Case()
    written = []
    for _ in range(6):
        loss = case.forward().sum()
        executed.graphs.clear()
        loss.item()
        written.append(len(executed.graphs[-1].outputs))
    assert written[0] == 3  # the loss, tanh, exp
    assert written[2:] == [1] * 4
    assert is_owed(loss)


def test_a_late_backward_computes_what_was_left_out(executed: Executed) -> None:
    case = Case()
    loss = case.evaluate()
    executed.graphs.clear()
    loss.backward()
    assert len(executed.graphs) == 1, "the recipe"
    assert len(executed.graphs[0].outputs) == 2
    case.check()
    assert not is_owed(loss)


def test_a_state_that_backward_came_to_writes_again(executed: Executed) -> None:
    case = Case()
    for _ in range(3):
        loss = case.evaluate(1)
    loss.backward()
    for _ in range(4):
        loss = case.evaluate(1)
        assert not is_owed(loss)
        case.w.grad = case.v.grad = None
        loss.backward()
        case.check()


def test_training_with_the_loss_seen_first_never_recomputes(executed: Executed) -> None:
    case = Case()
    for _ in range(5):
        loss = case.evaluate(1)
        assert not is_owed(loss)
        case.w.grad = case.v.grad = None
        executed.graphs.clear()
        loss.backward()
        recorder.flush()
        assert len(executed.graphs) <= 1
        case.check()


def test_recipes_that_were_needed_need_more_patience() -> None:
    case = Case()
    runs: list[bool] = []
    for i in range(24):
        loss = case.evaluate(1)
        runs.append(is_owed(loss))
        if i % 3 == 2:
            loss.backward()
    assert sum(runs[:8]) > sum(runs[8:16]) >= sum(runs[16:])
    assert sum(runs[16:]) == 0


def test_loops_that_evaluate_are_steady() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2), nn.Flatten(),
        nn.Linear(36, 5),
    )  # fmt: skip
    images = torch.randn(64, 1, 8, 8)
    labels = torch.randint(0, 5, (64,))
    counts = []
    for i in range(8):
        out = model(images[8 * i : 8 * i + 8])
        loss = nn.functional.cross_entropy(out, labels[8 * i : 8 * i + 8])
        assert loss.item() > 0
        assert (out.argmax(1) == labels[8 * i : 8 * i + 8]).sum().item() <= 8
        counts.append((recorder.STATISTICS.states, recorder.STATISTICS.programs))
    assert counts[2:] == [counts[2]] * 6


# -- whoever asks ------------------------------------------------------------------------------


def test_retained_graphs_and_second_backwards() -> None:
    case = Case()
    loss = case.evaluate()
    assert is_owed(loss)
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    case.check(2)
    loss.backward()
    case.check(3)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


def test_a_retained_graph_nobody_comes_back_to(executed: Executed) -> None:
    case = Case()
    for _ in range(4):
        case.w.grad = case.v.grad = None
        loss = case.forward().sum()
        loss.backward(retain_graph=True)
        executed.graphs.clear()
        recorder.flush()
    assert len(executed.graphs[0].outputs) == 3  # the loss and two gradients
    loss.backward()
    case.check(2)


def test_create_graph() -> None:
    case = Case()
    loss = case.evaluate()
    assert is_owed(loss)
    (grad,) = torch.autograd.grad(loss, case.w, create_graph=True)
    (grad * grad).sum().backward()
    other = Case()
    (grad,) = torch.autograd.grad(other.forward().sum(), other.w, create_graph=True)
    (grad * grad).sum().backward()
    np.testing.assert_allclose(case.w.grad.numpy(), other.w.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(case.v.grad.numpy(), other.v.grad.numpy(), rtol=1e-5)


def test_hooks_see_the_same_gradients() -> None:
    seen: list[Any] = []
    for times in (1, 3):  # written, owed
        case = Case()
        for _ in range(times):
            hidden = (case.x @ case.w).tanh()
            hidden.register_hook(lambda g: seen.append(g.numpy().copy()))
            loss = (hidden @ case.v).exp().sum()
            loss.item()
            del hidden
        loss.backward()
        case.check()
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_part_of_the_graph() -> None:
    case = Case()
    for _ in range(3):
        out = case.forward()
        first, second = out[0].sum(), (out[1] * out[1]).sum()
        (first + second).item()
    first.backward(retain_graph=True)
    case.w.grad = case.v.grad = None
    second.backward()
    other = Case()
    row = other.forward()[1]
    (row * row).sum().backward()
    np.testing.assert_allclose(case.w.grad.numpy(), other.w.grad.numpy(), rtol=1e-5)


def test_graphs_that_cross_recordings() -> None:
    case = Case()
    for _ in range(4):
        hidden = (case.x @ case.w).tanh()
        hidden.tolist()
        out = (hidden @ case.v).exp()
        out.tolist()
        loss = out.sum()
        loss.item()
    loss.backward()
    case.check()


def test_masks_drawn_again_are_the_same() -> None:
    w = torch.ones(200, requires_grad=True)
    for _ in range(4):
        out = nn.functional.dropout(w, 0.5).exp()
        total = (out * out).sum()
        del out
        total.item()
    assert is_owed(total)
    total.backward()
    grad = w.grad.numpy()
    kept = int((grad != 0).sum())
    assert 50 < kept < 150
    assert total.item() == pytest.approx(kept * np.exp(4) + (200 - kept), rel=1e-5)
    np.testing.assert_allclose(grad[grad != 0], 4 * np.exp(4), rtol=1e-5)


# -- what recipes read is overwritten ----------------------------------------------------------


def overwrite_in_place(case: Case) -> None:
    with torch.no_grad():
        case.w.mul_(0)
        case.x.zero_()


def overwrite_a_region(case: Case) -> None:
    case.x[1:3] = 7
    case.w.data[0].fill_(3)


def overwrite_data(case: Case) -> None:
    case.x.data.copy_(torch.zeros(4, 5))
    case.x.data = torch.ones(4, 5)


def overwrite_numpy(case: Case) -> None:
    case.x.numpy()[:] = 5


def overwrite_numpy_later(case: Case) -> None:
    array = np.asarray(case.x)
    recorder.flush()
    array += 1


def overwrite_bits(case: Case) -> None:
    case.x.view(torch.int32).fill_(0)


def overwrite_by_optimizer(case: Case) -> None:
    for leaf in (case.w, case.v):
        leaf.grad = torch.ones_like(leaf)
    optimizer = torch.optim.SGD([case.w, case.v], lr=1.0)
    for _ in range(3):
        optimizer.step()


WAYS = [
    overwrite_in_place,
    overwrite_a_region,
    overwrite_data,
    overwrite_numpy,
    overwrite_numpy_later,
    overwrite_bits,
    overwrite_by_optimizer,
]


@pytest.mark.parametrize("overwrite", WAYS)
def test_overwriting_carries_recipes_out(overwrite: Callable[[Case], None]) -> None:
    """What was saved is as it was: the values of activations are those of the forward pass."""
    case = Case()
    for _ in range(3):
        hidden = (case.x @ case.w).tanh()
        loss = (hidden * hidden).sum() + hidden.exp().sum()
        loss.item()
    owed = [loss._tape.items[s] for s in loss._tape.saved.slots]
    assert owed
    assert all(s.buffer is None for s in owed)
    values = hidden.detach().numpy().copy()
    overwrite(case)
    recorder.flush()
    assert all(s.buffer is not None for s in owed)
    want = np.exp(values).reshape(-1)
    assert any(np.allclose(s.buffer, want, rtol=1e-5) for s in owed)


def test_overwriting_after_the_recipe_and_versions() -> None:
    case = Case()
    loss = case.evaluate()
    with torch.no_grad():
        case.x.mul_(2)  # saved itself: backward refuses, recipe or not
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    w = torch.ones(3, requires_grad=True)
    shift = torch.ones(3)
    for _ in range(3):
        loss = (w + shift).exp().sum()
        loss.item()
    assert is_owed(loss)
    with torch.no_grad():
        shift.zero_()  # not saved: backward goes on with what was computed from it
    loss.backward()
    np.testing.assert_allclose(w.grad.numpy(), np.full(3, np.exp(2)), rtol=1e-5)


def test_recordings_that_write_what_came_in_keep_everything() -> None:
    w = torch.ones(3, requires_grad=True)
    total = torch.zeros(3)
    for _ in range(4):
        out = (w * 2).exp()
        loss = out.sum()
        with torch.no_grad():
            total.add_(out)
        del out
        loss.item()
        assert not is_owed(loss)


def test_memory_that_numpy_sees_is_not_read_again() -> None:
    array = np.ones((5 << 20,), np.float32)  # more than a snapshot may hold
    scale = torch.ones(1, requires_grad=True)
    shared = torch.from_numpy(array)
    for factor in (1.0, 2.0, 3.0, 4.0):
        array[:] = factor
        loss = (shared + scale).exp()[:2].sum()
        loss.item()
        array[:] = 0
    loss.backward()
    assert scale.grad.item() == pytest.approx(2 * np.exp(5), rel=1e-4)


# -- threads and memory ------------------------------------------------------------------------


def test_threads_ask_and_overwrite() -> None:
    for _ in range(20):
        case = Case()
        loss = case.evaluate()
        shift = threading.Event()

        def back(loss: Any = loss, shift: Any = shift) -> None:
            shift.wait(5)
            loss.backward()

        def show(case: Case = case, shift: Any = shift) -> None:
            shift.set()
            case.x.numpy()

        in_threads([back, show, show])
        case.check()


def test_threads_evaluate_one_network() -> None:
    case = Case()
    want = case.evaluate(1).item()

    def run() -> None:
        for i in range(60):
            loss = case.forward().sum()
            assert loss.item() == want
            if i % 20 == 19:
                grad = torch.autograd.grad(loss, case.w)[0]
                np.testing.assert_allclose(grad.numpy(), case.expected()[0], rtol=2e-5, atol=1e-5)

    in_threads([run] * 3)


def test_recipes_hold_inputs_and_nothing_else() -> None:
    gc.collect()
    gc.disable()
    try:
        case = Case()
        loss = case.evaluate()
        recipe = loss._tape.saved
        kept = [item for item in recipe.items if type(item) is recorder.Storage]
        assert {id(s) for s in kept} <= {id(t._storage) for t in (case.x, case.w, case.v)}
        tape = weakref.ref(loss._tape)
        assert len(case.w._storage.readers) == 1
        del recipe, kept, loss
        assert tape() is None, "freed without the garbage collector"
        assert not case.w._storage.readers
        loss = case.evaluate()
        case.w = case.v = case.x = None  # the graph holds what it needs
        loss.backward()
    finally:
        gc.enable()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_graphs_die_in_any_order(order: tuple[int, ...]) -> None:
    case = Case()
    case.evaluate()
    losses: list[Any] = [case.evaluate(1) for _ in range(3)]
    for k in order[:2]:
        losses[k] = None
    last = losses[order[2]]
    assert len(case.w._storage.readers) == 1
    last.backward()
    case.check()
    assert not case.w._storage.readers


def test_a_failed_recipe_can_be_carried_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    loss = case.evaluate()
    inner = registered.execute
    left = [MemoryError("no memory")]

    def failing(*given: Any) -> Any:
        if left:
            raise left.pop()
        return inner(*given)

    monkeypatch.setattr(registered, "execute", failing)
    with pytest.raises(MemoryError):
        loss.backward()
    assert is_owed(loss)
    case.w.grad = case.v.grad = None
    loss.backward()
    case.check()
