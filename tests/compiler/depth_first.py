"""A small network, sample by sample: what a schedule in the IR's own words makes of it.

3x3 convolution, relu, 2x2 max pooling, twice, over one-channel images: ``network`` is the plain
tree, one nest after the other, and ``scheduled`` the one that computes a sample from end to end in
scratch memory, rows of the convolutions where the pooling takes them, tiles of them in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from taimatsu.compiler.dispatcher import dispatch_object
from taimatsu.compiler.objects import objects_for
from taimatsu.compiler.schedule.trees import find_loop, loops_of
from taimatsu.compiler.schedule.words import (
    cache_write,
    compute_at,
    distribute,
    parallel,
    reorder,
    split,
    unroll,
    vectorize,
)
from taimatsu.ir.expression import Expression, binary, constant, fma, load
from taimatsu.ir.index import Symbol, Var, index
from taimatsu.ir.loops import Allocate, Buffer, Kernel, Loop, Statement, Store, statements
from taimatsu.ir.target import Target
from taimatsu.runtime.loader import load as loaded
from taimatsu.runtime.threads import Dispatch, Phase, Pool, Program

F32 = "float32"
N = Symbol("n", 100)
Body = tuple[Statement, ...]
Place = tuple[Any, ...]


@dataclass(frozen=True)
class Shape:
    """Rows (and columns) of the images, and the channels of the two convolutions."""

    rows: int
    first: int
    second: int

    @property
    def operations(self) -> int:
        """Additions and multiplications for one sample."""
        half = self.rows // 2
        return 18 * self.first * (self.rows**2 + self.second * half**2)


# -- the plain tree --------------------------------------------------------------------------


class Network:
    """Buffers and nests; weights lie as (3, 3, in, out), images and results as PyTorch has them."""

    def __init__(self, shape: Shape) -> None:
        rows, half, quarter = shape.rows, shape.rows // 2, shape.rows // 4
        first, second = shape.first, shape.second
        self.x = Buffer("x", F32, [N, rows, rows])
        self.w1, self.b1 = Buffer("w1", F32, [3, 3, 1, first]), Buffer("b1", F32, [first])
        self.w2, self.b2 = Buffer("w2", F32, [3, 3, first, second]), Buffer("b2", F32, [second])
        area = quarter * quarter
        self.y = Buffer(
            "y",
            F32,
            [N, quarter, quarter, second],
            strides=[area * second, quarter, 1, area],
        )
        self.padded = Buffer("padded", F32, [rows + 2, rows + 2, 1], "scratch")
        self.c1 = Buffer("c1", F32, [rows, rows, first], "scratch")
        self.p1 = Buffer("p1", F32, [half + 2, half + 2, first], "scratch")
        self.c2 = Buffer("c2", F32, [half, half, second], "scratch")
        self.sample = Var("s", N)
        s = self.sample

        fill = copy_into(self.padded, 1, [rows, rows, 1], lambda h, w, c: load(self.x, [s, h, w]))
        pool1 = copy_into(self.p1, 1, [half, half, first], pooled(self.c1))
        pool2 = nest(
            [quarter, quarter, second],
            lambda h, w, c: [Store(self.y, [s, h, w, c], pooled(self.c2)(h, w, c))],
        )
        conv1 = convolution(self.padded, self.w1, self.b1, self.c1)
        conv2 = convolution(self.p1, self.w2, self.b2, self.c2)
        self.rows1, self.rows2 = pool1.var, pool2.var
        second_half = Allocate(self.c2, [conv2, pool2])
        first_half = Allocate(self.c1, [conv1, pool1])
        whole = Allocate(self.p1, [zeros(self.p1), first_half, second_half])
        sample_body = Allocate(self.padded, [zeros(self.padded), fill, whole])
        self.body: Body = (Loop(s, "serial", [sample_body]),)

    def kernel(self, body: Body) -> Kernel:
        arguments = [self.x, self.w1, self.b1, self.w2, self.b2, self.y]
        return Kernel("depth_first", arguments, [N], [], body)


def nest(extents: Iterable[Any], inside: Callable[..., list[Statement]]) -> Loop:
    """Serial loops h, w, c around statements."""
    variables = [Var(name, n) for name, n in zip("hwc", extents, strict=False)]
    body = inside(*map(index, variables))
    for var in reversed(variables):
        body = [Loop(var, "serial", body)]
    (loop,) = body
    assert isinstance(loop, Loop)
    return loop


def zeros(buffer: Buffer) -> Loop:
    return nest(buffer.shape, lambda *where: [Store(buffer, where, constant(0, F32))])


def copy_into(
    buffer: Buffer, border: int, extents: list[int], value: Callable[..., Expression]
) -> Loop:
    """Fills a buffer inside of a border."""
    return nest(
        extents, lambda h, w, c: [Store(buffer, [h + border, w + border, c], value(h, w, c))]
    )


def pooled(source: Buffer) -> Callable[..., Expression]:
    """The greatest of 2x2 elements."""

    def value(h: Any, w: Any, c: Any) -> Expression:
        best = load(source, [h * 2, w * 2, c])
        for dh, dw in ((0, 1), (1, 0), (1, 1)):
            best = binary("max", best, load(source, [h * 2 + dh, w * 2 + dw, c]))
        return best

    return value


def convolution(source: Buffer, weight: Buffer, bias: Buffer, result: Buffer) -> Loop:
    """A 3x3 convolution of a padded source, and relu."""

    def element(h: Any, w: Any, c: Any) -> list[Statement]:
        here = [h, w, c]
        kh, kw, ci = Var("kh", 3), Var("kw", 3), Var("ci", weight.shape[2])
        product = load(source, [h + kh, w + kw, ci]), load(weight, [kh, kw, ci, c])
        update: Statement = Store(result, here, fma(*product, load(result, here)))
        for var in (ci, kw, kh):
            update = Loop(var, "serial", [update])
        relu = Store(result, here, binary("max", load(result, here), 0.0))
        return [Store(result, here, load(bias, [c])), update, relu]

    return nest(result.shape, element)


# -- the schedule ----------------------------------------------------------------------------


def scheduled(network: Network, lanes: int, pixels: int, vectors: int) -> Body:
    """Samples in parallel, rows where they are pooled, ``pixels`` x ``vectors`` in registers."""
    body, c1 = compute_at(network.body, network.c1, network.rows1)
    body, c2 = compute_at(body, network.c2, network.rows2)
    for piece in (c1, c2):
        body = tiled(body, piece, lanes, pixels, vectors)
    for loop in loops_of(body):
        innermost = not loops_of(loop.body)
        if loop.kind == "serial" and innermost and loop.var.name == "c" and loop.extent != 1:
            body = vectorize(body, loop.var, lanes)
    return parallel(body, network.sample)


def tiled(body: Body, piece: Buffer, lanes: int, pixels: int, vectors: int) -> Body:
    """The nest that fills a piece of a convolution, in tiles that stay in registers."""
    (allocation,) = [s for s in statements(body) if type(s) is Allocate and s.buffer is piece]
    row = allocation.body[0]
    assert isinstance(row, Loop)
    column, channel = [loop.var for loop in loops_of(row.body)[:2]]
    body, column, pixel = split(body, column, pixels)
    body, channel, inner = split(body, channel, lanes * vectors)
    body, vector, lane = split(body, inner, lanes)
    body = reorder(body, column, channel, pixel, vector, lane)
    for var in (lane, vector, pixel):  # start, sum and relu get loops of their own
        body = distribute(body, var)
    for part in find_loop(body, channel).body:
        assert isinstance(part, Loop)
        tile = [loop.var for loop in loops_of([part])]
        if len(tile) > 3:
            body = reorder(body, *tile[3:], *tile[:3])
        body = unroll(unroll(body, tile[0]), tile[1])
        body = vectorize(body, tile[2], lanes)
    return cache_write(body, channel, piece)[0]


# -- carrying it out -------------------------------------------------------------------------


def reference(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The network with NumPy: (n, rows, rows) to (n, second, rows / 4, rows / 4)."""
    x = arrays["x"][..., None]
    for weight, bias in (("w1", "b1"), ("w2", "b2")):
        n, rows, columns, _ = x.shape
        wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        total = np.broadcast_to(arrays[bias], (n, rows, columns, arrays[bias].size)).copy()
        for kh in range(3):
            for kw in range(3):
                total += wide[:, kh : kh + rows, kw : kw + columns] @ arrays[weight][kh, kw]
        total = np.maximum(total, 0)
        x = total.reshape(n, rows // 2, 2, columns // 2, 2, -1).max((2, 4))
    return x.transpose(0, 3, 1, 2)


def samples(shape: Shape, n: int) -> dict[str, np.ndarray]:
    """Images, weights and biases, and room for the results; by the names of the buffers."""
    generator = np.random.default_rng(n)

    def normal(*extents: int, scale: float = 1.0) -> np.ndarray:
        return (generator.standard_normal(extents) * scale).astype(np.float32)

    return {
        "x": normal(n, shape.rows, shape.rows),
        "w1": normal(3, 3, 1, shape.first, scale=1 / 3),
        "b1": normal(shape.first),
        "w2": normal(3, 3, shape.first, shape.second, scale=1 / (3 * shape.first**0.5)),
        "b2": normal(shape.second),
        "y": np.full((n, shape.second, shape.rows // 4, shape.rows // 4), np.nan, np.float32),
    }


@cache
def pool(threads: int) -> Pool:
    """A pool of threads that lives as long as the process."""
    return Pool(Dispatch(loaded(dispatch_object(Target.host()))), threads)


class Compiled:
    """A kernel of the network as machine code, with its memory."""

    def __init__(self, kernel: Kernel, arrays: dict[str, np.ndarray], threads: int = 1) -> None:
        n = arrays["x"].shape[0]
        scratch = kernel.scratch_bytes.value() * (threads + 1)
        self.arrays = arrays
        self.threads = threads
        self.scratch = np.zeros(scratch + 64, np.uint8)
        words = [arrays[buffer.name].ctypes.data for buffer in kernel.arguments]
        begin = self.scratch.ctypes.data
        self.block = np.array([*words, n, begin + -begin % 64], np.int64)
        code = loaded(objects_for([kernel], Target.host())[0])
        self.program = Program([Phase(code.address("kernel"), n)], [code])

    def run(self) -> None:
        pool(self.threads).run(self.program, self.block.ctypes.data)
