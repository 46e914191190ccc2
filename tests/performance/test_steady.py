"""What repeats compiles, interprets and records nothing new: told by counts, not by time.

The works are those of ``benchmarks/``, and loops whose slices move, over thousands of iterations.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import taimatsu as torch
from taimatsu import evaluate, recorder
from taimatsu.autograd import replay
from taimatsu.config import config
from taimatsu.evaluate import specialisation

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.works import WORKS

Step = Callable[[int], Any]
NEW_SHAPES = ("states", "programs", "bindings")  # what shapes that were never there bring along
LEAST_SECONDS = 5e-4  # of an iteration: the clock, and what other programs do to caches


class Counts(NamedTuple):
    """What must not grow in steady steps: see the two ``Statistics``."""

    states: int
    programs: int
    references: int
    compilations: int
    plans: int
    bindings: int
    specialisations: int  # of them hot programs have theirs, then no more: see the full size


def counts() -> Counts:
    """What has been recorded, interpreted and compiled so far."""
    recorded, executed = recorder.STATISTICS, evaluate.STATISTICS
    return Counts(
        recorded.states,
        recorded.programs,
        0 if config.eager else executed.references,  # the reference carries out everything then
        executed.compilations,
        executed.plans,
        executed.bindings,
        executed.specialisations,
    )


def assert_nothing_new(before: Counts, after: Counts, allowed: tuple[str, ...] = ()) -> None:
    for name, first, last in zip(Counts._fields, before, after, strict=True):
        assert last == first or name in allowed, f"{last - first} {name} in steady steps"


def value_of(result: Any) -> float:
    return float(result.item() if hasattr(result, "item") else result)


# -- the works of the benchmarks ---------------------------------------------------------------


def steady_work(name: str, size: int, warm: int, count: int) -> None:
    work = WORKS[name]
    step = work.prepare(torch, size)
    recorder.flush()
    for i in range(warm):
        value_of(step(i))
    assert specialisation.settle(60)
    before = counts()
    for i in range(warm, warm + count):
        assert math.isfinite(value_of(step(i)))
    assert specialisation.settle(60)
    assert_nothing_new(before, counts())


@pytest.mark.parametrize("name", WORKS)
def test_works(name: str) -> None:
    period = WORKS[name].period
    steady_work(name, WORKS[name].small, warm=3 * period + 1, count=3 * period)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_works_at_their_full_size(name: str) -> None:
    """Where hot kernels are compiled again for their extents, this comes to an end too."""
    period = WORKS[name].period
    steady_work(name, WORKS[name].size, warm=3 * period + 40, count=3 * period)


@pytest.mark.parametrize("name", ["cnn", "mlp", "logistic"])
def test_training_without_a_look_at_the_loss(name: str) -> None:
    """Nobody asks for a value for many steps: programs end where the steps do."""
    step = WORKS[name].prepare(torch, WORKS[name].small)
    for i in range(10):
        step(i)
    before, programs = counts(), recorder.STATISTICS.flushes
    for i in range(10, 40):
        loss = step(i)
    assert recorder.STATISTICS.flushes - programs >= 29
    assert_nothing_new(before, counts(), ("specialisations",))  # it becomes hot meanwhile
    value_of(loss)


@pytest.mark.parametrize("name", [name for name in WORKS if WORKS[name].has_batches])
def test_a_new_batch_size_compiles_nothing(name: str) -> None:
    """Extents that come from data are symbols: kernels and plans are there already."""
    work = WORKS[name]
    recorder.flush()
    recorder.recording._roots.clear()  # no habits of other tests' networks
    replay._launched.clear()
    step = work.prepare(torch, work.small)
    for i in range(3 * work.period + 1):
        value_of(step(i))
    before = counts()
    for i in range(3 * work.period + 1, 4 * work.period + 3):
        value_of(step(i, work.small - 2))
    assert_nothing_new(before, counts(), NEW_SHAPES)


# -- loops with moving slices ------------------------------------------------------------------


class Loop(NamedTuple):
    """Steps, and an assertion about what they leave behind.

    ``allowed`` is what may grow: layouts that differ in their shape are other states.
    """

    step: Step
    verify: Callable[[], None]
    allowed: tuple[str, ...] = ()


def batches(count: int) -> Loop:
    """``data[i * 64 : (i + 1) * 64]``"""
    rows = 64
    data = torch.arange(count * rows * 2, dtype=torch.float32).reshape(-1, 2)
    sums: list[float] = []

    def step(i: int) -> None:
        batch = data[i * rows : (i + 1) * rows]
        sums.append((batch / rows - i * 2).sum().item())

    def verify() -> None:
        assert sums == pytest.approx([sums[0]] * count, abs=1e-3 * count)

    return Loop(step, verify)


def key_cache(count: int) -> Loop:
    """``cache[:, position] = key``"""
    cache = torch.zeros(2, count, 4)
    key = torch.arange(8, dtype=torch.float32).reshape(2, 4)

    def step(i: int) -> None:
        cache[:, i] = key + i
        recorder.flush()

    def verify() -> None:
        positions = torch.arange(count, dtype=torch.float32).reshape(1, -1, 1)
        assert torch.equal(cache, key.reshape(2, 1, 4) + positions)

    return Loop(step, verify)


def outputs(count: int) -> Loop:
    """``out[t] = h``, where ``h`` comes from the iteration before"""
    out = torch.zeros(count, 4)
    hidden = torch.zeros(4)

    def step(t: int) -> None:
        nonlocal hidden
        hidden = hidden * 0.5 + 1
        out[t] = hidden
        recorder.flush()

    def verify() -> None:
        want = 2 - 0.5 ** torch.arange(count, dtype=torch.float32)
        assert torch.equal(out, want.reshape(-1, 1).expand(count, 4))

    return Loop(step, verify)


def encodings(count: int) -> Loop:
    """``x + pe[:, :t]``, a length that was never there before in each iteration"""
    # One more than is ever taken: a slice of all is no slice, and another program.
    pe = torch.arange(count + 1, dtype=torch.float32).reshape(1, -1, 1)
    last: list[float] = []

    def step(i: int) -> None:
        t = i + 2  # 0 and 1 are lengths of their own
        if t <= count:
            x = torch.ones(1, t, 1)
            last.append((x + pe[:, :t])[0, -1].item())

    def verify() -> None:
        assert last == [float(t) for t in range(2, count + 1)]

    return Loop(step, verify, NEW_SHAPES)


LOOPS = {"batches": batches, "cache": key_cache, "outputs": outputs, "encodings": encodings}


def run_loop(name: str, count: int) -> None:
    """Nothing new after the third iteration; late iterations take no longer than early ones."""
    loop = LOOPS[name](count)
    recorder.flush()
    for i in range(3):
        loop.step(i)
    recorder.flush()
    assert specialisation.settle(60)  # of earlier programs: it takes processor time
    before, seconds = counts(), []
    for i in range(3, count):
        begin = time.perf_counter()
        loop.step(i)
        seconds.append(time.perf_counter() - begin)
    assert_nothing_new(before, counts(), loop.allowed)
    loop.verify()
    # Medians, since other processes may hold up some of the iterations for long.
    early, late = (statistics.median(s) for s in (seconds[: count // 4], seconds[-count // 4 :]))
    assert late <= 2 * early + LEAST_SECONDS


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name: str) -> None:
    run_loop(name, 300)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_ten_thousand_iterations(name: str) -> None:
    run_loop(name, 10_000)
