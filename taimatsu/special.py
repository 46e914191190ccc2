"""Special functions: every operation with a public name under ``special`` appears here."""

from __future__ import annotations

from taimatsu.bindings import FUNCTIONS

globals().update(FUNCTIONS["special"])

__all__ = sorted(FUNCTIONS["special"])
