"""A program that writes more than somebody asks for serves a set of values that is new."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from recorder.programs import Program
from recorder.test_random_programs import FIRST_ORDER, assert_all, same
from recorder.test_recipes import Executed

import taimatsu as torch
from taimatsu import evaluate, recorder
from taimatsu.config import config
from taimatsu.recorder import recording, registered, state
from taimatsu.recorder.recording import _roots
from taimatsu.storage import finish

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(config.eager, reason="with TAIMATSU_EAGER=1 every operation runs at once"),
]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Executed:
    recorder.flush()
    _roots.clear()
    watch = Executed(registered.execute)
    monkeypatch.setattr(registered, "execute", watch)
    return watch


def values(*shape: int, seed: int = 0) -> Any:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def run(step: Callable[[bool], Any], held: bool) -> tuple[int, int]:
    """A step; how many programs were built and bound for it."""
    built, bound = recorder.STATISTICS.programs, evaluate.STATISTICS.bindings
    step(held)
    recorder.flush()
    return (recorder.STATISTICS.programs - built, evaluate.STATISTICS.bindings - bound)


def test_less_than_before_is_served_once(executed: Executed) -> None:
    """Then it has a program of its own."""
    x, seen = values(8, 4), []

    def step(held: bool) -> None:
        y = x.exp()
        z = y * 2 + 1
        if not held:
            del y
        recorder.flush()
        seen.append(z.numpy().tobytes())

    assert run(step, True) == (1, 1)
    assert run(step, False) == (0, 0)
    assert run(step, True) == (0, 0)
    assert run(step, False) == (1, 1)
    for held in (True, False, False, True):
        assert run(step, held) == (0, 0)
    assert len(set(seen)) == 1
    assert [len(graph.outputs) for graph in executed.graphs[:4]] == [2, 2, 2, 1]


def test_more_than_before_is_not_served(executed: Executed) -> None:
    x = values(8, 4)

    def step(held: bool) -> None:
        y = x.exp()
        z = y * 2 + 1
        if not held:
            del y
        recorder.flush()
        z.numpy()

    assert run(step, False) == (1, 1)
    assert run(step, True) == (1, 1)


def test_the_smallest_program_serves(executed: Executed) -> None:
    x = values(8, 4)

    def step(count: int) -> None:
        chain = [x]
        for _ in range(4):
            chain.append(chain[-1] * 2 + 1)
        result = chain.pop()
        kept = chain[1 : 1 + count]
        del chain
        recorder.flush()
        assert result.shape == (8, 4)
        del kept

    for count in (3, 2, 2, 0):
        run(step, count)
    assert [len(graph.outputs) for graph in executed.graphs] == [4, 4, 3, 3]


def test_what_is_dropped_is_not_kept_in_memory(
    executed: Executed, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, made = values(8, 4), []

    def watching(*args: Any) -> Any:
        found = executed(*args)
        made.append({slot: weakref.ref(buffer) for slot, buffer in found.items()})
        return found

    monkeypatch.setattr(registered, "execute", watching)
    kept = []
    for held in (True, False):
        y = x.exp()
        z = y + 1
        if not held:
            del y
        recorder.flush()
        finish()
        kept.append(z)
    assert len(executed.graphs[1].outputs) == 2
    alive = [reference() is not None for reference in made[1].values()]
    assert sorted(alive) == [False, True]


def test_writes_in_place_happen_where_they_are_seen(executed: Executed) -> None:
    """What is overwritten when it dies, and copied when it lives."""

    def results(hold_old: bool, hold_new: bool) -> list:
        x = values(6, 5)
        recorder.flush()
        old = x * 1
        x[1:3] = x[2:4] * 3
        new = x + old
        x.mul_(2)
        total = new.sum() + x.sum()
        if not hold_old:
            del old
        if not hold_new:
            del new
        recorder.flush()
        seen = [total.numpy().copy(), x.numpy().copy()]
        seen += [old.numpy().copy()] if hold_old else []
        seen += [new.numpy().copy()] if hold_new else []
        return seen

    want = results(True, True)
    for old, new in ((True, False), (False, True), (False, False), (False, False), (True, True)):
        got = results(old, new)
        assert same(got[:2], want[:2])
        assert same(got[2:], [v for v, held in zip(want[2:], (old, new), strict=True) if held])
    outputs = [len(graph.outputs) for graph in executed.graphs]
    assert outputs.count(max(outputs)) >= 4  # the first program served those that came after it


def test_memory_of_what_died_is_written_by_nobody_who_is_seen(executed: Executed) -> None:
    """A tensor that came in, was written and died: its memory may be overwritten, no other's."""

    def results(held: bool) -> list:
        x, other = values(6, 5), values(6, 5, seed=1)
        recorder.flush()
        x += other
        y = x.exp()
        if not held:
            del x
        recorder.flush()
        return [y.numpy().copy(), other.numpy().copy()]

    want = results(True)
    assert same(results(False), want)
    assert same(results(False), want)
    assert [len(graph.outputs) for graph in executed.graphs] == [2, 2, 1]


