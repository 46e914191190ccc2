"""Compiles kernels of the loop IR and launches them, for the tests of code generation."""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Sequence

import numpy as np

from taimatsu.compiler.codegen import emit
from taimatsu.compiler.codegen.llvm import lower_kernel
from taimatsu.ir.index import Index, Symbol
from taimatsu.ir.loops import Kernel
from taimatsu.ir.target import Target
from taimatsu.runtime import loader

HOST = Target.host()


def _variants() -> dict[str, Target]:
    """This machine, with less and less of what it has; each once."""
    found = {"host": HOST}
    if HOST.is_x86:
        smaller = {
            "avx2": HOST.without("avx512f"),
            "nofma": HOST.without("avx2", "fma", "f16c"),
            "sse2": HOST.without("sse4.1"),
        }
        for name, target in smaller.items():
            if target not in found.values():
                found[name] = target
    return found


TARGETS = _variants()

emitter = functools.cache(emit.Emitter)


def emitted(kernel: Kernel, target: Target = HOST, output: str = "object") -> bytes:
    """What the compile worker makes of a kernel."""
    text = lower_kernel(kernel, target)
    return emitter().emit(text, target.triple, target.cpu, target.llvm_features, output)


def assembly(kernel: Kernel, target: Target = HOST) -> str:
    return emitted(kernel, target, "assembly").decode()


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at a multiple of 64 bytes."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    made = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def guarded(size: int, dtype: np.dtype, at_end: bool) -> np.ndarray:
    """An array that begins, or ends, at a page that can be neither read nor written."""
    page = mmap.PAGESIZE
    pages = -(-size * dtype.itemsize // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    whole = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for guard in (0, (pages + 1) * page):
        assert protect(whole.ctypes.data + guard, page, 0) == 0
    begin = page if not at_end else (pages + 1) * page - size * dtype.itemsize
    return whole[begin : begin + size * dtype.itemsize].view(dtype)


class Launch:
    """A compiled kernel, and the words it is launched with."""

    def __init__(
        self,
        kernel: Kernel,
        arrays: Sequence[np.ndarray],
        symbols: Sequence[int] = (),
        numbers: Sequence[float] = (),
        target: Target = HOST,
        worker: int = 0,
    ) -> None:
        self.kernel = kernel
        self.worker = worker
        self.values = dict(zip(kernel.symbols, symbols, strict=True))
        code = loader.load(emitted(kernel, target))
        kinds = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        self.function = code.function("kernel", ctypes.c_int64, *kinds)
        words = [array.ctypes.data for array in arrays]
        words.extend(symbols)
        for dtype, number in zip(kernel.numbers, numbers, strict=True):
            words.append(int(np.array(number, dtype).view(np.int64)))
        size = self.evaluated(kernel.scratch_bytes) * (worker + 1)
        if size:
            self.scratch = aligned(np.full(size, 0xA5, np.uint8))
            words.append(self.scratch.ctypes.data)
        self.words = (ctypes.c_int64 * max(len(words), 1))(*words)
        self.arrays = arrays

    def evaluated(self, size: Index) -> int:
        def value(atom: object) -> int:
            assert isinstance(atom, Symbol)
            return self.values[atom]

        return size.evaluate(value)

    def __call__(self) -> int:
        """Carries out all chunks, the last first; the first code that is not 0 ends it."""
        for chunk in reversed(range(self.evaluated(self.kernel.chunks))):
            code = self.function(self.words, chunk, self.worker)
            if code:
                return code
        return 0


def run(
    kernel: Kernel,
    arrays: Sequence[np.ndarray],
    symbols: Sequence[int] = (),
    numbers: Sequence[float] = (),
    target: Target = HOST,
    worker: int = 0,
) -> int:
    """Launches a kernel once; what it returned."""
    return Launch(kernel, arrays, symbols, numbers, target, worker)()
