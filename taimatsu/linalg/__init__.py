"""Linear algebra: every operation with a public name under ``linalg`` appears here by itself."""

from __future__ import annotations

from taimatsu.bindings import FUNCTIONS
from taimatsu.errors import LinAlgError

globals().update(FUNCTIONS["linalg"])

__all__ = sorted([*FUNCTIONS["linalg"], LinAlgError.__name__])
