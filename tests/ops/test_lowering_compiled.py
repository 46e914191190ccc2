"""Elementwise rules as machine code: whole vectors and their tails give what the references give.

Samples are smaller than a vector, so their values are repeated; programs as users write them are
compared elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ops.lowering import Call, Lowered, assert_close, magnitude
from ops.test_lowering import CANCELLING, ENTRIES, calls_of, quiet  # noqa: F401 (a fixture)
from schedule_runner import compiled

from taimatsu import dtypes
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES
from taimatsu.ir.meta import meta
from taimatsu.ops import REGISTRY
from taimatsu.ops.elementwise import Elementwise

COUNT = 150  # several vectors of every width, and a rest


def is_lowered(call: Call) -> bool:
    described = [m for m in (*call.metas, *call.outs) if m is not None]
    return (
        isinstance(call.operation, Elementwise)
        and all(m.dtype.name in SIZES for m in described)
        and call.outs[0].numel > 0
        and Lowered(call).made is not None
    )


def kinds(call: Call) -> tuple:
    """What decides the code: dtypes, attributes, numbers that are part of the program."""
    fixed = [repr(x) if s else type(x) for x, s in zip(call.inputs, call.static, strict=True)]
    dtypes = [m and m.dtype.name for m in call.metas]
    special = any(
        isinstance(x, np.ndarray) and x.dtype.kind == "f" and not np.isfinite(x).all()
        for x in call.inputs
    )
    return (call.operation.name, repr(call.attributes), *fixed, *dtypes, special)


def repeated(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The elements, broadcast to a shape, again and again."""
    flat = np.broadcast_to(array, shape).reshape(-1)
    return np.concatenate([flat] * -(-COUNT // flat.size))


def assert_compiles(call: Call) -> None:
    """The code of a call's rule gives the results."""
    shape = tuple(call.outs[0].shape)
    operands = list(zip(call.inputs, call.metas, call.static, strict=True))
    arrays = {k: repeated(x, shape) for k, (x, m, _) in enumerate(operands) if m is not None}
    numbers = [x for x, m, static in operands if m is None and x is not None and not static]
    wanted = repeated(call.results[0], shape)
    metas = tuple([m and meta(wanted.shape, m.dtype) for m in call.metas])
    outs = (meta(wanted.shape, call.outs[0].dtype),)

    def inputs(source: Any) -> Iterator[Any]:
        place = 0
        for slot, (x, m, static) in enumerate(operands):
            if m is not None:
                yield source.window(slot)
            elif static or x is None:
                yield x
            else:
                yield ex.number(place, "float64" if isinstance(x, float) else "int64")
                place += 1

    def write(b: Any, source: Any) -> list:
        made = call.operation.stages(b, tuple(inputs(source)), call.attributes, metas, outs)
        return [b.stage(part) for part in made]

    scale = magnitude(call) if call.operation.name in CANCELLING else 0.0
    found = compiled(write, arrays, numbers=numbers).values[0]
    assert_close(np.asarray(found), wanted, scale)


# Composites that call building blocks which no elementwise operation's samples call.
BLOCKS = {"prelu", "to", "float", "half", "bfloat16", "int", "long", "short", "byte", "bool"}
ELEMENTWISE = [
    p
    for p in ENTRIES
    if p.id in BLOCKS or (isinstance(p.values[0], Elementwise) and p.values[0].lower is not None)
]


@pytest.mark.parametrize("entry", ELEMENTWISE)
def test_code_gives_what_references_give(entry: Any) -> None:
    once = {kinds(call): call for call in calls_of(entry) if is_lowered(call)}
    for call in once.values():
        try:
            assert_compiles(call)
        except AssertionError as error:
            error.add_note(f"{kinds(call)}")
            raise


@pytest.mark.parametrize("floating", ["float32", "float64", "float16", "bfloat16"])
def test_dropout_draws_the_reference_bits(floating: str) -> None:
    operation: Any = REGISTRY["dropout_by_key"]
    kind = getattr(dtypes, floating)
    x = np.linspace(1, 2, 1003).astype(kind.numpy).reshape(17, 59)
    described = meta(x.shape, kind)
    key = (-0x123456789ABCDEF, (1 << 32) - 7)  # the counter passes into its upper word
    attributes = {"p": 0.3, "feature": False}

    def write(b: Any, source: Any) -> list:
        numbers = [ex.number(0, "int64"), ex.number(1, "int64")]
        inputs = (source.window(0), *numbers)
        return list(operation.stages(b, inputs, attributes, (described, None, None), (described,)))

    (wanted,) = operation.evaluate((x, *key), attributes, (described, None, None), (described,))
    found = compiled(write, {0: x}, numbers=key).values[0]
    assert 0.25 < np.mean(wanted.astype(np.float64) == 0) < 0.35
    np.testing.assert_array_equal(np.asarray(found, np.float64), wanted.astype(np.float64))
