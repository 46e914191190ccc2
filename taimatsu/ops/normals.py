"""Normal numbers from words of the Mersenne Twister in compiled code, with PyTorch's bits.

The words are drawn when the function is called; the Box-Muller transform of ``generator.normal`` is
recorded like any operation.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.generator import Generator, fill, twister
from taimatsu.generator import normal as boxes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import Operation, register

FEWEST = 1 << 12  # numbers: NumPy takes as long for fewer as a program does
AT_ONCE = 1 << 22  # at most so many words are kept beside the numbers made of them


def recorded_normals(generator: Generator, described: Meta, mean: float, std: float) -> Any:
    """A new tensor of float32 normals, contiguous, of ``FEWEST`` numbers or more."""
    count = described.numel
    if count < 2 * AT_ONCE:
        storage = _recorded(generator, described.shape, mean, std)._storage
    else:
        storage = recorder.Storage(_in_stretches(generator, count, mean, std))
    return recorder.make_tensor(described, storage)


def _in_stretches(generator: Generator, count: int, mean: float, std: float) -> np.ndarray:
    result = np.empty(count, np.float32)
    with generator.lock():
        begin = 0
        while begin < count:
            size = AT_ONCE if count - begin >= 2 * AT_ONCE else count - begin
            part = _recorded(generator, (size,), mean, std)
            result[begin : begin + size] = recorder.value(part).reshape(-1)
            begin += size
    return result


def _recorded(generator: Generator, shape: tuple[int, ...], mean: float, std: float) -> Any:
    count = prod(shape)
    # Nobody else holds the words: they need not be copied for the recording.
    storage = recorder.Storage(fill.normal_words(generator, count))
    given = (count + 16,) if count % 16 else (count // 16, 2, 8)
    words = recorder.make_tensor(meta(given, dtypes.uint32), storage)
    # What is carried out at once is of one program, whatever the shape.
    seen = (count,) if recorder.is_idle() else shape
    shaped = recorder.make_tensor(meta(seen, dtypes.uint32), storage)
    return made_at_once(NormalBlocks, words, shaped, float(mean), float(std))


def made_at_once(operation: Any, *inputs: Any, **attributes: Any) -> Any:
    """The result of an operation that makes data. Where nothing is recorded yet it is carried out,
    in the background: the program that uses the data first is then that of later times.
    """
    idle = recorder.is_idle()
    made = operation.apply(*inputs, **attributes)
    if idle:
        recorder.flush()
    return made


@register
class NormalBlocks(Operation):
    """float32 normals of uint32 words.

    Words of shape (blocks, 2, 8) give as many numbers of that shape; number ``[b, :, j]`` are the
    cosine's and the sine's of the two words ``[b, :, j]``. A list of words gives 16 fewer numbers:
    the last 16 are made of the last 16 words, those before of the blocks that words begin with.

    ``shaped`` is not read. An input of the shape that the numbers will have makes its size one that
    programs are good for any value of.
    """

    hidden = True
    differentiable = False

    def infer(self, words: Any, shaped: Any, mean: float, std: float) -> Meta:
        if words.ndim == 1:
            return meta((words.shape[0] - 16,), dtypes.float32)
        return meta(words.shape, dtypes.float32)

    def reference(
        self, words: np.ndarray, shaped: np.ndarray, mean: float, std: float
    ) -> np.ndarray:
        units = fill.units_of(words.reshape(-1))
        numbers = np.float32(mean), np.float32(std)
        if words.ndim > 1:
            return boxes.box_muller_blocks(units, *numbers).reshape(words.shape)
        count = len(words) - 16
        whole = boxes.box_muller_blocks(units[: count - count % 16], *numbers)
        last = boxes.box_muller_blocks(units[-16:], *numbers)
        return np.concatenate([whole[: count - 16], last])

    def lower(
        self, b: Builder, words: View, shaped: View, mean: Expression, std: Expression
    ) -> Stage:
        shift, scale = b.cast(mean, "float32"), b.cast(std, "float32")

        def of_blocks(block: Index, half: Index, place: Index) -> Expression:
            pair = words[block, 0, place], words[block, 1, place]
            return b.fused(_normal(b, *pair, b.index(half)), scale, shift)

        def of_list(position: Index) -> Expression:
            place = b.index(position)
            last = place - b.index(count - 16)
            is_last = last >= 0
            within = b.where(is_last, last, place & 15)
            first = b.where(is_last, b.index(count), place - within) + (within & 7)
            pair = words[first], words[first + 8]
            return b.fused(_normal(b, *pair, b.shr(within, 3)), scale, shift)

        if len(words.shape) > 1:
            return b.map(words.shape, "float32", of_blocks)
        count = words.shape[0] - 16
        return b.map([count], "float32", of_list)


def _normal(b: Builder, first: Expression, second: Expression, half: Expression) -> Expression:
    """The standard normal of two words: in half 0 with the cosine, in half 1 with the sine."""
    return normal_of_units(b, _unit(b, first), _unit(b, second), half)


def normal_of_units(
    b: Builder, first: Expression, second: Expression, half: Expression
) -> Expression:
    """The same of numbers in [0, 1)."""
    radius = b.sqrt(_log(b, 1 - first) * -2)
    angle = second * float(np.float32(boxes.TWO_PI))
    return radius * _sine(b, angle, 1 - b.cast(half, "int32"))


def _unit(b: Builder, word: Expression) -> Expression:
    """A number in [0, 1) of the low 24 bits."""
    return b.cast(b.bitcast(word & ((1 << 24) - 1), "int32"), "float32") * 2.0**-24


def _horner(b: Builder, coefficients: tuple[float, ...], x: Expression) -> Expression:
    total = b.constant(coefficients[0], "float32")
    for coefficient in coefficients[1:]:
        total = b.fused(total, x, b.constant(coefficient, "float32"))
    return total


def _log(b: Builder, x: Expression) -> Expression:
    """Natural logarithm of positive float32 numbers that are not subnormal (Cephes ``logf``)."""
    bits = b.bitcast(x, "int32")
    fraction = b.bitcast((bits & 0x007FFFFF) | 0x3F000000, "float32")  # from 1/2 to 1
    small = fraction < float(boxes.SQRT_HALF)
    exponent = b.cast(b.shr(bits, 23) - 126 - b.cast(small, "int32"), "float32")
    x = fraction - 1 + b.where(small, fraction, 0)
    square = x * x
    series = _horner(b, boxes.LOG, x) * x
    low, high = (b.constant(part, "float32") for part in boxes.LOG_2)
    y = b.fused(series, square, exponent * low)
    y = b.fused(square, b.constant(-0.5, "float32"), y)
    return b.fused(exponent, high, x + y)


def _sine(b: Builder, x: Expression, quarters: Expression) -> Expression:
    """The sine of non-negative angles (Cephes ``sinf``), ``quarters`` quarter turns on."""
    octant = (b.cast(x * float(boxes.FOUR_OVER_PI), "int32") + 1) & ~1
    y = b.cast(octant, "float32")
    for part in boxes.QUARTER_PI:
        x = b.fused(y, b.constant(part, "float32"), x)
    square = x * x
    cosine = _horner(b, boxes.COS, square) * square
    cosine = b.fused(cosine, square, square * -0.5) + 1
    sine = b.fused(_horner(b, boxes.SIN, square) * square, x, x)
    octant = octant + quarters * 2
    made = b.where((octant & 2).ne(0), cosine, sine)
    return b.where((octant & 4).ne(0), -made, made)


twister.registered.normal_rule = normal_of_units
