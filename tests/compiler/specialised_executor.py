"""Programs carried out by generic code and by code for their extents: the bits must be equal.

Every kernel with symbols is specialised here, not the hot ones alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import taimatsu
from taimatsu.compiler import objects
from taimatsu.compiler.plan import Call
from taimatsu.compiler.specialise import specialised
from taimatsu.compiler.transport import unpack_kernel
from taimatsu.evaluate import compiled, explain, interpreter, specialisation
from taimatsu.evaluate.program import Bound
from taimatsu.ir.graph import Graph
from taimatsu.ir.verifier import verify
from taimatsu.recorder.base import registered
from taimatsu.runtime import loader, threads


def codes(bound: Bound) -> dict[Any, specialisation.Code]:
    """Code for a program's extents, of all of its kernels that have symbols."""
    wanted = {
        specialisation.request(bound, call): call
        for call in bound.plan.calls
        if isinstance(call, Call) and call.symbols
    }
    kernels = []
    for (_, values), call in wanted.items():
        kernels.append(specialised(unpack_kernel(call.loops()), values))
        verify(kernels[-1])
    made = objects.objects_for(kernels, bound.target)
    return {
        request: specialisation.Code(loader.load(code))
        for request, code in zip(wanted, made, strict=True)
    }


class Both:
    """``execute`` of the evaluator, comparing.

    Args:
        threads: the numbers of threads that specialised code is run with.
    """

    def __init__(self, threads: tuple[int, ...] = (1,)) -> None:
        self.threads = threads
        self.compared = 0  # programs

    def __call__(
        self, graph: Graph, buffers: dict[int, np.ndarray], items: list, background: bool = False
    ) -> dict[int, np.ndarray]:
        graph.program = None
        assert compiled._can_compile()
        bound = compiled._prepared(graph, buffers, items)
        graph.program = None
        if bound is None:
            return interpreter.execute(graph, buffers, items)
        wanted = outcome(bound, buffers, items)
        found = codes(bound)
        if found:
            bound.specialise(found)
            self.compared += 1
            for count in self.threads:
                taimatsu.set_num_threads(count)
                assert outcome(bound, buffers, items) == wanted, graph
        try:
            return bound.run(buffers, items)
        except threads.KernelError:
            return interpreter.execute(graph, buffers, items)


def outcome(bound: Bound, buffers: dict[int, np.ndarray], items: list) -> Any:
    """What a program leaves in memory, as bytes, or the code of its error."""
    copies = {slot: buffer.copy() for slot, buffer in buffers.items()}
    try:
        made = bound.run(copies, items)
    except threads.KernelError as error:
        return error.code
    return {slot: content(buffer) for slot, buffer in {**copies, **made}.items()}


def content(buffer: np.ndarray) -> bytes:
    """The bytes, with one NaN for all: of two, an instruction passes on the one that stands first,
    and which that is in a commutative one, LLVM chooses.
    """
    is_nan = buffer != buffer
    if not np.any(is_nan):
        return buffer.tobytes()
    plain = buffer.copy()
    plain[is_nan] = np.nan
    return plain.tobytes()


@contextmanager
def comparing(patch: pytest.MonkeyPatch, target: Any, *counts: int) -> Iterator[Both]:
    """Has programs compiled for a target, and both kinds of code compared."""
    before = taimatsu.get_num_threads()
    taimatsu.set_num_threads(1)
    both = Both(counts or (1,))
    try:
        with patch.context() as inner:
            inner.setattr(compiled.Target, "host", lambda: target)
            inner.setattr(explain, "wants_loops", lambda: True)  # the loops are wanted
            inner.setattr(compiled, "_plans", type(compiled._plans)())
            inner.setattr(registered, "execute", both)
            yield both
    finally:
        taimatsu.set_num_threads(before)
