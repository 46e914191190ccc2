"""Normals in compiled code: the bits of the generator's own, wherever and for whatever size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ops.lowering import Call, Lowered

import taimatsu as tm
from taimatsu import dtypes, evaluate, recorder
from taimatsu.config import config
from taimatsu.evaluate import compiled
from taimatsu.generator import Generator, fill
from taimatsu.ir.meta import meta
from taimatsu.ir.target import Target
from taimatsu.ops import normals, random

HOST = Target.host()
FEATURES = {
    "host": HOST,
    "avx2": HOST.without("avx512f") if HOST.is_x86 else HOST,
    "none": HOST.without("avx") if HOST.is_x86 else HOST,
}
COUNTS = (16, 17, 31, 32, 33, 47, 1000, 4095, 4096, 4097, 70_001)
compiled_only = pytest.mark.skipif(config.eager, reason="nothing is compiled")


@pytest.fixture(autouse=True)
def always_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "FEWEST", 16)


def bits(values: Any) -> list[int]:
    return np.asarray(values).reshape(-1).view(np.int32).tolist()


def expected(generator: Generator, count: int, *numbers: float) -> np.ndarray:
    return fill.normal(generator, count, np.dtype(np.float32), *numbers)


@pytest.mark.parametrize("features", FEATURES)
def test_bits_and_states_are_the_generators(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    ours, theirs = Generator().manual_seed(5), Generator().manual_seed(5)
    for count in COUNTS:
        made = tm.randn(count, generator=ours)
        assert bits(made.numpy()) == bits(expected(theirs, count)), count
        made = tm.empty(count).normal_(1.5, 0.3, generator=ours)
        assert bits(made.numpy()) == bits(expected(theirs, count, 1.5, 0.3)), count
        assert (ours.snapshot() == theirs.snapshot()).all(), count


def test_every_function_draws_them() -> None:
    like = tm.zeros(8, 9)
    calls = {
        "randn": lambda g: tm.randn(8, 9, generator=g),
        "randn_like": lambda g: tm.randn_like(like, generator=g),
        "normal": lambda g: tm.normal(0.0, 1.0, (8, 9), generator=g),
        "normal of tensors": lambda g: tm.normal(like, like + 1, generator=g),
        "normal_": lambda g: tm.empty(8, 9).normal_(generator=g),
    }
    for name, call in calls.items():
        made = call(Generator().manual_seed(3))
        assert made.shape == (8, 9), name
        assert made.is_contiguous(), name
        assert bits(made.numpy()) == bits(expected(Generator().manual_seed(3), 72)), name


def test_what_follows_reads_them() -> None:
    for count in (64, 70):
        tm.manual_seed(2)
        noise = tm.randn(2, count // 2)
        shifted = noise.t() * 2 + 1
        noise += 1
        values = expected(Generator().manual_seed(2), count).reshape(2, -1)
        assert bits(shifted.t().contiguous().numpy()) == bits(values * 2 + 1)
        assert bits(noise.numpy()) == bits(values + 1)


def test_new_tensors_are_no_views_and_leaves() -> None:
    made = tm.randn(4, 8, requires_grad=True)
    assert made.is_leaf
    assert not made._is_view()
    assert made._version == 0
    (made * made).sum().backward()
    assert (made.grad == 2 * made).all()


def test_an_order_of_draws_is_kept_whatever_is_computed_first() -> None:
    tm.manual_seed(1)
    first, between, last = tm.randn(100), tm.rand(3), tm.randn(100)
    source = Generator().manual_seed(1)
    assert bits(last.numpy()) != bits(first.numpy())
    assert bits(first.numpy()) == bits(expected(source, 100))
    assert bits(between.numpy()) == bits(fill.uniform(source, 3, np.dtype(np.float32)))
    assert bits(last.numpy()) == bits(expected(source, 100))


def test_many_numbers_are_made_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normals, "AT_ONCE", 64)
    for count in (128, 129, 191, 200, 256, 1000):
        ours, theirs = Generator().manual_seed(9), Generator().manual_seed(9)
        assert bits(tm.randn(count, generator=ours).numpy()) == bits(expected(theirs, count))
        assert (ours.snapshot() == theirs.snapshot()).all()


@pytest.mark.parametrize("shape", [(3, 2, 8), (16 + 35,)])
def test_stages_are_the_reference(shape: tuple[int, ...]) -> None:
    operation = normals.NormalBlocks
    words = Generator().manual_seed(4).words(int(np.prod(shape))).reshape(shape)
    inputs = (words, words, 0.5, 2.0)
    wanted = operation.reference(*inputs)
    metas = (*[meta(shape, dtypes.uint32)] * 2, None, None)
    outs = (meta(wanted.shape, dtypes.float32),)
    call = Call(operation, inputs, (False,) * 4, {}, metas, outs, (wanted,))
    for symbolic in ((), shape[:1]):
        (made,) = Lowered(call, symbolic=symbolic).values()
        assert bits(made) == bits(wanted)


@compiled_only
def test_other_sizes_compile_nothing_new() -> None:
    def step(rows: int) -> None:
        (tm.ones(1) + 1).item()
        first = tm.randn(rows, 16) + 1  # carried out at once; what follows is recorded
        noise = tm.randn(rows, 48) + first.mean()
        (tm.randn(rows * 5 + 1).sum() + (noise * 2).sum()).item()

    for rows in (20, 21, 22, 23):
        step(rows)
    done = evaluate.STATISTICS.compilations, evaluate.STATISTICS.plans
    for rows in (25, 26, 31, 40, 64, 77):
        step(rows)
    assert (evaluate.STATISTICS.compilations, evaluate.STATISTICS.plans) == done
    step(25)
    states = recorder.STATISTICS.states
    for _ in range(5):
        step(25)
    assert recorder.STATISTICS.states == states


@compiled_only
def test_data_made_first_is_carried_out_at_once_and_noise_is_recorded() -> None:
    tm.ones(1).item()
    data = tm.randn(64, 64)
    assert data._storage.buffer is not None
    made = data * 2
    noise = tm.randn(64, 64)
    assert noise._storage.buffer is None
    assert ((made + noise) - noise - made).abs().max() < 1e-5
