"""Depth-first schedules fit the loop IR: a whole small network in one kernel, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from compiler.depth_first import Compiled, Network, Shape, reference, samples, scheduled

from taimatsu.ir.interpreter import run
from taimatsu.ir.loops import Allocate, Kernel, Loop, statements
from taimatsu.ir.target import Target
from taimatsu.ir.verifier import verify

SMALL, IMAGES = Shape(8, 4, 8), Shape(28, 32, 64)
LANES = Target.host().lanes(4)


def interpreted(kernel: Kernel, n: int, **options: bool) -> np.ndarray:
    arrays = samples(SMALL, n)
    flat = [arrays[buffer.name].reshape(-1) for buffer in kernel.arguments]
    assert run(kernel, flat, {"n": n}, **options) == 0
    return arrays["y"]


def test_the_plain_network_is_numpys() -> None:
    network = Network(SMALL)
    kernel = network.kernel(network.body)
    verify(kernel)
    assert np.allclose(interpreted(kernel, 2), reference(samples(SMALL, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pixels", "vectors"), [(4, 1), (2, 2), (8, 2)])
def test_the_schedule_changes_no_bit(pixels: int, vectors: int) -> None:
    network = Network(SMALL)
    kernel = network.kernel(scheduled(network, 4 if vectors == 1 else 2, pixels, vectors))
    verify(kernel)
    plain = interpreted(network.kernel(network.body), 2)
    assert np.array_equal(interpreted(kernel, 2), plain)
    assert np.array_equal(interpreted(kernel, 2, backwards=True), plain)


def test_the_schedule_is_depth_first() -> None:
    """One parallel loop over samples; of the convolutions there are two rows at a time."""
    network = Network(IMAGES)
    kernel = network.kernel(scheduled(network, 16, 7, 2))
    (top,) = kernel.body
    assert isinstance(top, Loop)
    assert (top.kind, top.extent) == ("parallel", network.x.shape[0])
    allocated = {s.buffer.name: s.buffer for s in statements(kernel.body) if type(s) is Allocate}
    shapes = {
        name: tuple(n.value() for n in b.shape) for name, b in allocated.items() if b.lanes == 1
    }
    assert shapes == {
        "padded": (30, 30, 1),
        "p1": (16, 16, 32),
        "c1_h": (2, 28, 32),
        "c2_h": (2, 14, 64),
    }
    tiles = [b for b in allocated.values() if b.lanes > 1]
    assert [[n.value() for n in b.shape] for b in tiles] == [[1, 7, 2], [1, 7, 2]]
    assert kernel.scratch_bytes.value() <= 64 * 1024  # of the first two cache levels


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_it_is_numpys(threads: int) -> None:
    network = Network(IMAGES)
    kernel = network.kernel(scheduled(network, LANES, 7, 2))
    verify(kernel)
    arrays = samples(IMAGES, 100)
    Compiled(kernel, arrays, threads).run()
    assert np.allclose(arrays["y"], reference(arrays), rtol=1e-4, atol=1e-4)


def test_compiled_and_interpreted_agree_to_the_bit() -> None:
    network = Network(SMALL)
    kernel = network.kernel(scheduled(network, 4, 4, 2))
    arrays = samples(SMALL, 2)
    Compiled(kernel, arrays).run()
    fused = Target.host().fma
    assert np.array_equal(arrays["y"], interpreted(kernel, 2, fused=fused))
