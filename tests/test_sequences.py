"""Long sequences: computed in stretches, or recorded, they are what short ones are."""

from __future__ import annotations

import numpy as np
import pytest

import taimatsu as tm
from taimatsu import evaluate, sequences
from taimatsu.config import config
from taimatsu.evaluate import compiled
from taimatsu.ir.target import Target
from taimatsu.ops.spacing import Spaced

HOST = Target.host()
FEATURES = {
    "host": HOST,
    "avx2": HOST.without("avx512f") if HOST.is_x86 else HOST,
    "none": HOST.without("avx") if HOST.is_x86 else HOST,
}


@pytest.mark.parametrize("features", FEATURES)
def test_recorded_numbers_are_the_references(
    features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    for count in (2, 3, 15, 16, 17, 1000, 8191, 8192, 70_001):
        for start, end in ((-3, 7.5), (1e-3, 100.3)):
            monkeypatch.setattr(sequences, "_RECORDED_FROM", 2)
            made = tm.linspace(start, end, count).numpy()
            first, step, last = sequences._distances(start, end, count, tm.float32)
            wanted = Spaced.reference(np.empty(count), float(first), float(step), float(last))
            assert made.dtype == wanted.dtype
            assert (made.view(np.int32) == wanted.view(np.int32)).all(), count
            monkeypatch.setattr(sequences, "_RECORDED_FROM", 1 << 40)
            assert tm.linspace(start, end, count).tolist() == made.tolist()


def test_stretches_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [
        lambda: tm.arange(1000),
        lambda: tm.arange(3, 1000, 7, dtype=tm.int32),
        lambda: tm.arange(1000, -3, -2, dtype=tm.uint8),
        lambda: tm.arange(0, 100, 0.3),
        lambda: tm.linspace(0, 5, 1001, dtype=tm.float64),
        lambda: tm.linspace(0, 5, 1000, dtype=tm.float16),
        lambda: tm.linspace(0, 500, 77, dtype=tm.int64),
        lambda: tm.linspace(0, 5j, 101),
        lambda: tm.logspace(0, 5, 100),
    ]
    whole = [call() for call in calls]
    for size in (1, 16, 50, 99):
        monkeypatch.setattr(sequences, "_AT_ONCE", size)
        for call, wanted in zip(calls, whole, strict=True):
            made = call()
            assert made.dtype is wanted.dtype
            assert made.tolist() == wanted.tolist()


@pytest.mark.skipif(config.eager, reason="nothing is compiled")
def test_other_lengths_and_ends_compile_nothing_new() -> None:
    def step(count: int) -> None:
        (tm.linspace(0, count, count) * 2).sum().item()

    for count in (9000, 9001, 9002, 9003):
        step(count)
    done = evaluate.STATISTICS.compilations, evaluate.STATISTICS.plans
    for count in (9004, 10_000, 20_001, 33_333):
        step(count)
    assert (evaluate.STATISTICS.compilations, evaluate.STATISTICS.plans) == done


def test_a_recorded_sequence_may_require_a_gradient() -> None:
    x = tm.linspace(0, 1, 10_000, requires_grad=True)
    assert x.is_leaf
    (x * x).sum().backward()
    assert (x.grad == 2 * x).all()


@pytest.mark.parametrize("features", FEATURES)
def test_recorded_steps_are_the_references(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    for count in (1, 17, 1000, 70_001):
        for start, step in ((0.0, 0.3), (-5.5, 1 / 3), (7, -2.25)):
            for kind in (tm.float32, tm.float64):
                monkeypatch.setattr(sequences, "_RECORDED_FROM", 1)
                made = sequences._steps(start, step, count, kind)
                monkeypatch.setattr(sequences, "_RECORDED_FROM", 1 << 40)
                wanted = sequences._steps(start, step, count, kind)
                assert made.dtype is kind
                assert made.tolist() == wanted.tolist()


def test_whole_numbers_wrap_around(monkeypatch: pytest.MonkeyPatch) -> None:
    step = 3 << 60
    wanted = [(n * step + 5 + (1 << 63)) % (1 << 64) - (1 << 63) for n in range(100)]
    monkeypatch.setattr(sequences, "_AT_ONCE", 8)
    assert sequences._whole_steps(5, step, 100, tm.int64).tolist() == wanted
    small = sequences._whole_steps(-7, 77, 100, tm.int8).tolist()
    assert small == [(n * 77 - 7 + 128) % 256 - 128 for n in range(100)]
