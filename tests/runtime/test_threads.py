"""Worker threads: every chunk once, phases in order, the same results for any number of threads."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from runtime.kernels import objects

from taimatsu.runtime import cores, threads
from taimatsu.runtime.loader import LoadError, host_machine, load
from taimatsu.runtime.threads import Dispatch, KernelError, Phase, Pool, Program

try:
    host_machine()
except LoadError as error:
    pytest.skip(str(error), allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def kernels():
    return load(objects()["kernels"])


@pytest.fixture(scope="module", params=["futex", "pthread"])
def dispatch(request):
    if request.param == "futex" and sys.platform != "linux":
        pytest.skip("futex is Linux's")
    return Dispatch(load(objects()[request.param]), request.param)


@pytest.fixture
def make_pool(dispatch):
    made = []

    def make(count: int) -> Pool:
        made.append(Pool(dispatch, count))
        return made[-1]

    yield make
    for pool in made:
        pool.stop()


def block(*words: int) -> np.ndarray:
    return np.array(words, np.int64)


def sum_program(kernels, x: np.ndarray, size: int):
    """The sum of an array, by chunks of a fixed size."""
    chunks = x.size // size
    partial, result = np.zeros(chunks, np.float32), np.zeros(1, np.float32)
    words = block(
        x.ctypes.data, partial.ctypes.data, size, result.ctypes.data, partial.ctypes.data, chunks
    )
    phases = [Phase(kernels.address("sum_chunk"), chunks), Phase(kernels.address("combine"), 1, 24)]
    return Program(phases, [kernels]), words, result, partial


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_reduction_has_the_same_bits_with_any_number_of_threads(make_pool, kernels, rng, count):
    x = rng.standard_normal(64 * 1024).astype(np.float32)
    program, words, result, partial = sum_program(kernels, x, 1024)
    expected = np.float32(0)
    for part in x.reshape(64, 1024):
        expected += np.add.accumulate(part)[-1]
    pool = make_pool(count)
    for _ in range(100):
        result[0] = np.nan
        partial[:] = np.nan
        pool.run(program, words.ctypes.data)
        assert result[0] == expected


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_every_chunk_once_and_phases_in_order(make_pool, kernels, rng, count):
    """More threads than cores too: claiming does not collapse."""
    array = np.zeros(64, np.int64)
    words, phases = [], []
    counts = np.zeros(64, np.int64)
    for number in range(200):
        chunks = 1 if number % 3 == 0 else int(rng.integers(1, 64))
        least = counts[:chunks].max()
        # Chunks below reach `least` in phases of their own, so that one number fits all.
        for chunk in np.flatnonzero(counts[:chunks] < least):
            for value in range(counts[chunk], least):
                phases.append(Phase(kernels.address("step"), 1, 8 * len(words)))
                words += [array.ctypes.data + 8 * int(chunk), value]
        phases.append(Phase(kernels.address("step"), chunks, 8 * len(words)))
        words += [array.ctypes.data, int(least)]
        counts[:chunks] = least + 1
    program, arguments = Program(phases, [kernels]), block(*words)
    pool = make_pool(count)
    for _ in range(5):
        array[:] = 0
        pool.run(program, arguments.ctypes.data)
        assert np.array_equal(array, counts)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_worker_numbers_are_exclusive(make_pool, kernels, count):
    scratch = np.zeros((count, 8), np.int64)
    program = Program([Phase(kernels.address("count"), 500)] * 20, [kernels])
    pool = make_pool(count)
    for _ in range(10):
        pool.run(program, scratch.ctypes.data)
    assert scratch[:, 0].sum() == 500 * 20 * 10


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_first_failing_chunk_is_reported_and_nothing_follows(make_pool, kernels, count):
    words = block(37, 5, 0)
    phases = [
        Phase(kernels.address("dawdle"), 0, 8),
        Phase(kernels.address("fail_from"), 100),
        Phase(kernels.address("dawdle"), 4, 8),
    ]
    program = Program(phases, [kernels])
    pool = make_pool(count)
    for _ in range(200):
        with pytest.raises(
            KernelError, match="phase 1 failed with code 1037 in chunk 37"
        ) as caught:
            pool.run(program, words.ctypes.data)
        assert (caught.value.code, caught.value.phase, caught.value.chunk) == (1037, 1, 37)
    assert words[2] == 0
    words[0] = 100
    pool.run(program, words.ctypes.data)
    assert words[2] == 4


def test_programs_without_chunks(make_pool, kernels):
    pool = make_pool(2)
    pool.run(Program([]), 0)
    pool.run(Program([Phase(kernels.address("count"), 0)]), 0)
    pool.start(Program([]), 0).wait()
    with pytest.raises(ValueError, match="chunks; got -1"):
        Program([Phase(kernels.address("count"), -1)])
    with pytest.raises(ValueError, match="no function"):
        Program([Phase(0, 1)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_many_python_threads_launch_at_once(make_pool, kernels, rng, count):
    pool = make_pool(count)
    x = rng.standard_normal(16 * 256).astype(np.float32)
    program, words, result, _ = sum_program(kernels, x, 256)
    pool.run(program, words.ctypes.data)
    expected = result[0]
    wrong = []

    def launch() -> None:
        own, own_words, own_result, _partial = sum_program(kernels, x, 256)
        for round in range(100):
            own_result[0] = 0
            if round % 3:
                pool.run(own, own_words.ctypes.data)
            else:
                pool.start(own, own_words.ctypes.data).wait()
            if own_result[0] != expected:
                wrong.append(own_result[0])

    starters = [threading.Thread(target=launch) for _ in range(12)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert not wrong


@pytest.mark.parametrize("count", [1, 2, 3])
def test_launches_in_the_background(make_pool, kernels, count):
    pool = make_pool(count)
    words = [block(20_000, 0) for _ in range(20)]  # more than there are slots
    program = Program([Phase(kernels.address("dawdle"), 3), Phase(kernels.address("dawdle"), 1)])
    launches = [pool.start(program, each.ctypes.data, owner=each) for each in words]
    for launch, each in zip(launches, words, strict=True):
        launch.wait()
        assert launch.done()
        assert each[1] == 4
        launch.wait()
        assert launch.owner is None


def test_workers_finish_what_nobody_waits_for_yet(make_pool, kernels):
    pool, words = make_pool(2), block(1000, 0)
    launch = pool.start(Program([Phase(kernels.address("dawdle"), 1)] * 5), words.ctypes.data)
    end = time.monotonic() + 10
    while not launch.done():
        assert time.monotonic() < end
        time.sleep(0.001)
    assert words[1] == 5


def test_a_forgotten_launch_is_waited_for(make_pool, kernels):
    pool, words = make_pool(2), block(200_000, 0)
    pool.start(Program([Phase(kernels.address("dawdle"), 4)]), words.ctypes.data)
    gc.collect()
    assert words[1] == 4


def test_errors_of_the_background_are_raised_by_wait(make_pool, kernels):
    for count in (1, 3):
        pool, words = make_pool(count), block(3)
        launch = pool.start(Program([Phase(kernels.address("fail_from"), 9)]), words.ctypes.data)
        for _ in range(2):
            with pytest.raises(KernelError, match="chunk 3"):
                launch.wait()


def test_two_threads_wait_for_one_launch(make_pool, kernels):
    pool, words = make_pool(2), block(50_000, 0)
    program = Program([Phase(kernels.address("dawdle"), 8)])
    for round in range(1, 20):
        launch = pool.start(program, words.ctypes.data)
        seen: list[int] = []

        def wait(launch=launch, seen=seen) -> None:
            launch.wait()
            seen.append(int(words[1]))

        waiters = [threading.Thread(target=wait) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        for waiter in waiters:
            waiter.join()
        assert seen == [8 * round] * 3


def test_idle_workers_sleep(make_pool, kernels):
    pool, words = make_pool(3), block(10, 0)
    program = Program([Phase(kernels.address("dawdle"), 50)])
    pool.run(program, words.ctypes.data)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1
    pool.run(program, words.ctypes.data)
    assert words[1] == 100


def test_sleeping_workers_are_never_missed(make_pool, kernels):
    """Pauses about as long as the workers spin: launches meet them on their way to sleep."""
    pool, words = make_pool(3), block(300, 0)
    program = Program([Phase(kernels.address("dawdle"), 3)] * 3)
    for round in range(600):
        if round % 2:
            pool.run(program, words.ctypes.data)
        else:
            launch = pool.start(program, words.ctypes.data)
            end = time.perf_counter() + 5
            while not launch.done():
                assert time.perf_counter() < end, "the workers sleep through it"
        end = time.perf_counter() + (round % 20) * 5e-6
        while time.perf_counter() < end:
            pass
    launch.wait()
    assert words[1] == 600 * 9


def test_a_stopped_pool_still_works(make_pool, kernels):
    pool, words = make_pool(3), block(1000, 0)
    program = Program([Phase(kernels.address("dawdle"), 5)])
    launch = pool.start(program, words.ctypes.data)
    pool.stop()
    assert launch.done()
    pool.run(program, words.ctypes.data)
    pool.start(program, words.ctypes.data).wait()
    launch.wait()
    pool.stop()
    assert words[1] == 15


def test_threads_that_cannot_start(make_pool, kernels, monkeypatch):
    pool, words = make_pool(3), block(1000, 0)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool.run(Program([Phase(kernels.address("dawdle"), 5)]), words.ctypes.data)
    assert words[1] == 5


@pytest.fixture
def installed(dispatch):
    count, usual = threads.get_num_threads(), threads._state.dispatch
    threads.shut_down()
    threads.install(dispatch)
    yield threads
    threads.shut_down()
    threads.set_num_threads(count)
    threads._state.dispatch = usual  # which programs of other tests in this process use


def test_the_number_of_threads(installed, kernels):
    words = block(1000, 0)
    program = Program([Phase(kernels.address("dawdle"), 5)])
    for count in (1, 2, 3, 2):
        threads.set_num_threads(count)
        assert threads.get_num_threads() == count
        pool = threads.current_pool()
        assert pool.threads == count
        pool.run(program, words.ctypes.data)
    assert threads.current_pool() is pool
    assert words[1] == 20
    with pytest.raises(RuntimeError, match="positive integer"):
        threads.set_num_threads(0)
    with pytest.raises(TypeError, match="expects an int, but got float"):
        threads.set_num_threads(2.0)


def test_the_number_changes_while_others_launch(installed, kernels):
    program = Program([Phase(kernels.address("dawdle"), 6)])
    counted = []

    def launch() -> None:
        words = block(500, 0)
        for _ in range(200):
            threads.current_pool().run(program, words.ctypes.data)
            threads.current_pool().start(program, words.ctypes.data).wait()
        counted.append(words[1])

    starters = [threading.Thread(target=launch) for _ in range(3)]
    for starter in starters:
        starter.start()
    for round in range(20):
        threads.set_num_threads(1 + round % 3)
    for starter in starters:
        starter.join()
    assert counted == [200 * 12] * 3


def test_nothing_is_installed(monkeypatch):
    threads.shut_down()
    monkeypatch.setattr(threads._state, "dispatch", None)
    assert not threads.is_installed()
    with pytest.raises(RuntimeError, match="not installed"):
        threads.current_pool()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child(installed, kernels):
    threads.set_num_threads(3)
    words, slow = block(1000, 0), block(300_000, 0)
    program = Program([Phase(kernels.address("dawdle"), 5)])
    threads.current_pool().run(program, words.ctypes.data)
    launch = threads.current_pool().start(program, slow.ctypes.data)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            launch.wait()
            ok = slow[1] == 5
            for _ in range(3):
                threads.current_pool().run(program, words.ctypes.data)
            threads.current_pool().start(program, words.ctypes.data).wait()
            ok = ok and words[1] == 25 and threads.current_pool().threads == 3
            ok = ok and len(threads.current_pool()._workers) == 2
            grandchild = os.fork()
            if grandchild == 0:
                threads.current_pool().run(program, words.ctypes.data)
                os._exit(0 if words[1] == 30 else 1)
            ok = ok and os.waitpid(grandchild, 0)[1] == 0
            os._exit(0 if ok else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    launch.wait()
    threads.current_pool().run(program, words.ctypes.data)
    assert (words[1], slow[1]) == (10, 5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_forks_while_others_launch(installed, kernels):
    threads.set_num_threads(3)
    program = Program([Phase(kernels.address("dawdle"), 6)])
    stop = threading.Event()

    def launch() -> None:
        words = block(2000, 0)
        while not stop.is_set():
            threads.current_pool().run(program, words.ctypes.data)
            threads.current_pool().start(program, words.ctypes.data).wait()

    starters = [threading.Thread(target=launch) for _ in range(2)]
    for starter in starters:
        starter.start()
    words = block(100, 0)
    for _ in range(15):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            threads.current_pool().run(program, words.ctypes.data)
            os._exit(0 if words[1] == 6 else 1)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for starter in starters:
        starter.join()


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("background", [False, True])
def test_ctrl_c_waits_for_the_program(make_pool, kernels, background):
    pool, words = make_pool(3), block(30_000_000, 0)
    program = Program([Phase(kernels.address("dawdle"), 20)])
    timer = threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGINT))
    kind = KeyboardInterrupt if background else threads.Interrupted
    with pytest.raises(kind):  # noqa: PT012
        timer.start()
        launch = pool.start(program, words.ctypes.data) if background else None
        if launch:
            launch.wait()
        else:
            pool.run(program, words.ctypes.data)
        time.sleep(5)
    timer.join()
    assert words[1] == 20
    pool.run(program, words.ctypes.data)
    assert words[1] == 40


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_waiting_again_after_ctrl_c_disturbs_no_other_launch(make_pool, kernels):
    pool, words, others = make_pool(2), block(5_000_000, 0), block(1_000_000, 0)
    program = Program([Phase(kernels.address("dawdle"), 10)])
    launch = pool.start(program, words.ctypes.data)
    timer = threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        launch.wait()
        time.sleep(5)
    timer.join()
    second = pool.start(program, others.ctypes.data)
    for _ in range(3):
        launch.wait()
    third = pool.start(program, others.ctypes.data)
    second.wait()
    third.wait()
    assert (words[1], others[1]) == (10, 20)


SCRIPT = """
import sys, threading, time
sys.path[:0] = [{root!r}, {tests!r}]
from runtime.test_threads import *
dispatch = Dispatch(load(objects()["futex" if sys.platform == "linux" else "pthread"]))
kernels = load(objects()["kernels"])
threads.install(dispatch)
threads.set_num_threads(3)
words = block(100_000, 0)
program = Program([Phase(kernels.address("dawdle"), 100)], [kernels])
threads.current_pool().run(program, words.ctypes.data)
{end}
"""


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "time.sleep(0.1)",
        "launch = threads.current_pool().start(program, words.ctypes.data)",
        "threads.current_pool().stop()",
        "import atexit\nrun = threads.current_pool().run\n"
        "atexit.register(lambda: run(program, words.ctypes.data))",
        "at = words.ctypes.data\nclass Last:\n"
        "    def __del__(self, run=threads.current_pool().run, p=program, at=at, w=words):\n"
        "        run(p, at)\nlast = Last()",
    ],
    ids=["busy", "asleep", "in the background", "stopped", "after the exit", "at the very end"],
)
def test_the_end_of_the_program(end):
    script = SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests"), end=end)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_how_many_threads_there_are_to_begin_with(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert cores.default_num_threads() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "nonsense")
    monkeypatch.setattr(cores, "allowed_processors", lambda: set(range(8)))
    monkeypatch.setattr(cores, "CPUS", tmp_path)
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    assert cores.default_num_threads() == 8
    for number in range(8):
        topology = tmp_path / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    assert cores.default_num_threads() == 4
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cores.default_num_threads() == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores.default_num_threads() == 4
    (tmp_path / "cpu.max").write_text("garbage")
    assert cores.quota() == float("inf")


def test_ctypes_functions_hold_their_code():
    function = load(objects()["kernels"]).function("count", ctypes.c_int64, *[ctypes.c_void_p] * 3)
    gc.collect()
    scratch = np.zeros(8, np.int64)
    assert function(scratch.ctypes.data, 0, 0) == 0
    assert scratch[0] == 1
