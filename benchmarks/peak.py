"""What the machine can do at most: float32 operations and bytes read in a second.

    python benchmarks/peak.py [--threads 2] [--json]

Measured by code of our own: chains of fused multiply-adds in registers, and sums over arrays that
stay in a cache or do not. The best of several runs, so that what else runs on the machine matters
little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from taimatsu.compiler.codegen import dispatch
from taimatsu.compiler.service import service
from taimatsu.ir.target import Target
from taimatsu.runtime.loader import LoadedObject, load
from taimatsu.runtime.threads import Dispatch, Phase, Pool, Program

MIB = 1 << 20
SIZES = (256 << 10, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB)  # bytes of the arrays read
ROUNDS = 1_000_000  # of the loop of multiply-adds
LEAST_READ = 512 * MIB  # bytes, so that short arrays are read often enough for the clock
STREAMS = 8  # vectors that one turn of the reading loop loads


class Peak(NamedTuple):
    """The machine's limits.

    Attributes:
        threads: how many threads the figures hold for.
        operations: float32 additions and multiplications in a second.
        alone: the same for one thread.
        bandwidth: bytes read in a second, by the size in bytes of the array read.
        machine: features, caches and cores, in words.
    """

    threads: int
    operations: float
    alone: float
    bandwidth: dict[int, float]
    machine: str

    def seconds(self, operations: float, traffic: float) -> float:
        """The least time for operations and bytes, whichever takes longer.

        Bytes count at the bandwidth of the largest array measured that is not larger than they
        are, so that what fits into a cache is taken to be there.
        """
        fitting = [size for size in self.bandwidth if size <= traffic]
        size = max(fitting, default=min(self.bandwidth))
        return max(operations / self.operations, traffic / self.bandwidth[size])


def chains_of(target: Target) -> int:
    """How many multiply-adds are under way at once: what fits into the registers, constants too."""
    return target.vector_registers * 3 // 4


def multiply_add_ir(target: Target) -> str:
    """``multiply_add``: chains of multiply-adds, as many as hide their latency.

    Block: rounds; then where to store, 64 bytes for each chunk.
    """
    lanes = target.lanes(4)
    vector = f"<{lanes} x float>"
    chains = chains_of(target)
    splat = f"<{', '.join(['float 0.5'] * lanes)}>"
    lines = [
        "define i64 @multiply_add(ptr %args, i64 %chunk, i64 %worker) {",
        "begin:",
        "  %rounds = load i64, ptr %args",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ 0, %begin ], [ %next, %loop ]",
    ]
    first = [f"<{', '.join([f'float {n + 1}.0'] * lanes)}>" for n in range(chains)]
    for n in range(chains):
        lines.append(f"  %x{n} = phi {vector} [ {first[n]}, %begin ], [ %y{n}, %loop ]")
    for n in range(chains):
        if target.fma:
            operands = f"{vector} %x{n}, {vector} {splat}, {vector} {splat}"
            lines.append(f"  %y{n} = call {vector} @llvm.fma.v{lanes}f32({operands})")
        else:
            lines.append(f"  %p{n} = fmul {vector} %x{n}, {splat}")
            lines.append(f"  %y{n} = fadd {vector} %p{n}, {splat}")
    lines += [
        "  %next = add i64 %i, 1",
        "  %again = icmp ult i64 %next, %rounds",
        "  br i1 %again, label %loop, label %done",
        "done:",
        *_sum(vector, [f"%y{n}" for n in range(chains)]),
        f"  %at = getelementptr {vector}, ptr %args, i64 %chunk",
        "  %out = getelementptr i8, ptr %at, i64 64",
        f"  store {vector} %total, ptr %out, align 4",
        "  ret i64 0",
        "}",
        f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
    ]
    return "\n".join(lines)


def read_ir(target: Target) -> str:
    """``read``: sums a part of an array, again and again.

    Block: the array; vectors in a part, a multiple of ``STREAMS``; times; then where to store.
    """
    lanes = target.lanes(4)
    vector = f"<{lanes} x float>"
    lines = [
        "define i64 @read(ptr %args, i64 %chunk, i64 %worker) {",
        "begin:",
        "  %array = load ptr, ptr %args",
        "  %size.at = getelementptr i64, ptr %args, i64 1",
        "  %size = load i64, ptr %size.at",
        "  %times.at = getelementptr i64, ptr %args, i64 2",
        "  %times = load i64, ptr %times.at",
        "  %first = mul i64 %chunk, %size",
        f"  %part = getelementptr {vector}, ptr %array, i64 %first",
        "  br label %outer",
        "outer:",
        "  %time = phi i64 [ 0, %begin ], [ %time.next, %turn ]",
    ]
    for n in range(STREAMS):
        lines.append(f"  %o{n} = phi {vector} [ zeroinitializer, %begin ], [ %s{n}, %turn ]")
    lines += ["  br label %loop", "loop:", "  %i = phi i64 [ 0, %outer ], [ %next, %loop ]"]
    for n in range(STREAMS):
        lines.append(f"  %x{n} = phi {vector} [ %o{n}, %outer ], [ %s{n}, %loop ]")
    for n in range(STREAMS):
        lines += [
            f"  %i{n} = add i64 %i, {n}",
            f"  %at{n} = getelementptr {vector}, ptr %part, i64 %i{n}",
            f"  %v{n} = load {vector}, ptr %at{n}, align {target.vector_bytes}",
            f"  %s{n} = fadd {vector} %x{n}, %v{n}",
        ]
    lines += [
        f"  %next = add i64 %i, {STREAMS}",
        "  %again = icmp ult i64 %next, %size",
        "  br i1 %again, label %loop, label %turn",
        "turn:",
        "  %time.next = add i64 %time, 1",
        "  %more = icmp ult i64 %time.next, %times",
        "  br i1 %more, label %outer, label %done",
        "done:",
        *_sum(vector, [f"%s{n}" for n in range(STREAMS)]),
        f"  %at = getelementptr {vector}, ptr %args, i64 %chunk",
        "  %out = getelementptr i8, ptr %at, i64 64",
        f"  store {vector} %total, ptr %out, align 4",
        "  ret i64 0",
        "}",
    ]
    return "\n".join(lines)


def _sum(vector: str, values: list[str]) -> list[str]:
    """``%total``, so that nothing is left out as unused."""
    lines = []
    total = values[0]
    for n, value in enumerate(values[1:], start=1):
        name = "%total" if n == len(values) - 1 else f"%t{n}"
        lines.append(f"  {name} = fadd {vector} {total}, {value}")
        total = name
    return lines


def compiled(ir: str, target: Target) -> LoadedObject:
    job = service.submit(ir, target.triple, target.cpu, target.llvm_features)
    return load(job.result(timeout=120.0))


def aligned(words: int) -> np.ndarray:
    """Zeros, 8 bytes each, that begin at a multiple of 64 bytes."""
    memory = np.zeros(words + 8, np.int64)
    skip = -memory.ctypes.data % 64 // 8
    return memory[skip : skip + words]


def best_seconds(pool: Pool, program: Program, block: np.ndarray, runs: int) -> float:
    found = float("inf")
    for _ in range(runs):
        begin = time.perf_counter()
        pool.run(program, block.ctypes.data)
        found = min(found, time.perf_counter() - begin)
    return found


def measure_operations(pool: Pool, code: LoadedObject, target: Target, runs: int = 7) -> float:
    """float32 operations in a second, with all threads of the pool."""
    chunks = 4 * pool.threads
    block = aligned(8 + 8 * chunks)
    block[0] = ROUNDS
    program = Program([Phase(code.address("multiply_add"), chunks)], [code])
    chains = chains_of(target)
    operations = 2.0 * target.lanes(4) * chains * ROUNDS * chunks
    return operations / best_seconds(pool, program, block, runs)


def measure_bandwidth(pool: Pool, code: LoadedObject, size: int, runs: int = 5) -> float:
    """Bytes read in a second from an array of ``size`` bytes, each thread its own part.

    A part is a chunk, read again and again by the thread that claimed it, so that it stays in the
    cache of that thread's core.
    """
    vector_bytes = Target.host().vector_bytes
    vectors = size // pool.threads // vector_bytes // STREAMS * STREAMS
    times = max(1, LEAST_READ // size)
    array = aligned(size // 8)
    array.view(np.float32)[:] = 0.25
    block = aligned(8 + 8 * pool.threads)
    block[:3] = array.ctypes.data, vectors, times
    program = Program([Phase(code.address("read"), pool.threads)], [code, array])
    read = vectors * vector_bytes * pool.threads * times
    return read / best_seconds(pool, program, block, runs)


def describe(target: Target, threads: int) -> str:
    """The machine by what decides its speed."""
    kib = 1024
    features = [f for f in ("avx512f", "avx2", "fma", "neon") if target.has(f)]
    caches = f"caches of {target.l1_bytes // kib} KiB, {target.l2_bytes // kib} KiB"
    if target.l3_bytes > target.l2_bytes:
        caches += f" and {target.l3_bytes // kib} KiB"
    return (
        f"{target.triple.split('-')[0]} with {', '.join(features) or 'no vector features'}; "
        f"{target.vector_bytes * 8}-bit vectors, {target.vector_registers} of them; {caches}; "
        f"{target.cores} processors, {threads} threads used"
    )


def measure(threads: int) -> Peak:
    """All figures of this machine; takes a few seconds."""
    target = Target.host()
    sleep = "futex" if sys.platform == "linux" else "pthread"
    text = dispatch.module(sleep, "x86_64" if target.is_x86 else "aarch64")
    claiming = Dispatch(compiled(text, target), sleep)
    arithmetic = compiled(multiply_add_ir(target), target)
    reading = compiled(read_ir(target), target)
    single, pool = Pool(claiming, 1), Pool(claiming, threads)
    try:
        return Peak(
            threads,
            measure_operations(pool, arithmetic, target),
            measure_operations(single, arithmetic, target),
            {size: measure_bandwidth(pool, reading, size) for size in SIZES},
            describe(target, threads),
        )
    finally:
        single.stop()
        pool.stop()
        service.close()


def from_json(text: str) -> Peak:
    found = json.loads(text)
    found["bandwidth"] = {int(size): rate for size, rate in found["bandwidth"].items()}
    return Peak(**found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="for other programs")
    options = parser.parse_args()
    peak = measure(options.threads)
    if options.json:
        print(json.dumps(peak._asdict()))
        return
    print(peak.machine)
    print(f"{peak.operations / 1e9:8.1f} GFLOP/s with {peak.threads} threads")
    print(f"{peak.alone / 1e9:8.1f} GFLOP/s with one")
    for size, rate in peak.bandwidth.items():
        print(f"{rate / 1e9:8.1f} GB/s from {size / MIB:g} MiB")


if __name__ == "__main__":
    main()
