"""A small convolutional network, depth first in one kernel: GFLOP/s, next to the peak and PyTorch.

    python benchmarks/depth_first.py [--threads 2] [--samples 100] [--text]

3x3 convolution to 32 channels, relu, 2x2 pooling, 3x3 convolution to 64 channels, relu, pooling,
scheduled by hand with the words of ``compiler/schedule/words.py`` (tests/compiler/depth_first.py).
The best of many runs, in turn with PyTorch's where it is installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from compiler.depth_first import (  # noqa: E402
    Compiled,
    Network,
    Shape,
    reference,
    samples,
    scheduled,
)

from taimatsu.compiler.dispatcher import dispatch_object  # noqa: E402
from taimatsu.evaluate.peak import peak_flops  # noqa: E402
from taimatsu.ir.printer import kernel_text  # noqa: E402
from taimatsu.ir.target import Target  # noqa: E402
from taimatsu.runtime.loader import load  # noqa: E402
from taimatsu.runtime.threads import Dispatch, install, set_num_threads  # noqa: E402

RUNS = 200


def tile_of(target: Target) -> tuple[int, int]:
    """Pixels (a divisor of a row's 14) and vectors of the tile that fits into the registers."""
    return (14, 2) if target.vector_registers >= 32 else (7, 1)


def torch_forward(arrays: dict[str, np.ndarray], threads: int) -> Callable[[], object] | None:
    """The same forward with PyTorch, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    convolutions = []
    for weight, bias in (("w1", "b1"), ("w2", "b2")):
        packed = np.ascontiguousarray(arrays[weight].transpose(3, 2, 0, 1))
        convolutions.append((torch.from_numpy(packed), torch.from_numpy(arrays[bias])))
    images = torch.from_numpy(arrays["x"])[:, None]

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            x = images
            for weight, bias in convolutions:
                x = torch.conv2d(x, weight, bias, padding=1).relu()
                x = torch.max_pool2d(x, 2)
            return x

    assert np.allclose(forward().numpy(), reference(arrays), rtol=1e-4, atol=1e-4)
    return forward


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--text", action="store_true", help="print the kernel")
    given = parser.parse_args()
    target = Target.host()
    shape = Shape(28, 32, 64)
    network = Network(shape)
    kernel = network.kernel(scheduled(network, target.lanes(4), *tile_of(target)))
    if given.text:
        print(kernel_text(kernel))
    arrays = samples(shape, given.samples)
    compiled = Compiled(kernel, arrays, given.threads)
    compiled.run()
    assert np.allclose(arrays["y"], reference(arrays), rtol=1e-4, atol=1e-4)
    runs: dict[str, Callable[[], object]] = {"depth first": compiled.run}
    other = torch_forward(arrays, given.threads)
    if other is not None:
        runs["PyTorch"] = other
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(RUNS):
        for name, run in runs.items():
            best[name] = min(best[name], seconds(run))
    install(Dispatch(load(dispatch_object(target))))
    set_num_threads(given.threads)
    # What else runs on the machine may have held a core while one of these was measured.
    peak = max(peak_flops(given.threads), given.threads * peak_flops(1))
    print(f"{given.threads} threads, peak {peak / 1e9:.0f} GFLOP/s; {given.samples} samples")
    for name, found in best.items():
        speed = shape.operations * given.samples / found
        figures = f"{found * 1e3:8.3f} ms {speed / 1e9:8.1f} GFLOP/s {speed / peak:5.0%} of peak"
        print(f"{name:12s} {figures}")


if __name__ == "__main__":
    main()
