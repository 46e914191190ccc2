"""The recording is invisible: threads, forks, interrupts, failures, memory shared with NumPy."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from recorder.programs import KINDS, Program

import taimatsu as torch
from taimatsu import recorder
from taimatsu.config import config
from taimatsu.evaluate import execute
from taimatsu.recorder import registered

pytestmark = pytest.mark.filterwarnings("ignore")


# -- threads -----------------------------------------------------------------------------------


def in_threads(functions: list) -> None:
    """Runs functions side by side; raises what one of them raised, or if one never ends."""
    errors: list[BaseException] = []

    def guarded(function: Any) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a thread waits for ever"
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]


def test_threads_run_programs_of_their_own() -> None:
    programs = [Program(seed, kinds=KINDS) for seed in range(4000, 4008)]
    want = [program.run(torch) for program in programs]
    got: list[Any] = [None] * len(programs)

    def run(k: int) -> None:
        for _ in range(3):
            got[k] = programs[k].run(torch)

    in_threads([lambda k=k: run(k) for k in range(len(programs))])
    for a, b in zip(want, got, strict=True):
        assert repr(a) == repr(b)


def test_threads_read_what_another_has_pending() -> None:
    """One thread goes on recording while others ask for its values."""
    x = torch.arange(8.0)
    made: list[Any] = []
    done = threading.Event()

    def produce() -> None:
        for k in range(300):
            made.append((k, (x + k) * 2))
        done.set()

    def consume() -> None:
        seen = 0
        rng = random.Random(0)
        while not done.is_set() or seen < 50:
            if not made:
                continue
            k, value = made[rng.randrange(len(made))]
            assert value.tolist() == [(i + k) * 2.0 for i in range(8)]
            assert (value + 1).sum().item() == sum((i + k) * 2.0 + 1 for i in range(8))
            seen += 1

    in_threads([produce, consume, consume])


def test_threads_write_shared_memory_under_a_lock() -> None:
    total = torch.zeros(4)
    table = torch.zeros(6, 4)
    lock = threading.Lock()

    def add(k: int) -> None:
        for i in range(50):
            with lock:
                total.add_(k + 1)
                table[k] += i
            if i % 7 == k:
                with lock:
                    assert total[0].item() >= (k + 1) * (i + 1)

    in_threads([lambda k=k: add(k) for k in range(6)])
    assert total.tolist() == [50.0 * 21] * 4
    assert table.tolist() == [[1225.0] * 4] * 6


def test_a_write_waits_for_reads_that_another_thread_has_pending() -> None:
    for _ in range(50):
        x = torch.zeros(4)
        recorder.flush()
        made = []
        recorded, written = threading.Event(), threading.Event()

        def read(x: Any = x, made: Any = made, recorded: Any = recorded, written: Any = written):
            made.append(x + 1)
            recorded.set()
            written.wait(10)
            made.append(x + 1)
            assert made[0].tolist() == [1.0] * 4
            assert made[1].tolist() == [6.0] * 4

        def write(x: Any = x, recorded: Any = recorded, written: Any = written) -> None:
            recorded.wait(10)
            x.add_(5)
            written.set()

        in_threads([read, write])


def test_threads_train_models_that_share_parameters_for_reading() -> None:
    w = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(5, 4)
    (want,) = torch.autograd.grad((x @ w).tanh().sum(), w)
    expected = want.numpy().copy()

    def run() -> None:
        for _ in range(40):
            (got,) = torch.autograd.grad((x @ w).tanh().sum(), w)
            np.testing.assert_array_equal(got.numpy(), expected)

    in_threads([run] * 4)


# -- fork --------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_both_sides_of_a_fork_finish_what_was_pending() -> None:
    code = """
import os, sys, threading
import taimatsu as torch
x = torch.arange(4.0)
y = (x + 1) * 2
x.add_(10)
stop = threading.Event()
def busy():
    while not stop.is_set():
        (torch.ones(50) * 3).sum().item()
thread = threading.Thread(target=busy); thread.start()
children = []
for k in range(10):
    pid = os.fork()
    if pid == 0:
        good = y.tolist() == [2.0, 4.0, 6.0, 8.0] and (x + y).sum().item() == 66.0
        os._exit(0 if good else 1)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
stop.set(); thread.join()
assert y.tolist() == [2.0, 4.0, 6.0, 8.0] and x.tolist() == [10.0, 11.0, 12.0, 13.0]
print(codes)
"""
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == str([0] * 10)


# -- interrupts and failures -------------------------------------------------------------------


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next execution gives its values and then raises, once."""
    left = [error]

    def run(program: Any, buffers: Any, items: Any, background: bool) -> Any:
        if left:
            raise left.pop()
        return execute(program, buffers, items)

    monkeypatch.setattr(registered, "execute", run)


needs_pending = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 nothing is pending: the operation itself fails"
)


