"""Carries out recorded programs: the one place that joins the compiler and the runtime."""

from __future__ import annotations

from taimatsu.evaluate.interpreter import execute
from taimatsu.evaluate.statistics import STATISTICS

__all__ = ["STATISTICS", "execute"]
