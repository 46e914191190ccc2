"""Compiles the groups of small programs with their schedules and carries them out, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from taimatsu.compiler.dispatcher import dispatch_object
from taimatsu.compiler.fusion import fuse
from taimatsu.compiler.groups import Group, Launch, Layout, ordered_layout
from taimatsu.compiler.objects import objects_for
from taimatsu.compiler.schedule import cpu
from taimatsu.ir.builder import Builder
from taimatsu.ir.index import Index, Symbol
from taimatsu.ir.stage_interpreter import evaluate, numpy_dtype
from taimatsu.ir.stages import Cell, Stage, View
from taimatsu.ir.target import Target
from taimatsu.ir.verifier import verify
from taimatsu.runtime.loader import load
from taimatsu.runtime.threads import Dispatch, KernelError, Phase, Pool, Program


@cache
def pool(threads: int) -> Pool:
    """A pool of threads that lives as long as the process."""
    return Pool(Dispatch(load(dispatch_object(Target.host()))), threads)


def aligned(elements: int, dtype: np.dtype) -> np.ndarray:
    """Flat memory at a multiple of 64 bytes, full of what must not matter."""
    raw = np.full(max(elements, 1) * dtype.itemsize + 64, 0xFF, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + elements * dtype.itemsize].view(dtype)


class Source:
    """Makes windows of a program's inputs: ``source(array)`` is a view of it.

    With ``shape`` the extents are those indices (symbols among them) and strides follow.
    """

    def __init__(self, builder: Builder, strided: Mapping[int, np.ndarray]) -> None:
        self.builder = builder
        self.arrays = strided

    def window(self, slot: int, shape: Sequence[Any] | None = None) -> View:
        array = self.arrays[slot]
        stage = Stage("window", tuple(map(_index, shape or array.shape)), str(array.dtype.name))
        strides = [_index(s // array.itemsize) for s in array.strides]
        if shape is not None:
            strides = list(ordered_layout(stage.shape, tuple(range(array.ndim))).strides)
        stage.strides = tuple(strides)
        stage.cell = Cell(slot)
        self.builder._add(stage)
        return View(stage, stage.shape, stage.dtype, tuple)


def _index(value: Any) -> Index:
    from taimatsu.ir.index import index

    return index(value)


Write = Callable[[Builder, Source], Sequence[Stage]]


@dataclass
class Made:
    """A program's groups, launches, and what they gave."""

    groups: list[Group]
    launches: list[Launch]
    values: list[np.ndarray]
    arrays: dict[int, np.ndarray]
    symbols: Mapping[str, int]
    run: Callable[[], None]
    result: Callable[[], list[np.ndarray]]


def compiled(
    write: Write,
    arrays: Mapping[int, np.ndarray],
    symbols: Mapping[str, int] | None = None,
    numbers: Sequence[float] = (),
    target: Target | None = None,
    threads: int = 1,
    grouped: Callable[[list[Stage], Sequence[Stage]], list[Group]] | None = None,
    layouts: Callable[[Stage], Layout] | None = None,
) -> Made:
    """The stages that ``write`` gives as outputs, computed by compiled kernels."""
    symbols = symbols or {}
    builder = Builder()
    held = {slot: _copied(a) for slot, a in arrays.items()}
    outputs = list(write(builder, Source(builder, held)))
    groups = (grouped or fuse)(builder.stages, outputs)
    chosen: dict[Stage, Layout] = {}
    for group in groups:
        for stage in group.stages:
            if stage.kind != "update":
                chosen[stage] = (layouts or _ordered)(stage)
    return _launched(groups, outputs, chosen, held, symbols, numbers, target, threads)


def _launched(
    groups: list[Group],
    outputs: list[Stage],
    chosen: dict[Stage, Layout],
    held: dict[int, np.ndarray],
    symbols: Mapping[str, int],
    numbers: Sequence[float],
    target: Target | None,
    threads: int,
) -> Made:
    target = target or Target.host()
    launches = [x for g in groups for x in cpu.schedule(g, chosen, target)]
    for launch in launches:
        verify(launch.kernel)
    memory = _Memory(chosen, held, symbols)
    code = [load(c) for c in objects_for([x.kernel for x in launches], target)]
    words: list[int] = []
    phases = []
    for launch, loaded in zip(launches, code, strict=True):
        given = {**symbols, **{n: value(e, symbols) for n, e in launch.extents.items()}}
        chunks = value(launch.kernel.chunks, given)
        phases.append(Phase(loaded.address("kernel"), chunks, 8 * len(words)))
        words += [memory.address(m) for m in launch.memory]
        words += [given[s.name] for s in launch.kernel.symbols]
        for place, dtype in zip(launch.numbers, launch.kernel.numbers, strict=True):
            words.append(int(np.array(numbers[place], dtype).view(np.int64)))
        size = value(launch.kernel.scratch_bytes, given) * (threads + 1)
        if size:
            words.append(memory.extra(size))
    program = Program(phases, code)
    block = np.array(words or [0], np.int64)

    def run() -> None:
        try:
            pool(threads).run(program, block.ctypes.data)
        except KernelError as error:
            raise IndexError(launches[error.phase].messages[error.code]) from error

    def result() -> list[np.ndarray]:
        return [memory.values(s) for s in outputs if s.kind != "update"]

    run()
    return Made(groups, launches, result(), held, symbols, run, result)


