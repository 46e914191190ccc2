"""Worker processes: seeds, errors, and an orderly end whatever happens."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import taimatsu
from taimatsu.utils.data import DataLoader, IterableDataset, get_worker_info
from taimatsu.utils.data.worker import numpy_seed


@pytest.fixture(autouse=True)
def no_process_is_left():
    """Every test must leave no worker behind, running or unreaped."""
    yield
    gc.collect()
    assert multiprocessing.active_children() == []


class Sleepy:
    """Sample i after ``delays[i]`` seconds."""

    def __init__(self, *delays):
        self.delays = delays

    def __getitem__(self, index):
        time.sleep(self.delays[index])
        return index

    def __len__(self):
        return len(self.delays)


class Failing:
    def __init__(self, error, at=1, count=4):
        self.error = error
        self.at = at
        self.count = count

    def __getitem__(self, index):
        if index == self.at:
            raise self.error
        return index

    def __len__(self):
        return self.count


class Killed(Failing):
    def __getitem__(self, index):
        if index == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class AboutWorkers:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        info = get_worker_info()
        numbers = [random.random(), float(np.random.rand()), taimatsu.rand(1).item()]
        return info.id, info.num_workers, info.seed, len(info.dataset), numbers


class Shared(IterableDataset):
    """A stream that its workers divide among themselves."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        info = get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(start, self.count, step))


def same(batch):
    return batch


def test_info_and_seeds(torch):
    assert get_worker_info() is None
    loader = DataLoader(AboutWorkers(), num_workers=2, batch_size=None, collate_fn=same)
    samples = list(loader)
    assert [s[0] for s in samples] == [0, 1, 0, 1]
    assert {s[1] for s in samples} == {2}
    assert samples[1][2] == samples[0][2] + 1
    assert samples[0][3] == 4
    base = samples[0][2]
    for sample in samples[:2]:
        seed = base + sample[0]
        np_state = np.random.RandomState(numpy_seed(base, sample[0]))
        torch.manual_seed(seed)
        expected = [random.Random(seed).random(), np_state.rand(), torch.rand(1).item()]
        assert sample[4] == expected


@pytest.mark.parametrize("base", [0, 5, 123456789012345678])
def test_the_numpy_seed_is_pytorchs(base, torch):
    from torch.utils.data._utils.worker import _generate_state

    for worker in (0, 3):
        assert numpy_seed(base, worker).tolist() == _generate_state(base, worker)


def test_streams_are_divided():
    loader = DataLoader(Shared(7), batch_size=2, num_workers=2)
    assert [b.tolist() for b in loader] == [[0, 2], [1, 3], [4, 6], [5]]
    alone = DataLoader(Shared(3), batch_size=2)
    assert [b.tolist() for b in alone] == [[0, 1], [2]]


def test_persistent_workers_stay(tmp_path):
    class Pid(Sleepy):
        def __getitem__(self, index):
            return os.getpid()

    loader = DataLoader(Pid(0, 0, 0), num_workers=2, persistent_workers=True)
    first = {b.item() for b in loader}
    unfinished = iter(loader)
    next(unfinished)
    second = {b.item() for b in loader}  # begins again though the last pass did not end
    assert first == second
    assert len(first) == 2
    streams = DataLoader(Shared(4), num_workers=2, persistent_workers=True)
    assert [[b.item() for b in streams] for _ in range(2)] == [[0, 1, 2, 3]] * 2


def test_order_is_kept_or_not():
    delays = (0.4, 0, 0, 0)
    kept = DataLoader(Sleepy(*delays), num_workers=2)
    assert [b.item() for b in kept] == [0, 1, 2, 3]
    free = DataLoader(Sleepy(*delays), num_workers=2, in_order=False)
    order = [b.item() for b in free]
    assert sorted(order) == [0, 1, 2, 3]
    assert order[0] != 0


