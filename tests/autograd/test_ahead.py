"""Gradients computed ahead of a backward that comes each time: seen by nobody but the clock."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
from taimatsu import nn, recorder
from taimatsu.config import config
from taimatsu.recorder import registered
from taimatsu.recorder.recipe import TRUST_LIMIT, Ahead, Habit
from taimatsu.recorder.recording import _roots

F = nn.functional
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(config.eager, reason="with TAIMATSU_EAGER=1 nothing is recorded ahead"),
]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Habits are kept with the states: each test begins with none."""
    recorder.flush()
    _roots.clear()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The programs carried out so far."""
    graphs: list[Any] = []
    inner = registered.execute

    def watch(graph: Any, *given: Any) -> Any:
        graphs.append(graph)
        return inner(graph, *given)

    monkeypatch.setattr(registered, "execute", watch)
    return graphs


class Case:
    """A small network and its data."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w = torch.tensor(rng.normal(size=(5, 7)).astype(np.float32)).requires_grad_()
        self.v = torch.tensor(rng.normal(size=(7, 3)).astype(np.float32)).requires_grad_()
        self.x = torch.tensor(rng.normal(size=(4, 5)).astype(np.float32))
        self.hidden: Any = None
        recorder.flush()

    def look(self) -> Any:
        """The loss, seen."""
        self.hidden = (self.x @ self.w).tanh()
        loss = (self.hidden @ self.v).exp().sum()
        loss.item()
        return loss

    def gradients(self) -> list[Any]:
        return [None if p.grad is None else p.grad.numpy().copy() for p in (self.w, self.v)]


def is_ahead(loss: Any) -> bool:
    return isinstance(loss._tape.saved, Ahead)


def warm() -> None:
    for _ in range(2):
        Case().look().backward()


# -- what it is for ----------------------------------------------------------------------------


def test_backward_launches_nothing(launched: list[Any]) -> None:
    warm()
    case = Case()
    launched.clear()
    loss = case.look()
    assert is_ahead(loss)
    loss.backward()
    recorder.flush()
    assert len(launched) == 1
    case.gradients()
    assert len(launched) == 1


def test_the_same_bits() -> None:
    found = []
    for _ in range(3):
        case = Case()
        loss = case.look()
        found.append(is_ahead(loss))
        loss.backward()
        found.append(case.gradients())
    assert found[::2] == [False, True, True]
    for ahead in found[3::2]:
        for a, b in zip(ahead, found[1], strict=True):
            np.testing.assert_array_equal(a, b)


