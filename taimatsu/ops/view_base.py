"""What views share: results on the input's storage, described by a layout and an offset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taimatsu import recorder
from taimatsu.ir.meta import Meta
from taimatsu.ops.base import Operation, Sample, array


class ViewOperation(Operation, abstract=True):
    """Base of views: ``layout`` gives the static description, ``shift`` the offset's change.

    Numbers that change from call to call (where a slice starts) are runtime integers: they come
    to ``shift`` and ``gradient`` as further positional arguments and stay out of the trie's keys.
    """

    view = True

    def layout(self, input: Meta, **attributes: Any) -> Meta:
        raise NotImplementedError

    def shift(self, input: Meta, *numbers: int, **attributes: Any) -> int:
        return 0

    def infer(self, input):
        raise AssertionError("views are not computed")

    def make(self, tensor: Any, *numbers: int, **attributes: Any) -> Any:
        return recorder.apply_view(self, tensor, numbers, attributes)


def shape_arguments(given: tuple) -> tuple[int, ...]:
    """``view(2, 3)``, ``view((2, 3))`` and ``view(torch.Size([2, 3]))`` alike."""
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = tuple(given[0])
    return tuple([n if type(n) is int else n.__index__() for n in given])


def view_samples(*shapes: tuple, size: tuple[int, ...] = (2, 3, 4)):
    def samples() -> Iterator[Sample]:
        for arguments in shapes:
            yield Sample(array(*size), *arguments)

    return staticmethod(samples)