@needs_pending
def test_an_interrupted_recording_can_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(4.0)
    view = x[1:]
    y = x * 2
    x.add_(1)
    failing(KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        y.tolist()
    z = y + x  # recording goes on, too
    assert y.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert x.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert view.tolist() == [2.0, 3.0, 4.0]
    assert z.tolist() == [1.0, 4.0, 7.0, 10.0]


@needs_pending
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_in_a_program_that_writes_does_not_have_it_done_twice() -> None:
    a = torch.randn(900, 900)
    written = torch.zeros(4)
    written.numpy()
    made = a
    for _ in range(8):
        made = (made @ a) / 30
    written.add_(1 + 0 * made[0, 0].clamp(-1, 1))
    timer = threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        timer.start()
        written.sum().item()
        time.sleep(5)
    timer.join()
    assert written.tolist() == [1.0] * 4


@needs_pending
def test_a_failed_program_leaves_storages_as_they_were() -> None:
    x = torch.arange(4.0)
    kept = torch.zeros(3)
    recorder.flush()
    index = torch.tensor([0, 1]) + 5  # computed: its values are not known when it is used
    x.mul_(3)
    kept[0] = 7
    bad = x[index]
    with pytest.raises(IndexError, match="out of bounds") as caught:
        x.tolist()
    assert any(__file__ in note for note in caught.value.__notes__), "the call site is named"
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert kept.tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(RuntimeError, match="failed") as again:
        bad.tolist()
    assert "out of bounds" in str(again.value)


# -- memory shared with NumPy ------------------------------------------------------------------


def test_arrays_share_memory_both_ways() -> None:
    array = np.arange(6, dtype=np.float32)
    x = torch.from_numpy(array)
    y = x * 2
    array[0] = 100  # after the call: y does not see it
    assert y.tolist() == [0, 2, 4, 6, 8, 10]
    x.add_(1)
    assert array.tolist() == [101, 2, 3, 4, 5, 6]
    out = (x + 0).numpy()
    assert out.tolist() == array.tolist()
    shown = y.numpy()
    shown[1] = -1
    assert y.tolist()[1] == -1
    y.zero_()
    assert shown.tolist() == [0] * 6


def test_backward_reads_shared_memory_as_it_is_then() -> None:
    array = np.ones(3, np.float32)
    w = torch.ones(3, requires_grad=True)
    for factor in (1.0, 5.0, 1.0, 2.0):
        loss = (w * torch.from_numpy(array)).sum()
        array[:] = factor
        loss.backward()
        assert w.grad.tolist() == [factor] * 3
        w.grad = None


def test_views_of_shared_memory_in_the_graph() -> None:
    array = np.arange(12, dtype=np.float32)
    leaf = torch.from_numpy(array)[2:].reshape(5, 2).requires_grad_()
    (leaf[1:, 1] * leaf[1:, 0]).sum().backward()
    want = np.zeros((5, 2), np.float32)
    want[1:, 0] = array[5::2]
    want[1:, 1] = array[4::2]
    np.testing.assert_array_equal(leaf.grad.numpy(), want)


def test_large_arrays_are_not_copied_and_freed() -> None:
    array = np.zeros((5 << 20,), np.float32)  # 20 MiB, more than a snapshot may hold
    x = torch.from_numpy(array)
    y = x[:3] + x.sum()
    array[:] = 1
    assert y.tolist() == [0.0] * 3
    assert x.sum().item() == 5 << 20
    before = sys.getrefcount(array)
    del x, y
    recorder.flush()
    gc.collect()
    assert sys.getrefcount(array) < before


# -- errors ------------------------------------------------------------------------------------


def test_errors_of_backward_name_what_happened() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
        y.sum().backward()
    assert "mul_() at" in str(caught.value)
    assert "test_invariances.py" in str(caught.value)
    z = (x * x).sum()
    z.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        z.backward()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar"):
        (x * 2).backward()


def test_leaf_hooks_see_the_whole_gradient_once() -> None:
    for flush in (False, True):
        x = torch.ones(3, requires_grad=True)
        seen: list[Any] = []
        x.register_hook(lambda g, seen=seen: seen.append(g.tolist()))
        y = x * 2
        if flush:
            y.tolist()
        (y + x * 3).sum().backward()
        assert seen == [[5.0] * 3]


def test_the_caller_keeps_the_gradient_given() -> None:
    x = torch.ones(3, requires_grad=True)
    given = torch.ones(3)
    x.backward(given)
    x.grad.add_(1)
    assert given.tolist() == [1.0] * 3


def test_exchanged_data_keeps_its_own_count_of_writes() -> None:
    x = torch.ones(3, requires_grad=True)
    other = torch.full((3,), 2.0)
    x.data = other
    y = (x * x).sum()
    other.add_(1)  # through the other tensor: not counted, as for .data
    y.backward()
    assert x.grad.tolist() == [6.0] * 3