class OwnError(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad"), ValueError),
        (KeyError("bad"), KeyError),
        (FileNotFoundError("bad"), FileNotFoundError),
        (OwnError("bad", 2), RuntimeError),  # its constructor takes something else
    ],
)
def test_errors_keep_type_and_traceback(error, kind):
    iterator = iter(DataLoader(Failing(error), num_workers=1))
    assert next(iterator).item() == 0
    with pytest.raises(kind) as caught:
        next(iterator)
    text = str(caught.value)
    assert f"Caught {type(error).__name__} in DataLoader worker process 0" in text
    assert "in __getitem__\n" in text
    assert "bad" in text
    # The iteration may go on.
    assert [b.item() for b in iterator] == [2, 3]


def test_worker_init_fn(tmp_path):
    def note(worker):
        (tmp_path / str(worker)).touch()

    assert len(list(DataLoader(range(4), num_workers=2, worker_init_fn=note))) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]

    def fail(worker):
        raise ValueError("no start")

    with pytest.raises(ValueError, match="no start"):
        list(DataLoader(range(4), num_workers=1, worker_init_fn=fail))


def test_what_cannot_be_sent_is_an_error():
    loader = DataLoader(range(2), num_workers=1, collate_fn=lambda batch: (b for b in batch))
    with pytest.raises(TypeError, match="pickle"):
        list(loader)


def test_a_dead_worker_is_an_error():
    iterator = iter(DataLoader(Killed(None, at=1), num_workers=2))
    assert next(iterator).item() == 0
    pid = iterator.pool.processes[1].pid
    with pytest.raises(RuntimeError, match=rf"worker \(pid {pid}\) exited unexpectedly.*SIGKILL"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_timeout():
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="DataLoader timed out after 0.2 seconds"):
        list(DataLoader(Sleepy(2.0), num_workers=1, timeout=0.2))
    assert time.monotonic() - started < 10


def test_leaving_a_loop_ends_the_workers():
    loader = DataLoader(range(100), num_workers=2)
    for _ in loader:
        break
    gc.collect()
    assert multiprocessing.active_children() == []


def test_large_batches_and_many_indices():
    class Large(Sleepy):
        def __getitem__(self, index):
            return taimatsu.full((300, 300), float(index))

    loader = DataLoader(Large(*range(6)), num_workers=2, prefetch_factor=3)
    assert [b[0, 0, 0].item() for b in loader] == [0, 1, 2, 3, 4, 5]
    # Orders larger than a pipe's buffer, while results wait to be read.
    sampler = [list(range(4)) * 20000] * 6
    loader = DataLoader(range(4), batch_sampler=sampler, num_workers=1, prefetch_factor=4)
    assert [b.sum().item() for b in loader] == [120000] * 6


PROGRAM = """
import os, signal, sys, threading, time
from taimatsu.utils.data import DataLoader

class Slow:
    def __len__(self): return 100
    def __getitem__(self, index):
        time.sleep(0.05)
        return index

if __name__ == "__main__":
    iterator = iter(DataLoader(Slow(), num_workers=2{options}))
    next(iterator)
    print(*(p.pid for p in iterator.pool.processes), flush=True)
    {end}
"""


def run_program(end, options=""):
    program = textwrap.dedent(PROGRAM).format(end=end, options=options)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    return done, [int(pid) for pid in done.stdout.split()]


def gone(pids, seconds):
    """Whether all of the processes end within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks at /proc")
@pytest.mark.parametrize(
    ("end", "code", "seconds"),
    [
        ("pass", 0, 1),
        ("raise SystemExit(3)", 3, 1),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT, 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, 12),
    ],
    ids=["end", "exit", "interrupt", "killed"],
)
def test_the_end_of_the_program_ends_the_workers(end, code, seconds):
    done, pids = run_program(end)
    assert done.returncode in (code, 130 if code == -signal.SIGINT else code), done.stderr
    assert len(pids) == 2
    assert gone(pids, seconds)


@pytest.mark.slow
def test_spawned_workers(tmp_path):
    path = tmp_path / "spawned.py"
    path.write_text(
        textwrap.dedent(
            """
            import taimatsu
            from taimatsu.utils.data import DataLoader, TensorDataset

            if __name__ == "__main__":
                dataset = TensorDataset(taimatsu.arange(4.0))
                loader = DataLoader(dataset, num_workers=1, multiprocessing_context="spawn")
                print([batch[0].item() for batch in loader])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "[0.0, 1.0, 2.0, 3.0]\n", done.stderr