def _copied(array: np.ndarray) -> np.ndarray:
    """A copy with the same strides, over memory of its own."""
    size = 1 + sum(
        (n - 1) * s // array.itemsize for n, s in zip(array.shape, array.strides, strict=True)
    )
    flat = aligned(max(size, 0) if array.size else 0, array.dtype)
    if array.size:
        flat[:] = np.lib.stride_tricks.as_strided(array, (size,), (array.itemsize,))
    return np.lib.stride_tricks.as_strided(flat, array.shape, array.strides)


def _ordered(stage: Stage) -> Layout:
    return ordered_layout(stage.shape, stage.order)


def value(number: Index, symbols: Mapping[str, int]) -> int:
    def look_up(atom: Any) -> int:
        assert isinstance(atom, Symbol)
        return symbols[atom.name]

    return number.evaluate(look_up)


class _Memory:
    """The arrays of stages and temporaries."""

    def __init__(
        self,
        layouts: dict[Stage, Layout],
        held: dict[int, np.ndarray],
        symbols: Mapping[str, int],
    ) -> None:
        self.layouts = layouts
        self.held = held
        self.symbols = symbols
        self.made: dict[Any, np.ndarray] = {}

    def address(self, memory: Any) -> int:
        if isinstance(memory, Stage) and memory.cell is not None:
            assert isinstance(memory.offset, int)
            if memory.cell.stage is None:
                array = self.held[memory.cell.slot]
            else:
                array = self.array(memory.cell.stage)
            return int(array.ctypes.data) + memory.offset * array.itemsize
        return int(self.array(memory).ctypes.data)

    def extra(self, size: int) -> int:
        self.made[size, len(self.made)] = array = aligned(size, np.dtype(np.uint8))
        return int(array.ctypes.data)

    def array(self, memory: Any) -> np.ndarray:
        if memory not in self.made:
            size = self.layouts[memory].size if isinstance(memory, Stage) else memory.size
            self.made[memory] = aligned(value(size, self.symbols), numpy_dtype(memory.dtype))
        return self.made[memory]

    def values(self, stage: Stage) -> np.ndarray:
        layout = self.layouts[stage]
        flat = self.array(stage)[value(layout.origin, self.symbols) :]
        shape = [value(n, self.symbols) for n in stage.shape]
        steps = [value(n, self.symbols) * flat.itemsize for n in layout.strides]
        return np.lib.stride_tricks.as_strided(flat, shape, steps).copy()


def expected(
    write: Write,
    arrays: Mapping[int, np.ndarray],
    symbols: Mapping[str, int] | None = None,
    numbers: Sequence[float] = (),
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """What the stages mean: their values, and the inputs after updates."""
    builder = Builder()
    held = {slot: _copied(a) for slot, a in arrays.items()}
    outputs = list(write(builder, Source(builder, held)))

    def sees(stage: Stage) -> np.ndarray:
        assert stage.cell is not None
        array = held[stage.cell.slot]
        shape = [value(n, symbols or {}) for n in stage.shape]
        steps = [value(n, symbols or {}) * array.itemsize for n in stage.strides]
        assert stage.offset == 0
        return np.lib.stride_tricks.as_strided(array, shape, steps)

    with np.errstate(all="ignore"):
        values = evaluate(builder.stages, sees, list(numbers), dict(symbols or {}))
    return [np.asarray(values[s]) for s in outputs if s.kind != "update"], held


def check(
    write: Write,
    arrays: Mapping[int, np.ndarray],
    symbols: Mapping[str, int] | None = None,
    numbers: Sequence[float] = (),
    tolerance: float = 1e-6,
    **options: Any,
) -> Made:
    """Compares what compiled kernels give with what the stages mean."""
    want, after = expected(write, arrays, symbols, numbers)
    got = compiled(write, arrays, symbols, numbers, **options)
    pairs = list(zip(got.values, want, strict=True))
    pairs += [(got.arrays[slot], after[slot]) for slot in arrays]
    for made, meant in pairs:
        assert made.dtype == meant.dtype or meant.dtype == bool or made.dtype.name == "bfloat16"
        if made.dtype.kind in "biu":
            np.testing.assert_array_equal(made, meant)
        else:
            wide = np.float64
            np.testing.assert_allclose(
                made.astype(wide), meant.astype(wide), rtol=tolerance, atol=tolerance
            )
    return got
