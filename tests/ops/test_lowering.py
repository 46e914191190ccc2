"""Lowering rules give what the references give: for every call that samples of the registry make.

The cases come from ``REGISTRY``; an operation that gets a ``lower`` is tested from then on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ops.lowering import Call, assert_lowers, collected
from ops.test_registry import call, public_name, samples_of, weighted

import taimatsu
from taimatsu.errors import OperationError
from taimatsu.ops import REGISTRY
from taimatsu.ops.elementwise import Elementwise

# Elementwise operations whose terms cancel: right to the rounding of the terms.
CANCELLING = {"logaddexp", "logaddexp2", "log_sigmoid", "gelu", "lgamma", "mvlgamma", "digamma"}
CANCELLING |= {"bessel_y0", "bessel_y1", "airy_ai"}  # near zeros; SciPy's Ai is coarser yet
HALVES = ("float16", "bfloat16")
ENTRIES = [
    pytest.param(e, id=name)
    for name, e in sorted(REGISTRY.items())
    if samples_of(e) and public_name(e)
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def calls_of(entry: Any) -> list[Call]:
    """What the samples of an entry carry out, each kind of call once; gradients included."""
    with collected() as calls:
        for sample in samples_of(entry):
            for floating in (*sample.dtypes, *HALVES):
                try:
                    run(entry, sample, floating)
                except (OperationError, NotImplementedError):
                    assert floating in HALVES, f"{sample!r} in {floating}"
    once: dict[tuple, Call] = {}
    for each in calls:
        if not each.operation.view:
            key = (each.operation.name, repr(each.attributes), each.metas, repr_numbers(each))
            once.setdefault(key, each)
    return list(once.values())


def repr_numbers(each: Call) -> tuple:
    return tuple([repr(x) for x, m in zip(each.inputs, each.metas, strict=True) if m is None])


def run(entry: Any, sample: Any, floating: str) -> None:
    leaves: list = []
    wants = entry.differentiable and sample.grad and floating.startswith(("float", "bfloat"))
    made = call(taimatsu, public_name(entry), sample, floating, leaves if wants else None)
    if wants:
        total = weighted(taimatsu, made)
        if total is not None:
            total.backward()


@pytest.mark.parametrize("entry", ENTRIES)
def test_stages_give_what_references_give(entry: Any) -> None:
    rules = 0
    for each in calls_of(entry):
        operation = each.operation
        summed = operation.name in CANCELLING or not isinstance(operation, Elementwise)
        rules += assert_lowers(each, summed)
    if not rules:
        pytest.skip("nothing of this is lowered")


@pytest.mark.parametrize("floating", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 5, 2)])
def test_dropout_draws_the_reference_bits(floating: str, shape: tuple[int, ...]) -> None:
    """Masks of stages are those of the reference, wherever the counter stands."""
    taimatsu.manual_seed(-3)
    x = taimatsu.rand(shape).to(getattr(taimatsu, floating)) + 1
    calls = 0
    with collected() as found:
        for p in (0.1, 0.5, 0.9):
            taimatsu.nn.functional.dropout(x, p)
            taimatsu.nn.functional.alpha_dropout(x, p, training=True)
            if len(shape) > 1:
                taimatsu.feature_dropout(x, p, True)
    for each in found:
        if each.operation.name in ("dropout_by_key", "dropout_mask"):
            calls += assert_lowers(each, False, assert_equal)
    assert calls == (9 if len(shape) > 1 else 6)


def assert_equal(found: Any, wanted: Any, scale: float) -> None:
    np.testing.assert_array_equal(found.astype(np.float64), wanted.astype(np.float64))
