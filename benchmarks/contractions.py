"""Matrix products, convolutions and their gradients: GFLOP/s, next to PyTorch's and the peak.

    python benchmarks/contractions.py [--threads 2] [--only conv2] [--torch] [--text]

Every case is scheduled, compiled and carried out by itself, without fusion and recording around it;
the best of many runs, so that what else runs on the machine matters little. With ``--torch`` the
same is timed with PyTorch, run by run in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from compiler.test_contraction import (  # noqa: E402
    Case,
    Convolution,
    Maker,
    convolution,
    input_gradient,
    matmul,
    order_of,
    ready,
    weight_gradient,
)

from taimatsu.compiler.dispatcher import dispatch_object  # noqa: E402
from taimatsu.compiler.groups import ordered_layout  # noqa: E402
from taimatsu.compiler.schedule.contraction import prepared, schedule  # noqa: E402
from taimatsu.compiler.schedule.contraction_plan import plan  # noqa: E402
from taimatsu.evaluate.peak import peak_flops  # noqa: E402
from taimatsu.ir.printer import kernel_text  # noqa: E402
from taimatsu.ir.target import Target  # noqa: E402
from taimatsu.runtime import threads  # noqa: E402
from taimatsu.runtime.loader import load  # noqa: E402

Torch = Callable[[Any], Callable[[], Any]]


class Work(NamedTuple):
    """A case, its floating-point operations, and the same for PyTorch (given the module)."""

    case: Case
    flops: float
    torch: Torch


def product_work(m: int, n: int, k: int, ta: bool, tb: bool, data: str = "") -> Work:
    """A product; ``data`` names the extents that are symbols."""
    maker = Maker()
    sizes = {"m": m, "n": n, "k": k}
    shape = [
        maker.symbol(f"s{name}", size) if name in data else size for name, size in sizes.items()
    ]
    out = matmul(maker, [], shape[0], shape[1], shape[2], (ta, tb))

    def torch_run(torch: Any) -> Callable[[], Any]:
        a = torch.randn(k, m).t() if ta else torch.randn(m, k)
        b = torch.randn(n, k).t() if tb else torch.randn(k, n)
        return lambda: a @ b

    return Work(maker.case([out], [out]), 2.0 * m * n * k, torch_run)


def convolution_work(make: Callable[..., Any], sizes: Convolution, is_last: bool) -> Work:
    maker = Maker()
    out = make(maker, sizes, is_last, maker.symbol("s0", sizes.batch))
    order = order_of(len(sizes.out), is_last) if make is not weight_gradient else None
    flops = 2.0 * sizes.batch * sizes.groups * sizes.channels * sizes.filters
    size = sizes.out
    if make is input_gradient:
        size = tuple(o + k - 1 for o, k in zip(sizes.out, sizes.kernel, strict=True))
    flops *= float(np.prod(size)) * float(np.prod(sizes.kernel))

    def torch_run(torch: Any) -> Callable[[], Any]:
        c, g = sizes, sizes.groups
        memory = torch.channels_last if is_last else torch.contiguous_format
        x = torch.randn(c.batch, g * c.channels, *c.size()).to(memory_format=memory)
        w = torch.randn(g * c.filters, c.channels, *c.kernel).to(memory_format=memory)
        y = torch.randn(c.batch, g * c.filters, *c.out).to(memory_format=memory)
        if make is convolution:
            return lambda: torch.conv2d(x, w, stride=c.stride, groups=g)
        wanted = [make is input_gradient, make is weight_gradient, False]
        backward = torch.ops.aten.convolution_backward
        stride = [c.stride, c.stride]
        return lambda: backward(y, x, w, None, stride, [0, 0], [1, 1], False, [0, 0], g, wanted)

    return Work(maker.case([out], [out], orders={out: order} if order else {}), flops, torch_run)


CONVOLUTIONS = {
    "conv1": Convolution(100, 1, 1, 16, (26, 26), (3, 3)),
    "conv2": Convolution(100, 1, 16, 32, (11, 11), (3, 3)),
    "conv3": Convolution(16, 1, 64, 64, (56, 56), (3, 3)),
    "7x7": Convolution(16, 1, 3, 64, (112, 112), (7, 7), stride=2),
    "depth": Convolution(16, 128, 1, 1, (28, 28), (3, 3)),
    "late": Convolution(16, 1, 512, 512, (7, 7), (3, 3)),
    "pointwise": Convolution(16, 1, 256, 64, (28, 28), (1, 1)),
}
PASSES = {"": convolution, " input": input_gradient, " weight": weight_gradient}


def works() -> dict[str, Callable[[], Work]]:
    """The works by name."""
    found: dict[str, Callable[[], Work]] = {
        "1024": partial(product_work, 1024, 1024, 1024, False, False),
        "1024 nt": partial(product_work, 1024, 1024, 1024, False, True),
        "1024 tn": partial(product_work, 1024, 1024, 1024, True, False),
        "fc": partial(product_work, 100, 120, 800, False, True, "m"),
        "fc input": partial(product_work, 100, 800, 120, False, False, "m"),
        "fc weight": partial(product_work, 120, 800, 100, True, False, "k"),
        "128x784x512": partial(product_work, 128, 512, 784, False, True, "m"),
        "fc10": partial(product_work, 100, 10, 120, False, True, "m"),
        "matvec": partial(product_work, 1, 1000, 1000, False, True),
    }
    for name, sizes in CONVOLUTIONS.items():
        for layout in ("", " nchw"):
            for what, make in PASSES.items():
                if what == " input" and (sizes.stride > 1 or name == "conv1"):
                    continue
                found[name + what + layout] = partial(convolution_work, make, sizes, layout == "")
    return found


def best_of(run: Callable[[], Any], seconds: float, threads: int) -> float:
    """The shortest run; by one thread, the time that this thread was running."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        begin = clock()
        run()
        best = min(best, clock() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="names begin so")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--torch", action="store_true", help="time PyTorch too")
    parser.add_argument("--plan", action="store_true", help="print the plans")
    parser.add_argument("--text", action="store_true", help="print the kernels")
    arguments = parser.parse_args()
    threads.install(threads.Dispatch(load(dispatch_object(Target.host()))))
    peak = peak_flops(arguments.threads) / 1e9
    print(f"peak {peak:.0f} GFLOP/s with {arguments.threads} threads")
    for name, make in works().items():
        if name.startswith(arguments.only):
            measure(name, make(), peak, arguments)


