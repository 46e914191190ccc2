"""Random numbers on NumPy arrays: PyTorch's CPU generator, and Philox for compiled code."""

from __future__ import annotations

from taimatsu.generator.philox import philox_uniform
from taimatsu.generator.state import (
    Generator,
    default_generator,
    dropout_draws,
    initial_seed,
    manual_seed,
    seed,
)

__all__ = [
    "Generator",
    "default_generator",
    "dropout_draws",
    "initial_seed",
    "manual_seed",
    "philox_uniform",
    "seed",
]
