"""Contractions, scheduled and compiled, against the evaluation of their stages with NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from compiler.contraction_runner import Ready

from taimatsu.compiler.groups import Group, Layout, ordered_layout
from taimatsu.compiler.schedule.contraction import schedule
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Symbol, index
from taimatsu.ir.stage_interpreter import evaluate, numpy_dtype
from taimatsu.ir.stages import Cell, Stage
from taimatsu.ir.target import Target
from taimatsu.runtime.loader import LoadError, host_machine

try:
    host_machine()
except LoadError as error:
    pytest.skip(str(error), allow_module_level=True)

HOST = Target.host()
NARROW = HOST.without("avx512f") if HOST.is_x86 else HOST
PLAIN = HOST.without("avx", "sse4.2", "sse4.1") if HOST.is_x86 else HOST
TARGETS = pytest.mark.parametrize("target", [HOST, NARROW, PLAIN], ids=["host", "avx2", "plain"])


class Case(NamedTuple):
    """A group with its inputs."""

    group: Group
    windows: dict[Stage, np.ndarray]  # as their shapes are
    symbols: dict[str, int]
    orders: dict[Stage, tuple[int, ...]] = {}
    numbers: tuple[float, ...] = ()


class Maker:
    """Makes windows with random content; remembers the values of symbols."""

    def __init__(self, seed: int = 0, dtype: str = "float32") -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.builder = Builder()
        self.windows: dict[Stage, np.ndarray] = {}
        self.symbols: dict[str, int] = {}

    def symbol(self, name: str, value: int) -> Index:
        self.symbols[name] = value
        return index(Symbol(name, value))

    def numbers(self, shape: Sequence[Index | int]) -> tuple[int, ...]:
        return tuple(index(n).evaluate(lambda s: self.symbols[s.name]) for n in shape)

    def window(
        self,
        shape: Sequence[Index | int],
        order: tuple[int, ...] | None = None,
        dtype: str | None = None,
    ) -> Stage:
        """An input whose dimensions lie in memory in the given order."""
        extents = tuple(map(index, shape))
        stage = Stage("window", extents, dtype or self.dtype)
        stage.cell = Cell(len(self.windows))
        stage.strides = ordered_layout(extents, order or tuple(range(len(extents)))).strides
        values = self.rng.standard_normal(self.numbers(shape))
        self.windows[stage] = values.astype(numpy_dtype(stage.dtype))
        return stage

    def case(self, stages: list[Stage], outputs: list[Stage], **rest) -> Case:
        rows = {s: s.axes for s in stages}
        group = Group("contraction", stages, outputs, rows)
        return Case(group, self.windows, self.symbols, **rest)


def flat(stage: Stage, values: np.ndarray, symbols: dict[str, int]) -> np.ndarray:
    """The memory of a window's cell."""
    steps = [n.evaluate(lambda s: symbols[s.name]) for n in stage.strides]
    size = 1 + sum((n - 1) * s for n, s in zip(values.shape, steps, strict=True))
    memory = np.zeros(max(size, 1), values.dtype)
    view = np.lib.stride_tricks.as_strided(
        memory, values.shape, [s * values.itemsize for s in steps]
    )
    view[...] = values
    return memory


def ready(case: Case, target: Target = HOST) -> Ready:
    layouts: dict[Stage, Layout] = {}
    for stage in case.group.outputs:
        if stage.kind != "update":
            order = case.orders.get(stage, stage.order)
            layouts[stage] = ordered_layout(stage.shape, order)
    launches = schedule(case.group, layouts, target)
    inputs = {s: flat(s, v, case.symbols) for s, v in case.windows.items()}
    return Ready(launches, layouts, inputs, case.symbols, case.numbers, target)


def check(case: Case, target: Target = HOST, tolerance: float = 0.0) -> None:
    """Compiled results agree with the stages' evaluation, and with any number of threads."""
    done = ready(case, target)
    windows = {s: v.copy() for s, v in case.windows.items()}
    by_cell = {s.cell: v for s, v in windows.items()}
    stages = [*windows, *case.group.stages]
    expected = evaluate(stages, lambda s: by_cell[s.cell], case.numbers, case.symbols)
    expected = {s: np.array(v) for s, v in expected.items()}
    results = []
    before = {key: array.copy() for key, array in done.memory.items()}
    for threads in (1, 2, 3):
        for key, array in before.items():
            done.memory[key][...] = array
        done.run(threads)
        results.append([done.result(s) for s in case.group.outputs])
    for later in results[1:]:
        for first, other in zip(results[0], later, strict=True):
            assert np.array_equal(first.view(np.uint8), other.view(np.uint8))
    for stage, made in zip(case.group.outputs, results[0], strict=True):
        wanted = expected[stage].astype(np.float64)
        bound = tolerance or {8: 1e-12, 4: 2e-5, 2: 2e-2}[made.itemsize]
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        assert made.shape == wanted.shape
        assert np.abs(made.astype(np.float64) - wanted).max(initial=0) <= bound * scale


Factor = Callable[..., Expression]


def matmul(
    maker: Maker,
    batch: Sequence[Index | int],
    m: Index | int,
    n: Index | int,
    k: Index | int,
    transposed: tuple[bool, bool] = (False, False),
) -> Stage:
    """``out[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n]``."""
    d = len(batch)
    swapped = (*range(d), d + 1, d)
    a = maker.window([*batch, m, k], swapped if transposed[0] else None)
    b = maker.window([*batch, k, n], swapped if transposed[1] else None)
    return maker.builder.reduce(
        "add",
        [*batch, m, n],
        [k],
        maker.dtype,
        lambda i, r: a[(*i[:d], i[d], r[0])] * b[(*i[:d], r[0], i[d + 1])],
    )


SHAPES = [
    ((), 64, 64, 64),
    ((), 7, 5, 3),
    ((), 1, 300, 70),
    ((), 300, 1, 70),
    ((), 33, 70, 1),
    ((), 40, 50, 0),
    ((), 100, 130, 200),
    ((3,), 17, 19, 23),
    ((2, 2), 9, 33, 40),
    ((), 5, 12, 3000),
]


@TARGETS
@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrix_products(shape, transposed, target):
    maker = Maker()
    out = matmul(maker, *shape, transposed)
    check(maker.case([out], [out]), target)


@pytest.mark.parametrize("transposed", [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("m", [1, 2, 13, 100])
@pytest.mark.parametrize("which", ["m", "n", "k", "batch"])
def test_extents_from_data(which, m, transposed):
    maker = Maker()
    symbol = maker.symbol("s0", m)
    shape = {"batch": 3, "m": 20, "n": 50, "k": 30, which: symbol}
    batch = [shape["batch"]] if which == "batch" else []
    out = matmul(maker, batch, shape["m"], shape["n"], shape["k"], transposed)
    check(maker.case([out], [out]))
