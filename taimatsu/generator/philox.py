"""Philox 4x32-10, the counter-based generator (Salmon, Moraes, Dror and Shaw 2011).

Each number is a function of the key and of its own index, so compiled code draws any element of a
mask without drawing those before it, and draws it again in the backward pass.
"""

from __future__ import annotations

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_GROUPS_AT_ONCE = 1 << 14  # keeps what one stretch works on in the cache


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """The bijection: counters, uint32 of shape (n, 4), to random words of the same shape."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        first = c0 * _MULTIPLIERS[0]
        second = c2 * _MULTIPLIERS[1]
        c0 = second >> _HALF ^ c1 ^ np.uint64(k0)
        c1 = second & _LOW
        c2 = first >> _HALF ^ c3 ^ np.uint64(k1)
        c3 = first & _LOW
        k0 = k0 + _WEYL[0] & 0xFFFFFFFF
        k1 = k1 + _WEYL[1] & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def philox_words(seed: int, offset: int, count: int) -> np.ndarray:
    """``count`` words, uint32. Word i is word ``i % 4`` of the group whose counter is
    ``offset + i // 4`` (its low half in the first word), under the key ``seed`` (64 bits each).
    """
    groups = -(-count // 4)
    key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    result = np.empty((groups, 4), np.uint32)
    for begin in range(0, groups, _GROUPS_AT_ONCE):
        end = min(begin + _GROUPS_AT_ONCE, groups)
        low = np.arange(begin, end, dtype=np.uint64) + np.uint64(offset)
        counter = np.zeros((end - begin, 4), np.uint32)
        counter[:, 0] = low & _LOW
        counter[:, 1] = low >> _HALF
        result[begin:end] = philox(counter, key)
    return result.reshape(-1)[:count]


def philox_uniform(seed: int, offset: int, count: int) -> np.ndarray:
    """``count`` numbers in [0, 1), float32: the high 24 bits of each word of ``philox_words``."""
    return (philox_words(seed, offset, count) >> np.uint32(8)).astype(np.float32) * np.float32(
        2.0**-24
    )
