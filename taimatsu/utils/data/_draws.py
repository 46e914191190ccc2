"""Random numbers for samplers, as Python numbers; in PyTorch's order for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu import creation, dtypes
from taimatsu.generator import Generator
from taimatsu.ops.base import REGISTRY
from taimatsu.tensor import Tensor


def seed(generator: Any = None) -> int:
    """A fresh seed: one 63-bit draw from ``generator`` or the default one."""
    empty = creation.empty((), dtype=dtypes.int64)
    return int(empty.random_(generator=generator).item())


def generator_with_seed(value: int) -> Generator:
    generator = Generator()
    generator.manual_seed(value)
    return generator


def randperm(count: int, generator: Any = None) -> list[int]:
    """0 to ``count - 1`` in random order."""
    return REGISTRY["randperm"](count, generator=generator).tolist()


def randint(high: int, count: int, generator: Any = None) -> list[int]:
    """``count`` integers from 0 to ``high - 1``."""
    drawn = REGISTRY["randint"](0, high, (count,), dtype=dtypes.int64, generator=generator)
    return drawn.tolist()


def doubles(values: Sequence[float]) -> Tensor:
    return creation.as_tensor(values, dtype=dtypes.float64)


def multinomial(weights: Tensor, count: int, replacement: bool, generator: Any) -> list[int]:
    drawn = REGISTRY["multinomial"](weights, count, replacement, generator=generator)
    return drawn.tolist()
