"""Random draws in compiled code: kernels written by hand for what is one step after another.

``generator`` reaches them by registration. Each gives what NumPy and Python give, bit for bit, and
None where nothing is compiled.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np

from taimatsu.compiler import objects
from taimatsu.compiler.service import CompileError
from taimatsu.config import config
from taimatsu.evaluate import compiled
from taimatsu.generator import twister
from taimatsu.ir import expression as ex
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression, binary, constant, index_value, load
from taimatsu.ir.index import Index, Minimum, Symbol, Var, ceil_div, index
from taimatsu.ir.loops import Allocate, Buffer, Kernel, Loop, Statement, Store
from taimatsu.ir.target import Target
from taimatsu.runtime import loader

WORDS = 624  # of a block of the Mersenne Twister
MIDDLE = 397
TWIST = 0x9908B0DF
STRETCH = 32  # blocks done in one go: what is between words and their tempered form stays near


def twister_blocks(state: np.ndarray, words: np.ndarray) -> np.ndarray | None:
    """Fills an array of whole blocks with the words that follow a state of the Mersenne Twister
    (all uint32); gives the state after them.
    """
    if _unusable():
        return None
    function = _function(_twister)
    if function is None:
        return None
    work = np.empty(WORDS * (STRETCH + 1), np.uint32)
    work[:WORDS] = state
    _call(function, [work, words], [len(words) // WORDS])
    return work[:WORDS]


def shuffled(steps: np.ndarray) -> np.ndarray | None:
    """The numbers from 0 to ``len(steps)`` (uint32), number i swapped with the one that stands
    ``steps[i] % (numbers from i on)`` later, one after the other.
    """
    if _unusable():
        return None
    function = _function(_shuffle)
    if function is None:
        return None
    order = np.arange(len(steps) + 1, dtype=np.uint32)
    _call(function, [steps, order], [len(steps)])
    return order


def normals(units: np.ndarray, mean: float, std: float) -> np.ndarray | None:
    """Normals of float32 numbers in [0, 1), of shape (blocks, 2, 8), by Box and Muller."""
    if _unusable():
        return None
    function = _function(_box_muller)
    if function is None:
        return None
    result = np.empty_like(units)
    numbers = np.array([mean, std], np.float32)
    _call(function, [np.ascontiguousarray(units), numbers, result], [len(units)])
    return result


def _unusable() -> bool:
    return config.eager or not compiled._can_compile()


def _call(function: Callable[..., int], arrays: list[np.ndarray], symbols: list[int]) -> None:
    words = [a.__array_interface__["data"][0] for a in arrays]
    block = np.array([*words, *symbols], np.int64)
    code = function(block.__array_interface__["data"][0], 0, 0)
    assert code == 0, "these kernels have no checks"


@cache
def _function(make: Callable[[Target], Kernel]) -> Callable[..., int] | None:
    target = Target.host()
    try:
        loaded = loader.load(objects.objects_for([make(target)], target)[0])
    except (CompileError, loader.LoadError) as error:
        warnings.warn(f"NumPy draws random numbers: {error}", RuntimeWarning, stacklevel=2)
        return None
    kinds = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    made: Callable[..., int] = loaded.function("kernel", ctypes.c_int64, *kinds)
    return _Held(made, loaded)


class _Held:
    """A function of an object, which is kept with it."""

    def __init__(self, function: Callable[..., int], owner: object) -> None:
        self.function = function
        self.owner = owner

    def __call__(self, *arguments: int) -> int:
        return self.function(*arguments)


# -- the twister -------------------------------------------------------------------------------


def _twister(target: Target) -> Kernel:
    """Untempered words go to ``work`` behind the state, tempered ones to ``words``.

    Word k + 624 is made of words k, k + 1 and k + 397: whole vectors of words are there in time.
    """
    blocks = Symbol("blocks")
    lanes = target.lanes(4)
    work = Buffer("work", "uint32", (WORDS * (STRETCH + 1),))
    words = Buffer("words", "uint32", (index(blocks) * WORDS,))
    stretch = Var("s", ceil_div(index(blocks), STRETCH))
    size = index(Minimum(index(STRETCH), index(blocks) - index(stretch) * STRETCH)) * WORDS
    step, lane, last = Var("k", size), Var("l", WORDS), Var("c", 1)
    made = Buffer("made", "uint32", (1,), "register")
    begin = index(stretch) * (STRETCH * WORDS)
    body: list[Statement] = [
        Store(made, (0,), _twisted(work, index(step))),
        Store(work, (index(step) + WORDS,), load(made, (0,))),
        Store(words, (begin + step,), _tempered(load(made, (0,)))),
    ]
    moved = Store(work, (lane,), load(work, (size + lane,)))
    loops = [
        Loop(step, "vector", [Allocate(made, body)], lanes),
        Loop(lane, "vector", [moved], lanes),
    ]
    every = Loop(last, "parallel", [Loop(stretch, "serial", loops)])
    return Kernel("twister", [work, words], [blocks], [], [every])


def _twisted(work: Buffer, at: Index) -> Expression:
    first, second = load(work, (at,)), load(work, (at + 1,))
    joined = (first & 0x80000000) | (second & 0x7FFFFFFF)
    mask = ex.select((second & 1).ne(0), constant(TWIST, "uint32"), 0)
    return load(work, (at + MIDDLE,)) ^ binary("shr", joined, 1) ^ mask


def _tempered(word: Expression) -> Expression:
    word = word ^ binary("shr", word, 11)
    word = word ^ (binary("shl", word, 7) & 0x9D2C5680)
    word = word ^ (binary("shl", word, 15) & 0xEFC60000)
    return word ^ binary("shr", word, 18)


# -- the shuffle -------------------------------------------------------------------------------


def _shuffle(target: Target) -> Kernel:
    """Fisher and Yates, from the front."""
    count = Symbol("count")
    steps = Buffer("steps", "uint32", (index(count),))
    order = Buffer("order", "uint32", (index(count) + 1,))
    once, i = Var("c", 1), Var("i", index(count))
    other = Buffer("other", "int64", (1,), "register")
    held = Buffer("held", "uint32", (1,), "register")
    left = ex.cast(index_value(index(count) + 1 - i), "uint32")
    step = ex.cast(binary("modulo", load(steps, (i,)), left), "int64")
    there = load(other, (0,))
    body: list[Statement] = [
        Store(other, (0,), step + index_value(i)),
        Store(held, (0,), load(order, (i,))),
        Store(order, (i,), load(order, (there,))),
        Store(order, (there,), load(held, (0,))),
    ]
    loop = Loop(i, "serial", [Allocate(other, [Allocate(held, body)])])
    return Kernel("shuffle", [steps, order], [count], [], [Loop(once, "parallel", [loop])])


# -- normals -----------------------------------------------------------------------------------


def _box_muller(target: Target) -> Kernel:
    """A block of 16 at a time; its halves take the same pairs."""
    blocks = Symbol("blocks")
    units = Buffer("units", "float32", (index(blocks) * 16,))
    numbers = Buffer("numbers", "float32", (2,))
    result = Buffer("result", "float32", (index(blocks) * 16,))
    once, block, place = Var("c", 1), Var("b", index(blocks)), Var("i", 16)
    pair = index(block) * 16 + index(place) % 8
    b = Builder()
    rule = twister.registered.normal_rule
    assert rule is not None
    half = index_value(index(place) // 8)
    value = rule(b, load(units, (pair,)), load(units, (pair + 8,)), half)
    value = b.fused(value, load(numbers, (1,)), load(numbers, (0,)))
    store = Store(result, (index(block) * 16 + place,), value)
    inner = Loop(place, "vector", [store], target.lanes(4))
    loop = Loop(once, "parallel", [Loop(block, "serial", [inner])])
    return Kernel("box_muller", [units, numbers, result], [blocks], [], [loop])
