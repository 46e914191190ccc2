"""What is known of a tensor without its values: dtype, shape, strides, device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taimatsu.dtypes import dtype
from taimatsu.shapes import Size, contiguous_strides, count, is_contiguous


class Meta:
    """The static description of a tensor; interned, so that identity is equality.

    ``dynamic`` says that the storage offset is a runtime argument (views made by slices and
    integer indices), so that a moving window keeps one description. ``wrapped`` marks a Python
    number standing as a tensor: it takes no part in dtype promotion beyond its category.
    """

    __slots__ = (
        "shape",
        "dtype",
        "strides",
        "dynamic",
        "wrapped",
        "ndim",
        "numel",
        "contiguous",
        "views",
    )

    shape: Size
    dtype: dtype
    strides: tuple[int, ...]
    dynamic: bool
    wrapped: bool
    ndim: int
    numel: int
    contiguous: bool  # rows follow one another without gaps (the offset does not matter)
    views: dict  # memo of view rules: see remember()

    def __repr__(self) -> str:
        dims = ", ".join(map(str, self.shape))
        tail = "" if self.contiguous else f" strides {self.strides}"
        return f"{self.dtype.name}[{dims}]{tail}{' +offset' if self.dynamic else ''}"

    def remember(self, key: tuple, compute: Callable, *arguments: Any) -> Any:
        """``compute(self, *arguments)``, done once for each key."""
        found = self.views.get(key, self)
        if found is self:
            found = compute(self, *arguments)
            if len(self.views) >= _VIEWS_LIMIT:
                self.views.clear()
            self.views[key] = found
        return found

    def size(self, dim: int) -> int:
        return self.shape[dim]

    def __reduce__(self) -> tuple:
        return meta, (tuple(self.shape), self.dtype, self.strides, self.dynamic, self.wrapped)


_interned: dict[tuple, Meta] = {}
_VIEWS_LIMIT = 4096
_INTERN_LIMIT = 1 << 16


def meta(
    shape: Sequence[int],
    dtype: dtype,
    strides: tuple[int, ...] | None = None,
    dynamic: bool = False,
    wrapped: bool = False,
) -> Meta:
    """The one ``Meta`` with these properties; row-major strides unless given."""
    shape = tuple(shape)
    if strides is None:
        strides = contiguous_strides(shape)
    key = (shape, dtype, strides, dynamic, wrapped)
    found = _interned.get(key)
    if found is not None:
        return found
    if len(_interned) >= _INTERN_LIMIT:
        _interned.clear()  # identity is only an optimisation: equal descriptions may meet again
    made = Meta()
    made.shape = Size(shape)
    made.dtype = dtype
    made.strides = strides
    made.dynamic = dynamic
    made.wrapped = wrapped
    made.ndim = len(shape)
    made.numel = count(shape)
    made.contiguous = is_contiguous(shape, strides)
    made.views = {}
    return _interned.setdefault(key, made)
