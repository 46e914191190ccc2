"""Calls of operations for the tests of lowering rules, and what their stages give.

A call is what a recorded node carries out: arrays, numbers and attributes of one operation. They
are collected while samples run, gradients included, so building blocks without public names occur
as composites use them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest

import taimatsu
from taimatsu.compiler.views import view_of
from taimatsu.config import config
from taimatsu.evaluate import interpreter as evaluate
from taimatsu.ir import expression as ex
from taimatsu.ir.builder import Builder, NotKnownError
from taimatsu.ir.index import Symbol, index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stage_interpreter import evaluate as evaluate_stages
from taimatsu.ir.stages import Cell, Stage, View
from taimatsu.ops.base import Operation
from taimatsu.recorder.number import plain
from taimatsu.shapes import contiguous_strides


class Call(NamedTuple):
    """One evaluation of an operation and the arrays that its reference gave."""

    operation: Operation
    inputs: tuple  # arrays, numbers, None
    static: tuple  # for each input whether it is a number that is part of the program
    attributes: dict
    metas: tuple
    outs: tuple
    results: tuple


@contextmanager
def collected() -> Iterator[list[Call]]:
    """The calls carried out meanwhile (each operation at once, by its reference)."""
    calls: list[Call] = []
    compute = evaluate._compute

    def listen(node: Any, values: dict, items: list) -> None:
        inputs = tuple([_copied(evaluate._read(o, values, items)) for o in node.operands])
        compute(node, values, items)
        kinds = [type(o) for o in node.operands]
        metas = tuple([o.meta if k is evaluate.Operand else None for k, o in _pairs(node)])
        static = tuple([k not in (evaluate.Operand, evaluate.Argument) for k in kinds])
        results = tuple(
            [
                evaluate.window(values[v], m.shape, m.strides, 0).copy()
                for v, m in zip(node.results, node.metas, strict=True)
            ]
        )
        calls.append(
            Call(node.operation, inputs, static, node.attributes, metas, node.metas, results)
        )

    eager = config.eager
    config.eager = True
    evaluate._compute = listen
    try:
        yield calls
    finally:
        evaluate._compute = compute
        config.eager = eager


def _pairs(node: Any) -> list[tuple[type, Any]]:
    return [(type(o), o) for o in node.operands]


def _copied(x: Any) -> Any:
    return x.copy() if isinstance(x, np.ndarray) else plain(x)


# -- lowering a call -------------------------------------------------------------------------


class Lowered:
    """The stages of a call and what to evaluate them with.

    Args:
        layout: how operands lie: "plain" in rows; "moved": the last dimension first; "flat": as a
            view of a vector, some places after its begin.
        symbolic: the extents that are symbols.
    """

    def __init__(self, call: Call, layout: str = "plain", symbolic: tuple[int, ...] = ()) -> None:
        self.symbols = {n: Symbol(f"n{n}", n) for n in symbolic}
        self.builder = Builder(dict(self.symbols))
        self.memory: dict[Stage, np.ndarray] = {}
        self.numbers: list[Any] = []
        self.layout = layout
        operands = zip(call.inputs, call.static, call.metas, strict=True)
        inputs = tuple([self.operand(x, static, meta) for x, static, meta in operands])
        self.made = call.operation.stages(
            self.builder, inputs, call.attributes, call.metas, call.outs
        )

    def operand(self, x: Any, static: bool, meta: Meta | None) -> Any:
        if isinstance(x, np.ndarray):
            assert meta is not None
            return self.view(x, meta)
        if static:
            return x
        self.numbers.append(x)
        return ex.number(len(self.numbers) - 1, "float64" if isinstance(x, float) else "int64")

    def view(self, array: np.ndarray, described: Meta) -> View:
        """An operand, in memory of its own that lies as the layout says."""
        kind = described.dtype
        offset = 0
        if self.layout == "plain" or array.size == 0:
            memory, seen = array, meta(array.shape, kind)
        elif self.layout == "moved":
            memory = array.T.copy()
            strides = contiguous_strides(memory.shape)[::-1]
            seen = meta(array.shape, kind, strides)
        else:
            offset = 3
            memory = np.concatenate([np.zeros(offset, array.dtype), array.reshape(-1)])
            seen = meta(array.shape, kind)
        shape = tuple([index(self.symbols.get(n, n)) for n in memory.shape])
        stage = Stage("window", shape, kind.name)
        stage.number = len(self.builder.stages)
        stage.cell = Cell(len(self.memory))
        self.builder.stages.append(stage)
        self.memory[stage] = memory
        return view_of(stage, meta(memory.shape, kind), seen, offset, self.builder.extent)

    def values(self) -> tuple[np.ndarray, ...]:
        """The results."""
        results = [self.builder.stage(made) for made in self.made]
        symbols = {s.name: n for n, s in self.symbols.items()}
        values = evaluate_stages(
            self.builder.stages, self.memory.__getitem__, self.numbers, symbols
        )
        return tuple([values[stage] for stage in results])


# -- comparing -------------------------------------------------------------------------------

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
ULPS = 8  # between two good implementations of one function


def assert_close(found: np.ndarray, wanted: np.ndarray, scale: float) -> None:
    """Same shape, dtype and values but for rounding, relative to each value or to ``scale``."""
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    if str(wanted.dtype) not in EPSILON:
        np.testing.assert_array_equal(found, wanted)
        return
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    epsilon = EPSILON[str(wanted.dtype)]
    tiny = float(np.finfo(np.float32).tiny) if str(wanted.dtype) != "float64" else 1e-300
    atol = tiny + ULPS * epsilon * scale
    np.testing.assert_allclose(a, b, rtol=ULPS * epsilon, atol=atol, equal_nan=True)


def magnitude(call: Call) -> float:
    """What the terms of a call's sums may be as large as: the largest values, and their product."""
    sizes = []
    for x in (*call.inputs, *call.results):
        if isinstance(x, np.ndarray) and str(x.dtype) in EPSILON:
            wide = np.abs(x.astype(np.float64))
            sizes.append(float(wide.max(where=np.isfinite(wide), initial=0.0)))
    return max(*sizes, math.prod(sizes[: len(call.inputs)]), 0.0) if sizes else 0.0


