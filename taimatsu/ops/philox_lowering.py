"""Philox in compiled code: the bits of ``generator.philox``, of any one element.

Each element computes its group of four words anew and keeps one, so that masks need no memory and
any loop may compute any part of them.
"""

from __future__ import annotations

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def word(b: Builder, seed: Expression, offset: Expression, position: Index) -> Expression:
    """Word ``position`` of ``philox_words(seed, offset, ...)``, uint32; both are int64."""
    counter = offset + b.index(position // 4)
    c0, c1 = _low(b, counter), _low(b, b.shr(counter, 32))
    k0, k1 = _low(b, seed), _low(b, b.shr(seed, 32))
    words = _first_round(b, c0, c1, k0, k1)
    for done in range(1, _ROUNDS):
        words = _round(b, words, k0 + _multiple(0, done), k1 + _multiple(1, done))
    lane = b.index(position % 4)
    low = b.where(lane.eq(0), words[0], words[1])
    high = b.where(lane.eq(2), words[2], words[3])
    return b.where(lane < 2, low, high)


Words = tuple[Expression, Expression, Expression, Expression]


def _first_round(
    b: Builder, c0: Expression, c1: Expression, k0: Expression, k1: Expression
) -> Words:
    """A round where the upper words of the counter are 0."""
    multiplier = b.constant(_MULTIPLIERS[0], "uint32")
    return c1 ^ k0, b.constant(0, "uint32"), b.mulhi(c0, multiplier) ^ k1, c0 * multiplier


def _round(b: Builder, words: Words, k0: Expression, k1: Expression) -> Words:
    c0, c1, c2, c3 = words
    first, second = (b.constant(m, "uint32") for m in _MULTIPLIERS)
    return b.mulhi(c2, second) ^ c1 ^ k0, c2 * second, b.mulhi(c0, first) ^ c3 ^ k1, c0 * first


def _multiple(half: int, times: int) -> int:
    return _WEYL[half] * times & 0xFFFFFFFF


def _low(b: Builder, x: Expression) -> Expression:
    """The low 32 bits."""
    return b.cast(x, "uint32")


def uniform_below(
    b: Builder, seed: Expression, offset: Expression, position: Index, limit: float
) -> Expression:
    """Whether number ``position`` of ``philox_uniform`` is below ``limit`` (float32, 0 to 1)."""
    bits = b.shr(word(b, seed, offset, position), 8)
    return bits < int(-(-limit * 2.0**24 // 1))