def measure(name: str, work: Work, peak: float, arguments: argparse.Namespace) -> None:
    """Prints a work's figures."""
    used, case = arguments.threads, work.case
    layouts = {s: ordered_layout(s.shape, case.orders.get(s, s.order)) for s in case.group.outputs}
    begin = time.thread_time()
    launches = schedule(case.group, layouts, Target.host())
    milliseconds = (time.thread_time() - begin) * 1e3
    if arguments.plan:
        problem, parts = prepared(case.group, layouts, Target.host())
        print(plan(problem, Target.host(), parts))
    if arguments.text:
        for launch in launches:
            print(kernel_text(launch.kernel))
    done = ready(case)
    seconds = best_of(partial(done.run, used), arguments.seconds, used)
    speed = work.flops / seconds / 1e9
    line = f"{name:20s} {seconds * 1e6:9.1f} us {speed:7.1f} GFLOP/s {speed / peak:5.0%} of peak"
    if arguments.torch:
        import torch

        torch.set_num_threads(used)
        theirs = best_of(work.torch(torch), arguments.seconds, used)
        seconds = best_of(partial(done.run, used), arguments.seconds, used)
        line += f", PyTorch {theirs * 1e6:9.1f} us ({theirs / seconds:.2f} times as long)"
    parts = [
        f"{phase.chunks} in {best_of(partial(one.run, used), 0.1, used) * 1e6:.0f} us"
        for phase, one in zip(done.phases, done.apart(), strict=True)
    ]
    print(f"{line}; scheduled in {milliseconds:.1f} ms; chunks: {', '.join(parts)}")


if __name__ == "__main__":
    main()
