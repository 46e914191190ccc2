"""Twice as long a program takes about twice the work to compile: told by counts, not by time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

import taimatsu as torch
from taimatsu import nn
from taimatsu.compiler.lower import lower
from taimatsu.compiler.pipeline import Report, compile_stages
from taimatsu.compiler.precedence import Precedence
from taimatsu.config import config
from taimatsu.evaluate import interpreter
from taimatsu.ir.target import Target
from taimatsu.recorder.base import registered
from taimatsu.recorder.number import plain

pytestmark = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 each operation is a program of its own"
)


class _Counter:
    """Carries out programs, and counts the calls that lowering, fusion and schedules make."""

    def __init__(self) -> None:
        self.calls = 0
        self.kernels: set[int] = set()

    def __call__(
        self, graph: Any, buffers: dict, items: list, background: bool = False
    ) -> dict[int, Any]:
        numbers = [plain(x) for x in items]
        sizes = {slot: buffer.size for slot, buffer in buffers.items()}

        def note(frame: Any, event: str, given: Any) -> None:
            self.calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            lowered = lower(graph, numbers, sizes)
            compile_stages(
                lowered, Target.host(), Report(), lambda kernel: self.kernels.add(id(kernel))
            )
        finally:
            sys.setprofile(before)
        return interpreter.execute(graph, buffers, items)


def measured(function: Callable[[], Any]) -> _Counter:
    counter = _Counter()
    before = registered.execute
    registered.execute = counter
    try:
        function()
    finally:
        registered.execute = before
    return counter


def slices(count: int) -> None:
    out, table = torch.zeros(count, 4), torch.randn(count, 4)
    for i in range(count):
        out[i] = table[i] * 2
    out.numpy()


def stacked(count: int) -> None:
    x = torch.randn(count, 4)
    torch.stack([x[i] * 2 for i in range(count)]).numpy()


def recurrence(steps: int) -> None:
    x, h = torch.randn(16), torch.zeros(16)
    for _ in range(steps):
        h = torch.tanh(h * 0.5 + x)
    h.numpy()


def layers(count: int) -> None:
    net = nn.Sequential(*[m for _ in range(count) for m in (nn.Linear(8, 8), nn.ReLU())])
    update = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(4, 8)).sum().backward()
    update.step()


def unrolled(steps: int) -> None:
    cell, head = nn.Linear(10, 6), nn.Linear(6, 3)
    x, h = torch.randn(4, steps, 4), torch.zeros(4, 6)
    for t in range(steps):
        h = torch.tanh(cell(torch.cat([x[:, t], h], 1)))
    head(h).square().sum().backward()
    cell.weight.grad.numpy()


@pytest.mark.parametrize(
    ("program", "count"),
    [(slices, 200), (stacked, 200), (recurrence, 200), (layers, 25), (unrolled, 30)],
)
def test_work_grows_with_length(program: Callable[[int], None], count: int) -> None:
    measured(lambda: program(count // 2))  # what is remembered of equal parts is remembered
    short = measured(lambda: program(count))
    long = measured(lambda: program(2 * count))
    assert short.calls > 0
    assert long.calls < 2.6 * short.calls, (short.calls, long.calls)


def test_what_repeats_shares_kernels() -> None:
    assert (
        len(measured(lambda: layers(40)).kernels) <= len(measured(lambda: layers(10)).kernels) + 2
    )
    assert len(measured(lambda: stacked(300)).kernels) < 12


def test_precedence_is_kept_while_groups_grow() -> None:
    before = Precedence()
    for _ in range(5):
        before.add_group()
    before.put([0], 1)
    before.put([1], 3)
    before.put([4], 1)  # and so before 3, and in the order
    assert before.of([3]) == 0b10011
    assert before.of([1, 2]) == 0b10001
    assert before.order() == [0, 2, 4, 1, 3]
    before.put([3], 0)
    with pytest.raises(AssertionError, match="wait for one another"):
        before.order()
