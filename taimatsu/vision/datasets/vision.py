"""What image datasets have in common: a root folder, transforms, a readable description."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from taimatsu.utils.data import Dataset


class VisionDataset(Dataset):
    """Base of the image datasets.

    ``transforms`` takes and gives (image, target); ``transform`` and ``target_transform`` are for
    one of the two each. A subclass writes ``__getitem__`` and ``__len__``.
    """

    _repr_indent = 4

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        transforms: Callable | None = None,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
    ) -> None:
        self.root = os.path.expanduser(root) if isinstance(root, str) else root
        separate = transform is not None or target_transform is not None
        if transforms is not None and separate:
            raise ValueError(
                f"[{type(self).__name__}] Only transforms or transform/target_transform can be "
                "passed as argument, got both"
            )
        self.transform = transform
        self.target_transform = target_transform
        self.transforms = StandardTransform(transform, target_transform) if separate else transforms

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} should implement __getitem__.")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} should implement __len__.")

    def __repr__(self) -> str:
        body = [f"Number of datapoints: {len(self)}"]
        if self.root is not None:
            body.append(f"Root location: {self.root}")
        body += self.extra_repr().splitlines()
        if self.transforms is not None:
            body.append(repr(self.transforms))
        indent = " " * self._repr_indent
        return "\n".join([f"Dataset {type(self).__name__}", *(indent + line for line in body)])

    def extra_repr(self) -> str:
        """Further lines for the description."""
        return ""


class StandardTransform:
    """A transform for the image and one for the target, as one for both."""

    def __init__(
        self, transform: Callable | None = None, target_transform: Callable | None = None
    ) -> None:
        self.transform = transform
        self.target_transform = target_transform

    def __call__(self, input: Any, target: Any) -> tuple[Any, Any]:
        if self.transform is not None:
            input = self.transform(input)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return input, target

    def __repr__(self) -> str:
        body = [type(self).__name__]
        if self.transform is not None:
            body += _described("Transform: ", self.transform)
        if self.target_transform is not None:
            body += _described("Target transform: ", self.target_transform)
        return "\n".join(body)


def _described(head: str, transform: Callable) -> list[str]:
    first, *rest = repr(transform).splitlines()
    return [head + first, *(" " * len(head) + line for line in rest)]
