"""Vectors by their norms: normalisation, and the cosine between two."""

from __future__ import annotations

from typing import Any

from taimatsu.dtypes import result_type
from taimatsu.errors import OperationError
from taimatsu.ops.base import Sample, array, composite
from taimatsu.shapes import broadcast_shapes


@composite(
    "nn.functional.normalize",
    samples=lambda: iter(
        [
            Sample(array(3, 4)),
            Sample(array(3, 4), 1.0, 0),
        ]
    ),
)
def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """x / max(norm(x, p), eps) along ``dim``."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps).expand_as(input)


@composite(
    "cosine_similarity",
    "nn.functional.cosine_similarity",
    methods=(),
    samples=lambda: iter(
        [
            Sample(array(3, 4), array(3, 4, seed=1)),
            Sample(array(2, 3, 4), array(3, 1, seed=1), -1),
        ]
    ),
)
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """The cosine of the angle between vectors along ``dim`` (norms at least ``eps``)."""
    kind = result_type(x1, x2)
    if not kind.is_floating_point:
        raise OperationError.make(
            "cosine_similarity",
            "expected common dtype to be floating point",
            f"yet common dtype is {kind.scalar_type}",
        )
    shape = broadcast_shapes(x1.shape, x2.shape)
    x1, x2 = (x.to(kind).expand(shape) for x in (x1, x2))
    units = [x / x.norm(2, dim, keepdim=True).clamp(min=eps) for x in (x1, x2)]
    return (units[0] * units[1]).sum(dim)
