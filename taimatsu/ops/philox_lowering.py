"""Philox in compiled code: the bits of ``generator.philox``, of any one element.

What reads a mask finds it in bits: four to a byte, those that one evaluation gives. Any loop reads
any part of them, and the backward pass what the forward pass has read.
"""

from __future__ import annotations

from collections.abc import Callable

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression, load
from taimatsu.ir.index import Index

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


Words = tuple[Expression, Expression, Expression, Expression]


def _words(b: Builder, seed: Expression, counter: Expression) -> Words:
    """The four words, uint32, of a counter under a key; both are int64."""
    c0, c1 = _low(b, counter), _low(b, b.shr(counter, 32))
    k0, k1 = _low(b, seed), _low(b, b.shr(seed, 32))
    words = _first_round(b, c0, c1, k0, k1)
    for done in range(1, _ROUNDS):
        words = _round(b, words, k0 + _multiple(0, done), k1 + _multiple(1, done))
    return words


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
    b: Builder, seed: Expression, offset: Expression, count: Index, limit: float
) -> Callable[[Index], Expression]:
    """Whether number i of ``philox_uniform(seed, offset, count)`` is below ``limit`` (float32, 0 to
    1), as a function of i.
    """
    least = int(-(-limit * 2.0**24 // 1))

    def byte(group: Index) -> Expression:
        words = _words(b, seed, offset + b.index(group))
        bits = [
            b.where(b.shr(word, 8) < least, b.constant(1 << n, "uint8"), 0)
            for n, word in enumerate(words)
        ]
        return bits[0] | bits[1] | bits[2] | bits[3]

    bytes_ = b.map([(count + 3) // 4], "uint8", byte)

    def is_below(position: Index) -> Expression:
        # A computed coordinate: a quotient of axes would have loops fall into groups of four.
        byte = b.cast(load(bytes_, [b.index(position // 4)]), "int32")
        bit = b.cast(b.index(position % 4), "int32")
        return (b.shr(byte, bit) & 1).ne(0)

    return is_below
