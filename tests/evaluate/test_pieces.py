"""Programs of loops whose length varies are carried out in pieces that come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
from taimatsu.compiler import repeats
from taimatsu.compiler.repeats import cut, loops
from taimatsu.config import config
from taimatsu.evaluate import interpreter, pieces
from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.ir.graph import Graph
from taimatsu.recorder.base import registered

nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 each operation is a program of its own"
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short programs are cut too, from the first one on."""
    monkeypatch.setattr(repeats, "LEAST_NODES", 12)
    monkeypatch.setattr(repeats, "PIECE_NODES", 10)
    monkeypatch.setattr(pieces, "LENGTHS", 0)


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs of all pieces, in the order in which they were cut."""
    found: list[Graph] = []

    def watched(*given: Any) -> Any:
        made = cut(*given)
        found.extend(piece.graph for piece in made or ())
        return made

    monkeypatch.setattr(pieces, "cut", watched)
    return found


def recorded(function: Callable[[], Any]) -> list[Graph]:
    """The programs that a function has carried out."""
    found: list[Graph] = []
    before = registered.execute

    def execute(graph: Graph, *rest: Any) -> Any:
        found.append(graph)
        return before(graph, *rest)

    registered.execute = execute
    try:
        function()
    finally:
        registered.execute = before
    return found


def recurrent(steps: int, layers: int = 1) -> torch.Tensor:
    """A loss after so many steps of a recurrent network, its gradients added up in a number."""
    torch.manual_seed(steps)
    cells = [nn.Linear(12, 8) for _ in range(layers)]
    x = torch.randn(3, steps, 4)
    h = [torch.zeros(3, 8) for _ in cells]
    total = torch.zeros(())
    for t in range(steps):
        for k, cell in enumerate(cells):
            into = torch.cat([x[:, t], h[k]], 1) if k == 0 else torch.cat([h[0][:, :4], h[k]], 1)
            h[k] = torch.tanh(cell(into))
        total = total + h[-1].sum() * 0.1
    total.backward()
    grads = [p.grad.pow(2).sum() for cell in cells for p in cell.parameters()]
    return torch.stack([total.detach(), *grads])


def written(steps: int) -> torch.Tensor:
    """In-place writes: of regions, of views, of a running sum, of what came in."""
    out, running = torch.zeros(steps, 5), torch.ones(5)
    cache = torch.arange(40.0).view(8, 5)
    for t in range(steps):
        running.mul_(0.9).add_(cache[t % 8])
        out[t] = running * 2
        cache[(3 * t) % 8, 1:3] += running[:2]
        if t % 2 == 0:
            cache[0] = cache[0] + 1
    return torch.cat([out.flatten(), running, cache.flatten()])


def dropped(steps: int) -> torch.Tensor:
    torch.manual_seed(3)
    x = torch.ones(4, 6)
    for _ in range(steps):
        x = F.dropout(torch.sin(x) + 1, 0.3)
    return x


def by_reference(function: Callable[[int], torch.Tensor], steps: int) -> np.ndarray:
    before = registered.execute
    registered.execute = interpreter.execute
    try:
        return function(steps).numpy().copy()
    finally:
        registered.execute = before


@pytest.mark.parametrize("function", [recurrent, lambda n: recurrent(n, 2), written, dropped])
def test_pieces_do_what_the_program_does(
    function: Callable[[int], torch.Tensor], short: None, cuts: list[Graph]
) -> None:
    for steps in (7, 16, 12, 7):
        got = function(steps).numpy()
        np.testing.assert_allclose(got, by_reference(function, steps), rtol=1e-4, atol=1e-5)
    assert len(cuts) > 10
    assert len(set(map(id, cuts))) < len(cuts) / 2  # pieces come back
    for graph in cuts:
        graph.verify()


def test_the_third_length_is_the_last_that_is_planned(cuts: list[Graph]) -> None:
    for steps in (30, 40):
        recurrent(steps).numpy()
    assert not cuts
    for steps in (50, 35, 61):
        recurrent(steps).numpy()
    assert cuts
    before = STATISTICS.compilations
    graphs = set(map(id, cuts))
    for steps in (44, 57, 38, 71):
        got = recurrent(steps).numpy()
        np.testing.assert_allclose(got, by_reference(recurrent, steps), rtol=1e-3, atol=1e-5)
    assert STATISTICS.compilations - before <= 4
    assert len(set(map(id, cuts)) - graphs) <= 16


def test_a_failing_piece_leaves_memory_as_it_was(short: None, cuts: list[Graph]) -> None:
    table, weight = torch.arange(6.0), torch.zeros(3)
    places = torch.arange(24) % 6

    def steps(wrong: int) -> None:
        where = places + (torch.arange(24) == wrong) * 100
        for t in range(24):
            weight.add_(table[where[t : t + 3].clone()].sum())
            weight.mul_(0.5)

    steps(-1)
    kept = weight.numpy().copy()
    assert cuts

    def failing() -> None:
        steps(20)
        weight.numpy()

    with pytest.raises(IndexError):
        failing()
    np.testing.assert_array_equal(weight.numpy(), kept)


def test_an_interrupted_program_can_run_again(short: None, cuts: list[Graph]) -> None:
    running, x = torch.ones(5), torch.arange(5.0)
    running.numpy()

    def steps() -> None:
        for t in range(24):
            running.mul_(0.9).add_(x * t)

    wanted = running.clone()
    for t in range(24):
        wanted = wanted * 0.9 + x * t
    wanted = wanted.numpy().copy()
    steps()
    real, calls = pieces.Pieces.run, []

    def interrupted(self: Any, *given: Any) -> Any:
        execute = self.execute

        def one(*piece: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return execute(*piece)

        self.execute = one
        return real(self, *given)

    pieces.Pieces.run = interrupted  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            running.numpy()
    finally:
        pieces.Pieces.run = real  # type: ignore[method-assign]
    assert len(calls) == 3
    np.testing.assert_allclose(running.numpy(), wanted, rtol=1e-5)


def test_what_does_not_repeat_is_no_loop() -> None:
    found = recorded(lambda: (torch.randn(5).exp() + 1).sum().item())
    assert found
    assert all(loops(graph) == [] for graph in found)


def test_a_loop_is_found_with_its_steps(short: None) -> None:
    x = torch.randn(4, 4)

    def steps() -> None:
        h = x
        for _ in range(20):
            h = torch.tanh(h @ x) + 1
        h.numpy()

    (graph,) = recorded(steps)
    (loop,) = loops(graph)
    assert (loop.length, loop.steps) == (3, 20)
    made = cut(graph, [loop], {})
    assert made is not None
    assert sum(len(piece.graph.nodes) for piece in made) == len(graph.nodes)
    assert len({id(piece.graph) for piece in made}) <= 4
