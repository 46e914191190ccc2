"""Launches: what checks are left to compiled code, and blocks of words that are used again."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
from taimatsu import recorder
from taimatsu.config import config
from taimatsu.evaluate.explain import watching

F = torch.nn.functional


def programs(function: Any) -> list[Any]:
    """What the programs of a call are bound to."""
    recorder.flush()
    with watching() as found:
        kept = function()
        recorder.flush()
    del kept
    return [bound for _, bound in found]


@pytest.mark.skipif(config.eager, reason="with TAIMATSU_EAGER=1 no program is bound")
def test_index_values_that_came_in_were_looked_at_by_the_recorder() -> None:
    scores, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 2, 3, 0])
    table = torch.randn(4, 8)
    (known,) = programs(lambda: F.cross_entropy(scores, labels[1:]) + table[labels].sum())
    (computed,) = programs(lambda: F.cross_entropy(scores, labels[:5] + 0))
    (masked,) = programs(lambda: torch.zeros(4).masked_scatter(scores[0] > 9, scores[1]))
    assert not known.may_fail
    assert computed.may_fail
    assert masked.may_fail


def test_index_values_that_were_overwritten_are_checked() -> None:
    scores, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    labels[1] = labels[2] * 2
    with pytest.raises(IndexError):
        F.cross_entropy(scores, labels).item()
    labels = torch.tensor([0, 1, 2])
    F.cross_entropy(scores, labels).item()
    labels.numpy()[1] = 4
    with pytest.raises(IndexError):
        F.cross_entropy(scores, labels)


def test_index_values_seen_as_data_or_elsewhere_are_looked_at() -> None:
    x = torch.tensor([[5, 1], [0, 2]])
    index = torch.tensor([[0, 1], [1, 0]])
    x.gather(1, index)
    with pytest.raises((IndexError, RuntimeError)):
        index.gather(1, x)
    labels = torch.tensor([0, 1, 2, 3, 2, 1, 9, 1])
    for _ in range(2):
        for i in range(3):  # all but one of these windows are right
            F.cross_entropy(torch.randn(2, 4), labels[2 * i : 2 * i + 2]).item()
        with pytest.raises(IndexError):
            F.cross_entropy(torch.randn(2, 4), labels[6:])


WRITES: list[Any] = [
    lambda labels: labels.data[5:].fill_(4),
    lambda labels: labels[5:].fill_(4),
    lambda labels: labels.numpy().__setitem__(5, 4),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_storage_that_was_right_is_looked_at_after_writes(write: Any) -> None:
    labels = torch.tensor([0, 1, 2, 3, 2, 1, 0, 1])
    for i in range(4):
        F.cross_entropy(torch.randn(2, 4), labels[2 * i : 2 * i + 2]).item()
    assert len(labels._storage.checked) == 3, "all of it is known to be right"
    write(labels)
    recorder.flush()
    with pytest.raises(IndexError):
        F.cross_entropy(torch.randn(4, 4), labels[4:]).item()


@pytest.mark.parametrize("count", [3, 300_000])  # carried out at once; in the background
def test_threads_that_launch_one_program(count: int) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        state = torch.zeros(count)
        for i in range(200 if count < 1000 else 20):
            x = torch.full((count,), float(number))
            state = torch.exp(torch.tanh(x * 0.5)) * 0.5 + state * 0.25 + i
            recorder.flush()
        wanted = np.zeros(1, np.float32)
        for i in range(200 if count < 1000 else 20):
            wanted = np.exp(np.tanh(np.float32(number) * 0.5)) * 0.5 + wanted * 0.25 + i
        if not np.allclose(state.numpy(), wanted, rtol=1e-5):
            wrong.append(f"thread {number}: {state[0].item()}, not {wanted}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_launch_after_one_in_the_background_has_words_of_its_own() -> None:
    weights = [torch.full((400_000,), float(n)) for n in range(3)]
    results = []
    for _ in range(5):
        for weight in weights:
            results.append((torch.exp(weight * 0.5) + weight * 2).sum())
            recorder.flush()
    values = [r.item() for r in results]
    assert values == values[:3] * 5
    np.testing.assert_allclose(
        values[:3], [400_000 * (np.exp(n * 0.5) + n * 2) for n in range(3)], rtol=1e-4
    )


@pytest.mark.skipif(config.eager, reason="with TAIMATSU_EAGER=1 nothing is in the background")
def test_an_update_by_hand_is_carried_out_in_the_background(monkeypatch: Any) -> None:
    """A backward that another follows ends the recording; nobody has asked for values yet."""
    x = torch.ones(256, 784)
    weight = torch.zeros(784, 64, requires_grad=True)
    wanted = []
    plain = recorder.registered.execute

    def watched(graph: Any, buffers: Any, items: Any, background: bool = False) -> Any:
        wanted.append(background)
        return plain(graph, buffers, items, background)

    monkeypatch.setattr(recorder.registered, "execute", watched)
    for _ in range(6):
        (x @ weight).sum().backward()
        with torch.no_grad():
            weight.sub_(weight.grad * 0.5)
            weight.grad.zero_()
    assert len(wanted) > 2
    assert all(wanted)
    assert weight[0, 0].item() == -6 * 256 * 0.5
    assert not wanted[-1]


IMPORTED_BY = """
import sys, threading
import taimatsu as torch
found = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "taimatsu.evaluate.compiled":
            found.append(threading.current_thread() is threading.main_thread())
sys.meta_path.insert(0, Finder())
assert (torch.ones(3) + 1).sum().item() == 6
assert found == [False], found
"""


def test_no_interrupt_comes_into_the_import_of_the_compiler() -> None:
    """They reach the main thread, and would leave Python's import lock taken."""
    subprocess.run([sys.executable, "-c", IMPORTED_BY], check=True, timeout=60)