def symbolic_extents(call: Call) -> tuple[int, ...]:
    """The leading extent of the first operand that has one to vary (0 and 1 never are symbols)."""
    for each in call.metas:
        if each is not None and each.ndim and each.shape[0] > 1:
            return (each.shape[0],)
    return ()


def assert_lowers(call: Call, summed: bool, compare: Callable | None = None) -> bool:
    """Whether a call has a lowering; then its stages give what the reference gives, with operands
    in any layout and with extents that are symbols. ``summed``: the result is made of sums.
    """
    scale = magnitude(call) if summed else 0.0
    variants = list(itertools.product(("plain", "moved", "flat"), ((), symbolic_extents(call))))
    for layout, symbolic in dict.fromkeys(variants):
        try:
            lowered = Lowered(call, layout, symbolic)
        except NotKnownError:
            assert symbolic, "a rule asks for a number that it has"
            continue
        if lowered.made is None:
            return False
        assert len(lowered.made) == len(call.results), "as many stages as results"
        try:
            for found, wanted in zip(lowered.values(), call.results, strict=True):
                (compare or assert_close)(found, wanted, scale)
        except Exception as error:
            inputs = [
                f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else repr(x)
                for x in call.inputs
            ]
            error.add_note(
                f"{call.operation.name}({', '.join(inputs)}) {call.attributes}, {layout} operands"
                f"{f', {symbolic} as symbols' if symbolic else ''}"
            )
            raise
    return True


def lowered_call(operation: str, *args: Any, **kwargs: Any) -> Call:
    """The last call of an operation that ``taimatsu.<name>(*args, **kwargs)`` carries out."""
    with collected() as calls:
        found: Any = taimatsu
        for part in operation.split("."):
            found = getattr(found, part)
        found(*args, **kwargs)
    if not calls:
        pytest.fail(f"{operation} carried nothing out")
    return calls[-1]
