"""Random programs with every number of threads and with the machine's features switched off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recorder.programs import Program
from recorder.test_random_programs import close, same

import taimatsu
from taimatsu.config import config
from taimatsu.evaluate import compiled, interpreter
from taimatsu.ir.target import Target
from taimatsu.recorder.base import registered

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(config.eager, reason="compiled code is not used with TAIMATSU_EAGER=1"),
]

HOST = Target.host()
FEATURES = {
    "host": HOST,
    "avx2": HOST.without("avx512f") if HOST.is_x86 else HOST,
    "none": HOST.without("avx") if HOST.is_x86 else HOST,
}


def afresh(graph: Any, *given: Any) -> Any:
    """Carries out a program with nothing remembered of its last run."""
    graph.program = None
    found = compiled.execute(graph, *given)
    graph.program = None
    return found


def results(seed: int, execute: Callable, monkeypatch: pytest.MonkeyPatch) -> list:
    with monkeypatch.context() as patch:
        patch.setattr(registered, "execute", execute)
        return Program(seed).run(taimatsu)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("features", FEATURES)
def test_without_features(features: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    want = results(seed, interpreter.execute, monkeypatch)
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    got = results(seed, afresh, monkeypatch)
    assert len(want) == len(got)
    for a, b in zip(want, got, strict=True):
        assert close(a, b), (a, b)


def network_step() -> list:
    """A step of a small network whose kernels have several chunks: the loss and the gradients."""
    taimatsu.manual_seed(0)
    nn = taimatsu.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 33),
        nn.LayerNorm(33),
        nn.Linear(33, 5),
    )
    x, y = taimatsu.randn(40, 3, 16, 16), taimatsu.arange(40) % 5
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return [loss.item(), *(p.grad.numpy().copy() for p in model.parameters())]


@pytest.mark.parametrize("features", FEATURES)
def test_threads_change_no_bit(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    monkeypatch.setattr(registered, "execute", afresh)
    before = taimatsu.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            taimatsu.set_num_threads(count)
            found.append(network_step())
    finally:
        taimatsu.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert same(a, b)
