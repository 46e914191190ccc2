"""Compiles and carries out the launches of one group, for tests and benchmarks of schedules."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cache

import numpy as np

from taimatsu.compiler.dispatcher import dispatch_object
from taimatsu.compiler.groups import Launch, Layout
from taimatsu.compiler.objects import objects_for
from taimatsu.ir.index import Index, Symbol
from taimatsu.ir.stage_interpreter import numpy_dtype
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target
from taimatsu.runtime.loader import load
from taimatsu.runtime.threads import Dispatch, Phase, Pool, Program

MOST_THREADS = 8


@cache
def pool(threads: int) -> Pool:
    """A pool of threads that lives as long as the process."""
    return Pool(Dispatch(load(dispatch_object(Target.host()))), threads)


def aligned(elements: int, dtype: np.dtype) -> np.ndarray:
    """Flat memory at a multiple of 64 bytes, full of what must not matter."""
    raw = np.full(elements * dtype.itemsize + 64, 0xFF, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + elements * dtype.itemsize].view(dtype)


class Ready:
    """Launches with memory, ready to run; ``memory`` holds the flat array of each stage."""

    def __init__(
        self,
        launches: list[Launch],
        layouts: Mapping[Stage, Layout],
        inputs: Mapping[Stage, np.ndarray],
        symbols: Mapping[str, int],
        numbers: tuple[float, ...] = (),
        target: Target | None = None,
    ) -> None:
        self.symbols = symbols
        self.layouts = layouts
        self.memory: dict[object, np.ndarray] = {}
        for stage, array in inputs.items():
            self.memory[stage.cell if stage.cell is not None else stage] = array
        self.numbers = numbers
        self.scratch: list[np.ndarray] = []
        code = objects_for([x.kernel for x in launches], target or Target.host())
        loaded = [load(data) for data in code]
        words: list[int] = []
        phases = []
        for launch, code_object in zip(launches, loaded, strict=True):
            chunks = self._value(launch.kernel.chunks)
            phases.append(Phase(code_object.address("kernel"), chunks, 8 * len(words)))
            words += self._words(launch)
        self.block = np.array(words, np.int64)
        self.program = Program(phases, loaded)
        self.phases = phases

    def _value(self, number: Index) -> int:
        def look_up(atom: object) -> int:
            assert isinstance(atom, Symbol)
            return self.symbols[atom.name]

        return number.evaluate(look_up)

    def _words(self, launch: Launch) -> list[int]:
        kernel = launch.kernel
        words = [self._array(m).ctypes.data for m in launch.memory]
        words += [self.symbols[s.name] for s in kernel.symbols]
        for place, dtype in zip(launch.numbers, kernel.numbers, strict=True):
            words.append(int(np.array(self.numbers[place], dtype).view(np.int64)))
        scratch = self._value(kernel.scratch_bytes)
        if scratch:
            self.scratch.append(aligned(scratch * MOST_THREADS, np.dtype(np.uint8)))
            words.append(self.scratch[-1].ctypes.data)
        return words

    def _array(self, memory: object) -> np.ndarray:
        key = memory
        if isinstance(memory, Stage) and memory.cell is not None:
            key = memory.cell
        if key not in self.memory:
            size = self.layouts[memory].size if isinstance(memory, Stage) else memory.size
            self.memory[key] = aligned(self._value(size), numpy_dtype(memory.dtype))
        return self.memory[key]

    def run(self, threads: int = 1) -> None:
        pool(threads).run(self.program, self.block.ctypes.data)

    def apart(self) -> list[Ready]:
        """The launches one by one."""
        made = []
        for phase in self.phases:
            one = copy(self)
            one.program, one.phases = Program([phase], self.program.owners), [phase]
            made.append(one)
        return made

    def result(self, stage: Stage) -> np.ndarray:
        """A stage's values."""
        flat = self._array(stage)
        strides = stage.strides if stage.cell is not None else self.layouts[stage].strides
        shape = [self._value(n) for n in stage.shape]
        steps = [self._value(n) * flat.itemsize for n in strides]
        return np.lib.stride_tricks.as_strided(flat, shape, steps).copy()
