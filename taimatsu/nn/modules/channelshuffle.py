"""Interleaving the channels of groups."""

from __future__ import annotations

from taimatsu.nn import functional as F
from taimatsu.nn.modules.module import Module
from taimatsu.tensor import Tensor

__all__ = ["ChannelShuffle"]


class ChannelShuffle(Module):
    """Interleaves the channels of ``groups`` groups (Zhang et al., 2018)."""

    groups: int

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
