"""The functions of neural networks.

Every operation with a public name under ``nn.functional`` appears here by itself.
"""

from __future__ import annotations

from taimatsu.bindings import FUNCTIONS

globals().update(FUNCTIONS["nn.functional"])

__all__ = sorted(FUNCTIONS["nn.functional"])
