"""Random programs as stages, fused and evaluated with NumPy: what the reference gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from compiler.stage_executor import StageExecutor
from recorder.programs import Program

import taimatsu
from taimatsu.evaluate import interpreter
from taimatsu.recorder.base import registered

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=[False, True], ids=["", "moving"])
def executor(request: pytest.FixtureRequest) -> Iterator[StageExecutor]:
    """Programs are carried out by stages during the test."""
    with StageExecutor(moving=request.param).installed() as made:
        yield made


def near(a: Any, b: Any) -> bool:
    """Equal but for rounding."""
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype
        return alike and np.allclose(a, b, rtol=2e-4, atol=2e-4, equal_nan=True)
    if isinstance(a, (tuple, list)):
        return isinstance(b, (tuple, list)) and len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, float):
        return isinstance(b, float) and bool(np.isclose(a, b, 1e-3, 1e-3, equal_nan=True))
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int, executor: StageExecutor) -> None:
    program = Program(seed)
    got = program.run(taimatsu)
    registered.execute = interpreter.execute
    want = program.run(taimatsu)
    assert executor.lowered
    assert len(got) == len(want)
    for a, b in zip(want, got, strict=True):
        assert near(a, b), (a, b)
