"""The machine's limits: multiply-adds and memory reads, measured once by compiled code."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from taimatsu.compiler import objects
from taimatsu.ir.expression import constant, fma, load
from taimatsu.ir.index import Symbol, Var, index
from taimatsu.ir.loops import Allocate, Buffer, Kernel, Loop, Statement, Store
from taimatsu.ir.target import Target
from taimatsu.runtime import loader, threads
from taimatsu.runtime.buffers import pool as memory_pool

CHAINS = 16  # independent multiply-adds under way
REPEATS = 20_000
READ_BYTES = 256 << 20


@cache
def peak_flops(count: int) -> float:
    """Float32 operations per second of ``count`` threads in multiply-adds on registers."""
    lanes = Target.host().lanes(4)
    seconds = _fastest(_multiply_adds(lanes), [np.zeros(count * 64, np.float32)], count)
    return 2.0 * lanes * CHAINS * REPEATS * count / seconds


@cache
def peak_bandwidth(count: int) -> float:
    """Bytes per second that ``count`` threads read from memory beyond the caches."""
    lanes = Target.host().lanes(4)
    data = memory_pool.zeros(READ_BYTES // 4, np.float32)
    seconds = _fastest(_reads(lanes), [data, np.zeros(4096, np.float32)], 64)
    return READ_BYTES / seconds


def _fastest(kernel: Kernel, arrays: list[np.ndarray], chunks: int) -> float:
    target = Target.host()
    loaded = loader.load(objects.objects_for([kernel], target)[0])
    words = [a.__array_interface__["data"][0] for a in arrays]
    block = np.array([*words, *[chunks for _ in kernel.symbols]], np.int64)
    phase = threads.Phase(loaded.address("kernel"), chunks)
    program = threads.Program([phase], [loaded])
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        threads.current_pool().run(program, block.__array_interface__["data"][0])
        best = min(best, time.perf_counter() - begin)
    return best


def _multiply_adds(lanes: int) -> Kernel:
    chunks = Symbol("chunks")
    chunk, again, lane = Var("c", index(chunks)), Var("r", REPEATS), Var("l", lanes)
    out = Buffer("out", "float32", (index(chunks), 64))
    registers = [Buffer(f"a{n}", "float32", (1,), "register", lanes=lanes) for n in range(CHAINS)]
    factor = load(out, (chunk, lane))
    step = [Store(r, (0,), fma(load(r, (0,)), factor, factor)) for r in registers]
    total = load(registers[0], (0,))
    for register in registers[1:]:
        total = total + load(register, (0,))
    body: list[Statement] = [
        Loop(lane, "vector", [Store(r, (0,), constant(0, "float32")) for r in registers], lanes),
        Loop(again, "serial", [Loop(lane, "vector", step, lanes)]),
        Loop(lane, "vector", [Store(out, (chunk, lane), total)], lanes),
    ]
    for register in registers:
        body = [Allocate(register, body)]
    return Kernel("peak", [out], [chunks], [], [Loop(chunk, "parallel", body)])


def _reads(lanes: int) -> Kernel:
    chunks = Symbol("chunks")
    count = READ_BYTES // 4 // 64  # numbers of a chunk
    chunk, step, lane = Var("c", index(chunks)), Var("i", count // (lanes * 8)), Var("l", lanes)
    data = Buffer("data", "float32", (64, count))
    out = Buffer("out", "float32", (64, 64))
    registers = [Buffer(f"a{n}", "float32", (1,), "register", lanes=lanes) for n in range(8)]

    def at(n: int) -> list:
        return [chunk, index(step) * (lanes * 8) + n * lanes + index(lane)]

    adds = [Store(r, (0,), load(r, (0,)) + load(data, at(n))) for n, r in enumerate(registers)]
    total = load(registers[0], (0,))
    for register in registers[1:]:
        total = total + load(register, (0,))
    body: list[Statement] = [
        Loop(lane, "vector", [Store(r, (0,), constant(0, "float32")) for r in registers], lanes),
        Loop(step, "serial", [Loop(lane, "vector", adds, lanes)]),
        Loop(lane, "vector", [Store(out, (chunk, lane), total)], lanes),
    ]
    for register in registers:
        body = [Allocate(register, body)]
    return Kernel("read", [data, out], [chunks], [], [Loop(chunk, "parallel", body)])
