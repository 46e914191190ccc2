"""The Mersenne Twister (Matsumoto and Nishimura 1998): raw 32-bit words, and skipping over them.

NumPy draws the words. What is added here is the state in the form PyTorch's files have it, and a
skip whose cost hardly depends on how many words it passes over (Haramoto, Matsumoto, Nishimura,
Panneton and L'Ecuyer 2008): the state after J steps is g(T) applied to the state now, where T is
one step and g(t) = t**J modulo the characteristic polynomial of T.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

WORDS = 624  # words in the state
_MIDDLE = 397
_DEGREE = 19937
_TWIST = 0x9908B0DF

# Below this, drawing words and dropping them is faster than the polynomial (tens of milliseconds).
JUMP_FROM = 1 << 24


# From so many words on, and numbers shuffled, compiled code draws them.
COMPILED_FROM = 1 << 15


class Registered:
    """What layers above give: see ``evaluate.draws``. None: there is no compiled code."""

    twister_blocks: Callable[[np.ndarray, np.ndarray], np.ndarray | None] | None = None
    shuffled: Callable[[np.ndarray], np.ndarray | None] | None = None
    normals: Callable[[np.ndarray, Any, Any], np.ndarray | None] | None = None
    normal_rule: Callable[..., Any] | None = None  # what one is computed from, as an expression
    empty: Callable[[int, Any], np.ndarray] = staticmethod(np.empty)  # memory used before, maybe


registered = Registered()


class Twister:
    """The stream that ``init_genrand(seed)`` of the reference implementation starts."""

    def __init__(self, seed: int) -> None:
        self._bits: Any = np.random.MT19937()
        self._integers: Any = np.random.Generator(self._bits).integers
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Starts again from the low 32 bits of ``seed``."""
        self._bits.state = np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=False)

    def words(self, count: int) -> np.ndarray:
        """The next ``count`` words (uint32)."""
        if count >= COMPILED_FROM and registered.twister_blocks is not None:
            return self._compiled_words(count, registered.twister_blocks)
        return self._words(count)

    def _words(self, count: int) -> np.ndarray:
        # Of the whole range each integer is one word as it is.
        return self._integers(0, 1 << 32, count, np.uint32)

    def _compiled_words(self, count: int, compiled: Callable) -> np.ndarray:
        """What is left of this block, whole blocks, and the begin of the next one."""
        state, position = self.state()
        words = registered.empty(count, np.uint32)
        begin = WORDS - position
        end = begin + (count - begin) // WORDS * WORDS
        after = compiled(state, words[begin:end])
        if after is None:
            return self._words(count)
        words[:begin] = self._words(begin)
        self.set_state(after, WORDS)
        words[end:] = self._words(count - end)
        return words

    def skip(self, count: int) -> None:
        """Goes on as if ``count`` words had been drawn."""
        if count >= JUMP_FROM:
            # Words of the seed itself do not obey the recurrence: leave the first block first.
            _, position = self.state()
            start = 2 * WORDS - position
            self._bits.random_raw(start, output=False)
            count -= start
            blocks, count = divmod(count, WORDS)
            words, _ = self.state()
            self.set_state(jumped(words, blocks * WORDS), WORDS)
        if count:
            self._bits.random_raw(count, output=False)

    def state(self) -> tuple[np.ndarray, int]:
        """The 624 words of the current block (uint32), and how many of them were drawn."""
        inner = self._bits.state["state"]
        return inner["key"], inner["pos"]

    def set_state(self, words: np.ndarray, position: int) -> None:
        inner = {"key": np.asarray(words, np.uint32), "pos": position}
        self._bits.state = {"bit_generator": "MT19937", "state": inner}


@functools.cache
def characteristic_polynomial() -> int:
    """Of one step of the generator, over GF(2): bit k is the coefficient of t**k.

    Matsumoto and Nishimura 1998, appendix A, by Horner's rule in t**623 + t**396. It has 135
    terms.
    """
    inner = 1
    for i in range(31):
        inner = inner << (WORDS - 1) ^ inner << (_MIDDLE - 1) ^ (_TWIST >> i & 1)
    return inner << WORDS ^ inner << _MIDDLE ^ (_TWIST >> 31)


def power_of_t(exponent: int) -> int:
    """t**exponent modulo the characteristic polynomial."""
    shift = max(exponent.bit_length() - 14, 0)  # 14 bits stay below the degree: no reduction yet
    result = 1 << (exponent >> shift)
    for bit in range(shift - 1, -1, -1):
        result = _reduced(_squared(result) << (exponent >> bit & 1))
    return result


def jumped(words: np.ndarray, steps: int) -> np.ndarray:
    """The 624 words that stand ``steps`` after these in the untempered sequence."""
    sequence = np.concatenate([words, _following(words, _DEGREE)])
    polynomial = power_of_t(steps)
    result = np.zeros(WORDS, np.uint32)
    for i in range(_DEGREE):
        if polynomial >> i & 1:
            result ^= sequence[i : i + WORDS]
    return result


def _following(words: np.ndarray, count: int) -> np.ndarray:
    """At least ``count`` untempered words after a block: the states of the blocks that follow."""
    twister = Twister(0)
    twister.set_state(words, WORDS)
    blocks = []
    for _ in range(-(-count // WORDS)):
        twister.skip(WORDS)
        blocks.append(twister.state()[0].copy())
    return np.concatenate(blocks)


@functools.cache
def _interleaved_bytes() -> np.ndarray:
    """For each byte, its bits with zeros between them: the square of its polynomial."""
    squares = np.zeros(256, "<u2")
    for bit in range(8):
        squares |= (np.arange(256) >> bit & 1).astype("<u2") << np.uint16(2 * bit)
    return squares


def _squared(polynomial: int) -> int:
    """Over GF(2) squaring only spreads the coefficients."""
    data = polynomial.to_bytes((polynomial.bit_length() + 7) // 8, "little")
    spread = _interleaved_bytes()[np.frombuffer(data, np.uint8)]
    return int.from_bytes(spread.tobytes(), "little")


@functools.cache
def _lower_terms() -> tuple[int, ...]:
    polynomial = characteristic_polynomial()
    return tuple(k for k in range(_DEGREE) if polynomial >> k & 1)


def _reduced(polynomial: int) -> int:
    """Modulo the characteristic polynomial: t**19937 equals the sum of its lower terms."""
    while high := polynomial >> _DEGREE:
        polynomial ^= high << _DEGREE
        for k in _lower_terms():
            polynomial ^= high << k
    return polynomial
