"""Chunks may be carried out in any order: what two of them write never overlaps.

Kernels are compiled with their chunks counted from the last to the first; all bits must stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiler.test_contraction import TARGETS, Maker, ready
from compiler.test_programs_on_targets import FEATURES, afresh, network_step, results
from recorder.test_random_programs import same

import taimatsu
from taimatsu.compiler import objects
from taimatsu.compiler.schedule import contraction, contraction_plan
from taimatsu.compiler.schedule.trees import substituted
from taimatsu.compiler.transport import pack_kernel
from taimatsu.config import config
from taimatsu.evaluate import compiled
from taimatsu.ir.index import index
from taimatsu.ir.loops import Kernel, Loop, Statement
from taimatsu.ir.target import Target
from taimatsu.recorder.base import registered

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(config.eager, reason="compiled code is not used with TAIMATSU_EAGER=1"),
]

nn = taimatsu.nn


def backwards(kernel: Kernel) -> Kernel:
    """The kernel with its chunks in the opposite order."""

    def turned(statement: Statement) -> Statement:
        if not isinstance(statement, Loop) or statement.kind != "parallel":
            return statement
        last_first = {statement.var: statement.extent - 1 - index(statement.var)}
        return Loop(statement.var, "parallel", substituted(statement.body, last_first))

    body = [turned(s) for s in kernel.body]
    return Kernel(kernel.name, kernel.arguments, kernel.symbols, kernel.numbers, body)


def both_orders(run: Callable[[], list], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a program with chunks in their order and in the opposite one, and compares."""
    monkeypatch.setattr(registered, "execute", afresh)
    monkeypatch.setattr(compiled, "kept_plan", lambda *_: None)
    monkeypatch.setattr(compiled, "keep_plan", lambda *_: None)
    before = taimatsu.get_num_threads()
    taimatsu.set_num_threads(1)
    found = []
    try:
        for pack in (pack_kernel, lambda kernel: pack_kernel(backwards(kernel))):
            monkeypatch.setattr(objects, "pack_kernel", pack)
            monkeypatch.setattr(compiled, "_plans", type(compiled._plans)())
            found.append(run())
    finally:
        taimatsu.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert same(a, b)


class Block(nn.Module):
    """Two convolutions beside one with steps: their gradients have zeros between."""

    def __init__(self, channels: int, made: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, made, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(made)
        self.second = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.beside = nn.Conv2d(channels, made, 1, 2, bias=False)

    def forward(self, x: taimatsu.Tensor) -> taimatsu.Tensor:
        return self.second(self.norm(self.first(x)).relu()) + self.beside(x)


def wide_step(dtype: taimatsu.dtype) -> list:
    """A step through layers whose operands are packed in panels of all widths."""
    taimatsu.manual_seed(0)
    model = nn.Sequential(
        Block(20, 48), nn.ReLU(), nn.MaxPool2d(2), Block(48, 72), nn.Flatten(),
        nn.Linear(288, 75), nn.Tanh(), nn.Linear(75, 7),
    ).to(dtype)  # fmt: skip
    x, y = taimatsu.randn(5, 20, 14, 14, dtype=dtype), taimatsu.arange(5)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return [loss.item(), *(p.grad.numpy().copy() for p in model.parameters())]


@pytest.mark.parametrize(
    ("features", "dtype"), [("host", taimatsu.float32), ("avx2", taimatsu.float64)]
)
def test_wide_layers(features: str, dtype: taimatsu.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    both_orders(lambda: wide_step(dtype), monkeypatch)


@pytest.mark.parametrize("features", ["host", "none"])
def test_a_network(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    both_orders(network_step, monkeypatch)


@pytest.mark.parametrize("seed", range(2))
def test_random_programs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    both_orders(lambda: results(seed, afresh, monkeypatch), monkeypatch)


def rows_in_panels(width: int, made: Callable[..., Any]) -> Callable[..., Any]:
    """The planner, but that rows are packed, in panels of this width."""

    def plan(problem: Any, target: Target, parts: Any) -> Any:
        chosen = made(problem, target, parts)
        lane, row = problem.axes[::-1]
        chosen.lane, chosen.across, chosen.vectors = lane, False, 1
        chosen.factors = {row: width}
        chosen.packed = {n: row for n, o in enumerate(problem.operands) if row in o.axes}
        contraction_plan._loops(problem, chosen)
        contraction_plan._chunks(problem, chosen, target)
        return chosen

    return plan


@pytest.mark.parametrize("width", [3, 7, 9, 14, 16])
@TARGETS
def test_panels_of_rows(target: Target, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a panel's width is no multiple of a vector's, its last vector is stored in part."""
    monkeypatch.setattr(contraction, "plan", rows_in_panels(width, contraction.plan))
    found = []
    for pack in (pack_kernel, lambda kernel: pack_kernel(backwards(kernel))):
        monkeypatch.setattr(objects, "pack_kernel", pack)
        make = Maker()
        x, y = make.window((64, 100)), make.window((64, 48))
        product = multiplied(make, x, y)
        done = ready(make.case([product], [product]), target)
        done.run(1)
        found.append(done.result(product))
        want = make.windows[x].T @ make.windows[y]
        assert np.allclose(found[-1], want, rtol=1e-4, atol=1e-4)
    assert same(*found)


def multiplied(make: Maker, x: Any, y: Any) -> Any:
    """The product of a matrix that lies transposed with another one."""
    shape = (x.shape[1], y.shape[1])
    return make.builder.reduce(
        "add", shape, x.shape[:1], "float32", lambda i, k: x[k[0], i[0]] * y[k[0], i[1]]
    )
