"""The functions of neural networks.

Every operation with a public name under ``nn.functional`` appears here by itself.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from taimatsu.bindings import FUNCTIONS
from taimatsu.creation import zeros_like
from taimatsu.tensor import Tensor

globals().update(FUNCTIONS["nn.functional"])

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


__all__ = sorted({*FUNCTIONS["nn.functional"], "gumbel_softmax"})


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """Differentiable samples of the categories that ``logits`` weigh (Jang et al., 2017).

    Noise from the Gumbel distribution is added and a softmax at temperature ``tau`` taken along
    ``dim``; with ``hard`` the result is one-hot, with the soft sample's gradient.
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    noise = -zeros_like(logits).exponential_().log()
    soft = ((logits + noise) / tau).softmax(dim)
    if not hard:
        return soft
    chosen = soft.max(dim, keepdim=True)[1]
    one_hot = zeros_like(logits).scatter_(dim, chosen, 1.0)
    return one_hot - soft.detach() + soft
