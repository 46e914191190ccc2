"""Groups that are alike are scheduled once, and what differs is told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
from taimatsu import nn
from taimatsu.compiler import layouts, pipeline
from taimatsu.compiler.alike import Form, Schedules
from taimatsu.compiler.fusion import fuse
from taimatsu.compiler.lower import lower
from taimatsu.config import config
from taimatsu.evaluate import compiled, interpreter
from taimatsu.ir.target import Target
from taimatsu.recorder.base import registered
from taimatsu.recorder.number import plain

pytestmark = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 each operation is a program of its own"
)


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the groups that were scheduled, and not found."""
    found: list[str] = []
    schedule = pipeline._schedule

    def noted(group: Any, chosen: Any, target: Target) -> Any:
        found.append(group.kind)
        return schedule(group, chosen, target)

    monkeypatch.setattr(pipeline, "_schedule", noted)
    monkeypatch.setattr(pipeline, "schedules", Schedules())
    monkeypatch.setattr(compiled, "kept_plan", lambda *given: None)
    # With verification what is found is made again, to be compared.
    monkeypatch.setattr(config, "verify", False)
    return found


def forms(function: Callable[[], Any]) -> list[Any]:
    """The keys of the groups of the program that a function records."""
    found: list[Any] = []

    def noting(graph: Any, buffers: dict, items: list, background: bool = False) -> Any:
        numbers = [plain(x) for x in items]
        sizes = {slot: buffer.size for slot, buffer in buffers.items()}
        lowered = lower(graph, numbers, sizes)
        groups = fuse(lowered.stages, lowered.outputs.values())
        target = Target.host()
        chosen = layouts.choose(groups, pipeline.fixed(lowered), target)
        found.extend([Form(group, chosen, target).key for group in groups])
        return interpreter.execute(graph, buffers, items)

    before = registered.execute
    registered.execute = noting
    try:
        function().numpy()
    finally:
        registered.execute = before
    return found


X = torch.randn(64, 48)
Y = torch.randn(64, 48)
Z = torch.randn(64, 48)


def deep(layers: int, width: int = 24) -> Callable[[], Any]:
    net = nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(width, width), nn.Tanh())])
    x = torch.randn(16, width)

    def step() -> Any:
        loss = net(x).square().mean()
        loss.backward()
        return loss

    return step


def test_equal_layers_are_scheduled_once(scheduled: list[str]) -> None:
    deep(6)().item()
    short = len(scheduled)
    del scheduled[:]
    pipeline.schedules = Schedules()
    deep(30)().item()
    assert 0 < len(scheduled) <= short + 6


def test_the_second_program_of_a_loop_finds_the_passes_of_the_first(scheduled: list[str]) -> None:
    net = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 12))
    update = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(16, 12)
    counts = []
    for _ in range(2):
        before = len(scheduled)
        update.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        update.step()
        loss.item()
        counts.append(len(scheduled) - before)
    assert counts[1] < counts[0]


def test_what_is_found_computes_on_its_own_memory() -> None:
    parts = [torch.randn(40, 30) for _ in range(6)]
    weights = [torch.randn(30, 30) for _ in range(6)]
    pairs = list(zip(parts, weights, strict=True))
    got = [(x @ w).softmax(1) * (k + 1.5) for k, (x, w) in enumerate(pairs)]
    total = sum(g.sum(0) for g in got)
    total.numpy()
    for k, (x, w) in enumerate(pairs):
        product = x.numpy().astype(np.float64) @ w.numpy()
        e = np.exp(product - product.max(1, keepdims=True))
        want = e / e.sum(1, keepdims=True) * (k + 1.5)
        np.testing.assert_allclose(got[k].numpy(), want, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: X.exp() * X, lambda: X.exp() * Y),
        (lambda: X.exp() * 2.5, lambda: X.exp() * X),
        (lambda: X.sum(0), lambda: X.sum(1)),
        (lambda: X.sum(0), lambda: X.amax(0)),
        (lambda: X[:, ::2].exp(), lambda: X[:, :24].exp()),
        (lambda: X.exp(), lambda: X.T.contiguous().exp()),
        (lambda: X.to(torch.float64).exp(), lambda: X.exp()),
        (lambda: torch.cat([X, Y]), lambda: torch.cat([X, X])),
        (lambda: X.cumsum(0), lambda: X.flip(0).cumsum(0).flip(0)),
    ],
)
def test_what_differs_has_another_form(one: Callable[[], Any], other: Callable[[], Any]) -> None:
    assert forms(one) != forms(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: X.exp() * Y, lambda: Y.exp() * Z),
        (lambda: (X @ Y.T).relu(), lambda: (Z @ X.T).relu()),
        (lambda: X * 2.5 + 3.5, lambda: Y * 0.5 - (-7.5)),
        (lambda: X.log_softmax(1).mean(0), lambda: Z.log_softmax(1).mean(0)),
    ],
)
def test_what_is_alike_has_one_form(one: Callable[[], Any], other: Callable[[], Any]) -> None:
    first = forms(one)
    assert first
    assert all(key in first for key in forms(other)[:-1])
    assert len(first) == len(forms(other))


def test_forms_are_forgotten() -> None:
    kept = Schedules(limit=2)
    keys = [forms(lambda n=n: X[:n].exp())[0] for n in (3, 4, 5)]

    class Of:
        stages: list = []
        numbers: list = []

        def __init__(self, key: Any) -> None:
            self.key = key

    for key in keys:
        kept.keep(Of(key), [])  # type: ignore[arg-type]
    assert kept.find(Of(keys[0])) is None  # type: ignore[arg-type]
    assert kept.find(Of(keys[2])) == []  # type: ignore[arg-type]
