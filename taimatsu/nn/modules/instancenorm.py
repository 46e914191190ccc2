"""Instance normalisation over one, two or three spatial dimensions."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from taimatsu.nn import functional as F
from taimatsu.nn.modules.batchnorm import _NormBase
from taimatsu.tensor import Tensor

__all__ = ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"]


class _InstanceNorm(_NormBase):
    """Normalisation of each sample and channel by itself (Ulyanov et al., 2016)."""

    spatial_dims: ClassVar[int]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def _check_input_dim(self, input: Tensor) -> None:
        unbatched = self.spatial_dims + 1
        if input.dim() not in (unbatched, unbatched + 1):
            raise ValueError(
                f"expected {unbatched}D or {unbatched + 1}D input (got {input.dim()}D input)"
            )

    def _check_channels(self, input: Tensor) -> None:
        channels = input.size(-self.spatial_dims - 1)
        if channels == self.num_features:
            return
        if self.affine:
            raise ValueError(
                f"expected input's size at dim={input.dim() - self.spatial_dims - 1} to match "
                f"num_features ({self.num_features}), but got: {channels}."
            )
        warnings.warn(
            f"input's size at dim={input.dim() - self.spatial_dims - 1} does not match "
            "num_features. You can silence this warning by not passing in num_features, which "
            "is not used because affine=False",
            stacklevel=4,
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        self._check_channels(input)
        if input.dim() == self.spatial_dims + 1:
            return self._normalise(input.unsqueeze(0)).squeeze(0)
        return self._normalise(input)

    def _normalise(self, input: Tensor) -> Tensor:
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Normalises (N, C, L) or (C, L) per sample and channel (Ulyanov et al., 2016)."""

    spatial_dims = 1


class InstanceNorm2d(_InstanceNorm):
    """Normalises (N, C, H, W) or (C, H, W) per sample and channel (Ulyanov et al., 2016)."""

    spatial_dims = 2


class InstanceNorm3d(_InstanceNorm):
    """Normalises (N, C, D, H, W) or (C, D, H, W) per sample and channel (Ulyanov et al., 2016)."""

    spatial_dims = 3
