"""Elementary functions in vector code, with NumPy's speed beside them.

    python -m benchmarks.vector_math [exp tanh ...] [--dtype float64] [--width 32]

Numbers per nanosecond on arrays that stay in the second cache, one thread, the best of several
runs; and, where the clock is given in GHz, numbers per cycle.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from llvmlite import ir

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from vector_math_kernels import Compiled, write_kernel

from taimatsu.compiler.codegen import vector_math
from taimatsu.ir.target import Target

COUNT = 16384
IN_NUMPY = {
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "round_half_even": "rint",
}
TWO_ARGUMENTS = ("atan2", "fmod", "hypot", "pow", "remainder")


def best(work: Callable[[], object], rounds: int = 7, repeats: int = 30) -> float:
    """Nanoseconds of the fastest run."""
    found = float("inf")
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for _ in range(repeats):
            work()
        found = min(found, (time.perf_counter_ns() - start) / repeats)
    return found


def numpy_function(name: str) -> Callable | None:
    return getattr(np, IN_NUMPY.get(name, name), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=sorted(vector_math.FUNCTIONS))
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--width", type=int, help="bytes of a vector (the machine's)")
    parser.add_argument("--ghz", type=float, help="the clock, for numbers per cycle")
    options = parser.parse_args()

    target, dtype = Target.host(), np.dtype(options.dtype)
    if options.width and options.width < target.vector_bytes:
        target = target.without("avx512f" if options.width == 32 else "avx2")
    module = ir.Module()
    module.triple = target.triple
    lanes = target.lanes(dtype.itemsize)
    for name in options.names:
        inputs = [dtype] * (2 if name in TWO_ARGUMENTS else 1)
        write_kernel(module, name, vector_math.FUNCTIONS[name], target, inputs, dtype, lanes)
    made = Compiled(module, target)

    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.05, 0.95, (2, COUNT)).astype(dtype)
    out = np.empty_like(x)
    print(f"{target}, {dtype.name}: numbers per ns (per cycle), NumPy's, ratio")
    for name in options.names:
        arguments = [x + 1] if name == "acosh" else [x, y] if name in TWO_ARGUMENTS else [x]
        call = made.prepared(name, out, *arguments)
        ours = COUNT / best(call)
        cycles = f" ({ours / options.ghz:.2f})" if options.ghz else ""
        function = numpy_function(name)
        theirs = COUNT / best(lambda f=function, a=arguments: f(*a, out=out)) if function else None
        beside = f"{theirs:6.2f}  {ours / theirs:5.1f}" if theirs else "     -"
        print(f"{name:16} {ours:6.2f}{cycles}  {beside}", flush=True)


if __name__ == "__main__":
    main()
