"""Kernels that draw random numbers: the words and orders that NumPy and Python give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from codegen_kernels import TARGETS

import taimatsu as tm
from taimatsu.config import config
from taimatsu.evaluate import draws
from taimatsu.generator import Generator, fill, twister
from taimatsu.generator.normal import box_muller_blocks
from taimatsu.ir.verifier import verify

compiled_only = pytest.mark.skipif(config.eager, reason="nothing is compiled")
INT64 = np.dtype(np.int64)


@pytest.fixture(params=sorted(TARGETS))
def on_target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    target = TARGETS[request.param]
    monkeypatch.setattr(draws.Target, "host", lambda: target)
    draws._function.cache_clear()
    yield
    draws._function.cache_clear()


@compiled_only
@pytest.mark.parametrize("blocks", [1, 2, 31, 32, 33, 65])
def test_blocks_are_those_of_numpy(blocks: int, on_target: None) -> None:
    ours, numpys = twister.Twister(blocks), twister.Twister(blocks)
    state, _ = ours.state()
    before = state.copy()
    words = np.empty(blocks * twister.WORDS, np.uint32)
    after = draws.twister_blocks(state, words)
    assert after is not None
    assert (words == numpys._words(len(words))).all()
    assert (after == numpys.state()[0]).all()
    assert (state == before).all()


@compiled_only
def test_words_go_on_wherever_the_block_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    blocks = twister.registered.twister_blocks
    assert blocks is not None
    monkeypatch.setattr(
        twister.registered, "twister_blocks", lambda *given: calls.append(1) or blocks(*given)
    )
    ours, numpys = twister.Twister(1), twister.Twister(1)
    least = twister.COMPILED_FROM
    for count in (least, 3, least + 1, 624, least + 623, 620, least + 4, 1, least * 3):
        assert (ours.words(count) == numpys._words(count)).all(), count
        assert ours.state()[1] == numpys.state()[1]
        assert (ours.state()[0] == numpys.state()[0]).all()
    assert len(calls) == 5


@compiled_only
@pytest.mark.parametrize("count", [1, 2, 3, 100, 5000])
def test_shuffles_are_those_of_python(count: int, on_target: None) -> None:
    steps = Generator().manual_seed(count).words(count)
    order = list(range(count + 1))
    for i, step in enumerate(steps.tolist()):
        j = i + step % (count + 1 - i)
        order[i], order[j] = order[j], order[i]
    assert draws.shuffled(steps).tolist() == order


def test_long_permutations_are_as_without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    least = twister.COMPILED_FROM
    counts = (least - 1, least, least + 1, 70_001)
    made = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(twister.registered, "shuffled", None)
            monkeypatch.setattr(twister.registered, "twister_blocks", None)
        g = Generator().manual_seed(3)
        made.append([fill.permutation(g, n, INT64) for n in counts] + [g.snapshot()])
    for one, other in zip(*made, strict=True):
        assert (one == other).all()


def test_numbers_in_stretches_are_as_without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    count = fill._DRAWN + fill._AT_ONCE + 7
    made = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(twister.registered, "twister_blocks", None)
            monkeypatch.setattr(fill, "_DRAWN", 1000)
        tm.manual_seed(8)
        made.append([
            tm.rand(count), tm.rand(count, dtype=tm.float64), tm.randint(-9, 70, (count,)),
            tm.randint(0, 1 << 50, (count,)), tm.randint(5, (count,), dtype=tm.float32),
            tm.empty(count).uniform_(-1, 3), tm.empty(count, dtype=tm.int16).random_(), tm.rand(2),
        ])  # fmt: skip
    for one, other in zip(*made, strict=True):
        assert (one == other).all()


def test_kernels_are_well_formed() -> None:
    for target in TARGETS.values():
        for make in (draws._twister, draws._shuffle):
            verify(make(target))


@compiled_only
@pytest.mark.parametrize("blocks", [1, 3, 200])
def test_small_normals_are_the_references(
    blocks: int, on_target: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = (np.arange(blocks * 16) * 7919 % (1 << 24)).astype(np.float32) * np.float32(2.0**-24)
    numbers = np.float32(0.3), np.float32(1.7)
    made = draws.normals(units.reshape(-1, 2, 8), *numbers)
    assert made is not None
    monkeypatch.setattr(twister.registered, "normals", None)
    wanted = box_muller_blocks(units, *numbers)
    assert (made.reshape(-1).view(np.int32) == wanted.view(np.int32)).all()


@compiled_only
def test_many_small_draws_are_what_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tm.randn(5000).numpy()  # code is there
    asked = []
    real = draws.normals
    monkeypatch.setattr(draws, "normals", lambda *given: asked.append(1) or real(*given))
    made = []
    for _ in range(20):
        tm.manual_seed(5)
        made.append(tm.randn(40).numpy())
    assert asked
    assert all((x == made[0]).all() for x in made)