def test_a_failure_of_what_nobody_asks_for_is_not_told(executed: Executed) -> None:
    table, scores = values(4, 3), torch.zeros(5, 4)

    def step(held: bool, best: int) -> Any:
        scores.zero_()
        scores[:, best] = 1
        recorder.flush()
        index = scores.argmax(1)
        picked = table[index + 1]
        result = (index * 2).sum()
        if not held:
            del picked
        recorder.flush()
        return result.item()

    assert step(True, 1) == 10
    assert step(False, 3) == 30  # picked would be out of range
    with pytest.raises((IndexError, RuntimeError)):
        step(True, 3)


def test_sets_are_bounded(executed: Executed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PROGRAM_LIMIT", 4)
    x = values(3)

    def step(mask: int) -> None:
        made = [x + k for k in range(5)]
        made = [y for k, y in enumerate(made) if mask >> k & 1]
        recorder.flush()
        for y in made:
            y.numpy()

    for _ in range(2):
        for mask in range(31, 0, -1):
            step(mask)
    final = max(all_states(), key=lambda s: len(s.programs))
    assert len(final.programs) <= 4
    assert len(final.memo["served"]) <= 4


def all_states() -> list:
    waiting = list(_roots.values())
    for each in waiting:
        waiting.extend(each.known().values())
    return waiting


@pytest.mark.parametrize("seed", range(7000, 7030))
def test_random_programs_give_the_same_bits(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values die in one run that live in another, between flushes at the same places."""
    served: list[bool] = []
    serve = recording.serving_program

    def noting(final: Any, live: frozenset, items: list) -> Any:
        program = serve(final, live, items)
        served.append(final.programs.get(live) is not program)
        return program

    monkeypatch.setattr(recording, "serving_program", noting)
    program = Program(seed, kinds=FIRST_ORDER)

    def keeping(kept: list) -> Callable[[int], None]:
        def after(number: int) -> None:
            if number % 3 == 2:
                kept.extend(alive())
                recorder.flush()
                if number % 2:
                    kept.clear()

        return after

    def flushing(number: int) -> None:
        if number % 3 == 2:
            recorder.flush()

    wanted = run_with(program, keeping([]))
    for _ in range(3):
        assert_all(same, wanted, run_with(program, flushing))
    SERVED.append(any(served))


SERVED: list[bool] = []


def test_random_programs_were_served() -> None:
    if SERVED:
        assert any(SERVED)


def run_with(program: Program, after: Callable[[int], None]) -> list:
    found = program.run(torch, after)
    recorder.flush()
    return found


def alive() -> list:
    """Storages that the open recording holds."""
    present = recording.local.recording
    items = [] if present is None or present.done else present.items
    return [item for item in items if type(item) is recording.Storage]
