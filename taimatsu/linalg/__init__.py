"""Linear algebra: every operation with a public name under ``linalg`` appears here by itself."""

from __future__ import annotations

from taimatsu.bindings import FUNCTIONS

globals().update(FUNCTIONS["linalg"])

__all__ = sorted(FUNCTIONS["linalg"])