def test_training_is_steady_and_the_same(launched: list[Any]) -> None:
    def train(look: bool) -> list[Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        update = torch.optim.AdamW(model.parameters(), lr=0.01)
        data, labels = torch.randn(40, 6), torch.randint(0, 3, (40,))
        for i in range(12):
            part = slice(i * 3, i * 3 + 4)
            update.zero_grad()
            loss = F.cross_entropy(model(data[part]), labels[part])
            if look:
                assert loss.item() > 0
            loss.backward()
            update.step()
            if i == 4:
                states, programs = recorder.STATISTICS.states, recorder.STATISTICS.programs
        assert (states, programs) == (recorder.STATISTICS.states, recorder.STATISTICS.programs)
        return [p.detach().numpy().copy() for p in model.parameters()]

    launched.clear()
    looked = train(True)
    assert len(launched) <= 2 * 12 + 4
    for a, b in zip(looked, train(False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# -- what may come in between ------------------------------------------------------------------


def nothing(case: Case, loss: Any) -> Any:
    loss.backward()


def accumulation(case: Case, loss: Any) -> Any:
    case.w.grad = torch.ones(5, 7)
    held = case.w.grad
    loss.backward()
    assert case.w.grad is held


def retained(case: Case, loss: Any) -> Any:
    loss.backward(retain_graph=True)
    loss.backward()


def twice(case: Case, loss: Any) -> Any:
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def scaled(case: Case, loss: Any) -> Any:
    loss.backward(torch.tensor(0.5))


def another_root(case: Case, loss: Any) -> Any:
    case.hidden.sum().backward(retain_graph=True)
    loss.backward()


def only_some(case: Case, loss: Any) -> Any:
    return [g.numpy().copy() for g in torch.autograd.grad(loss, [case.v])]


def second_order(case: Case, loss: Any) -> Any:
    (g,) = torch.autograd.grad(loss, case.w, create_graph=True)
    (g * g).sum().backward()


def leaf_hook(case: Case, loss: Any) -> Any:
    case.w.register_hook(lambda g: g * 2)
    loss.backward()


def result_hook(case: Case, loss: Any) -> Any:
    case.hidden.register_hook(lambda g: g * 3)
    loss.backward()


def no_more_gradient(case: Case, loss: Any) -> Any:
    case.v.requires_grad_(False)
    loss.backward()


def written_in_place(case: Case, loss: Any) -> Any:
    with torch.no_grad():
        case.v.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def result_written_in_place(case: Case, loss: Any) -> Any:
    case.hidden.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def data_written(case: Case, loss: Any) -> Any:
    case.v.data.mul_(2)
    case.x.data[1:] = 0
    loss.backward()


def result_data_written(case: Case, loss: Any) -> Any:
    case.hidden.data.mul_(0.5)
    loss.backward()


def data_exchanged(case: Case, loss: Any) -> Any:
    case.v.data = torch.ones(7, 3)
    loss.backward()


def numpy_writes(case: Case, loss: Any) -> Any:
    case.x.numpy()[:] = 2
    loss.backward()


def numpy_writes_a_result(case: Case, loss: Any) -> Any:
    case.hidden.detach().numpy()[:] = 0.25
    loss.backward()


def numpy_writes_a_parameter(case: Case, loss: Any) -> Any:
    case.v.detach().numpy()[:] = 0.5
    loss.backward()


def a_look_at_what_was_saved(case: Case, loss: Any) -> Any:
    seen = loss.grad_fn.next_functions[0][0]._saved_result.numpy().copy()
    loss.backward()
    return seen


def never(case: Case, loss: Any) -> Any:
    return loss.item()


def updated_before(case: Case, loss: Any) -> Any:
    for p in (case.w, case.v):
        p.grad = torch.ones_like(p)
    torch.optim.SGD([case.v], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


IN_BETWEEN = [
    nothing,
    accumulation,
    retained,
    twice,
    scaled,
    another_root,
    only_some,
    second_order,
    leaf_hook,
    result_hook,
    no_more_gradient,
    written_in_place,
    result_written_in_place,
    data_written,
    result_data_written,
    data_exchanged,
    numpy_writes,
    numpy_writes_a_result,
    numpy_writes_a_parameter,
    never,
    updated_before,
]


@pytest.mark.parametrize("between", IN_BETWEEN)
def test_whatever_comes_in_between(
    between: Callable[[Case, Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    warm()
    results = []
    for ahead in (True, False):
        if not ahead:
            monkeypatch.setattr(Habit, "may_look_ahead", property(lambda self: False))
        case = Case()
        loss = case.look()
        assert is_ahead(loss) == ahead
        found = between(case, loss)
        results.append((found, case.gradients(), case.hidden.detach().numpy().copy()))
    for a, b in zip(*results, strict=True):
        if isinstance(a, list):
            assert [x is None for x in a] == [x is None for x in b]
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_array_equal(a, b)


def test_memory_that_numpy_sees_beforehand() -> None:
    array = np.ones(3, np.float32)
    w = torch.ones(3, requires_grad=True)
    for k in range(6):
        array[:] = 1
        loss = (w * torch.from_numpy(array)).exp().sum()
        loss.item()
        if k % 2:
            array[:] = k
        loss.backward()
        want = np.e * (k if k % 2 else 1)
        np.testing.assert_allclose(w.grad.numpy(), [want] * 3, rtol=1e-5)
        w.grad = None


def test_an_error_of_the_rule_is_met_by_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    from taimatsu.ops import trigonometry

    case = Case()

    def broken(*given: Any, **attributes: Any) -> Any:
        raise ValueError("no gradient today")

    loss = (case.x @ case.w).sinh().sum()
    loss.item()
    loss.backward()  # from here on it is expected
    monkeypatch.setattr(trigonometry.Sinh, "gradient", broken)
    out = (case.x @ case.w).sinh()
    loss = out.sum()
    np.testing.assert_allclose(loss.item(), out.detach().numpy().sum(), rtol=1e-5)
    with pytest.raises(ValueError, match="no gradient today"):
        loss.backward()


def test_a_backward_that_fails_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program with the backward cannot do, the forward pass alone may."""
    warm()
    case = Case()
    inner = registered.execute
    calls: list[Any] = []

    def failing(graph: Any, *given: Any) -> Any:
        calls.append(graph)
        if len(calls) == 1:
            raise MemoryError("no room for gradients")
        return inner(graph, *given)

    monkeypatch.setattr(registered, "execute", failing)
    case.hidden = None
    loss = (case.x @ case.w).tanh() @ case.v
    loss = loss.exp().sum()
    loss.item()
    assert len(calls) == 2
    assert len(calls[1].nodes) < len(calls[0].nodes)
    monkeypatch.setattr(registered, "execute", inner)
    loss.backward()
    other = Case()
    monkeypatch.setattr(Habit, "may_look_ahead", property(lambda self: False))
    other.look().backward()
    for a, b in zip(case.gradients(), other.gradients(), strict=True):
        np.testing.assert_array_equal(a, b)


# -- when it is done ---------------------------------------------------------------------------


def test_evaluation_is_not_followed_for_long() -> None:
    """Training and evaluation by turns: what is not asked for is not computed for ever."""
    warm()
    for count in (1, 2, 5, 50):
        ahead = []
        for _ in range(60):
            for i in range(count):
                case = Case()
                loss = case.look()
                ahead.append(is_ahead(loss) and i == count - 1)
                if i < count - 1:
                    loss.backward()
                del loss
        wasted = sum(ahead)
        assert wasted <= (8 if count < TRUST_LIMIT else 60)


def test_training_is_trusted_again() -> None:
    warm()
    Case().look()
    gc.collect()
    ahead = []
    for _ in range(TRUST_LIMIT + 2):
        loss = Case().look()
        ahead.append(is_ahead(loss))
        loss.backward()
    assert ahead[-1]
    assert not ahead[0]


def test_a_graph_that_nobody_holds_is_not_followed(launched: list[Any]) -> None:
    warm()
    case = Case()
    launched.clear()
    with torch.no_grad():
        case.look()
    assert len(launched[-1].outputs) == 2  # what was held: the hidden values and the loss


def test_threads() -> None:
    wrong: list[str] = []
    warm()
    reference = Case()
    reference.look().backward()
    want = reference.gradients()

    def work() -> None:
        for _ in range(30):
            case = Case()
            case.look().backward()
            for a, b in zip(case.gradients(), want, strict=True):
                if not np.array_equal(a, b):
                    wrong.append("another gradient")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_backward_in_another_thread() -> None:
    warm()
    case, other = Case(), Case()
    loss = case.look()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    other.look().backward()
    for a, b in zip(case.gradients(), other.gradients(), strict=True):
        np.testing.assert_array_equal(a, b)
