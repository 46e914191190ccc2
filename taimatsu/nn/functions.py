"""The functions outside ``nn.functional`` that modules are built with."""

from __future__ import annotations

from taimatsu.bindings import FUNCTIONS
from taimatsu.creation import empty, ones, tensor, zeros

__all__ = ["cat", "empty", "ones", "randperm", "stack", "tensor", "zeros"]

cat = FUNCTIONS[""]["cat"]
randperm = FUNCTIONS[""]["randperm"]
stack = FUNCTIONS[""]["stack"]
