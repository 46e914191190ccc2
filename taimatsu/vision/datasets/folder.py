"""Images sorted into one folder per class."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from taimatsu.vision.datasets.vision import VisionDataset
from taimatsu.vision.images import pillow

IMG_EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
)


def has_file_allowed_extension(filename: str, extensions: str | tuple[str, ...]) -> bool:
    return filename.lower().endswith(extensions)


def is_image_file(filename: str) -> bool:
    return has_file_allowed_extension(filename, IMG_EXTENSIONS)


def find_classes(directory: str | os.PathLike) -> tuple[list[str], dict[str, int]]:
    """The names of the folders in ``directory``, sorted, and their numbers."""
    classes = sorted(entry.name for entry in os.scandir(os.fspath(directory)) if entry.is_dir())
    if not classes:
        raise FileNotFoundError(
            f"[DatasetFolder] Couldn't find any class folder in {directory}; expected one folder "
            "per class"
        )
    return classes, {name: index for index, name in enumerate(classes)}


def pil_loader(path: str) -> Any:
    """The image in the file as a PIL image of mode RGB."""
    with open(path, "rb") as file:
        return pillow().open(file).convert("RGB")


default_loader = pil_loader


def make_dataset(
    directory: str | os.PathLike,
    class_to_idx: dict[str, int] | None = None,
    extensions: str | tuple[str, ...] | None = None,
    is_valid_file: Callable[[str], bool] | None = None,
    allow_empty: bool = False,
) -> list[tuple[str, int]]:
    """(path, class number) of every valid file below the class folders, in sorted order."""
    if (extensions is None) == (is_valid_file is None):
        raise ValueError(
            "[make_dataset] Both extensions and is_valid_file cannot be None or not None at the "
            "same time; pass one of them"
        )
    if class_to_idx is None:
        class_to_idx = find_classes(directory)[1]
    if not class_to_idx:
        raise ValueError("[make_dataset] 'class_to_index' must have at least one entry, got none")

    def valid(path: str) -> bool:
        if is_valid_file is not None:
            return is_valid_file(path)
        return has_file_allowed_extension(path, extensions)  # type: ignore[arg-type]

    samples: list[tuple[str, int]] = []
    empty = []
    for name in sorted(class_to_idx):
        paths = [p for p in _files_below(os.path.join(directory, name)) if valid(p)]
        samples += [(path, class_to_idx[name]) for path in paths]
        if not paths:
            empty.append(name)
    if empty and not allow_empty:
        raise FileNotFoundError(
            f"[make_dataset] Found no valid file for the classes {', '.join(sorted(empty))} in "
            f"{directory}" + (f"; supported extensions are: {extensions}" if extensions else "")
        )
    return samples


def _files_below(folder: str) -> Iterator[str]:
    for root, _, names in sorted(os.walk(folder, followlinks=True)):
        for name in sorted(names):
            yield os.path.join(root, name)


class DatasetFolder(VisionDataset):
    """Samples in files, ``root/<class>/.../<file>``; items are (sample, class number).

    Args:
        root: the folder with one folder per class.
        loader: makes a sample from a path.
        extensions: endings of the files that count; or ``is_valid_file``, which says it by path.
        allow_empty: accepts classes without a file.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        loader: Callable[[str], Any],
        extensions: tuple[str, ...] | None = None,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.classes, self.class_to_idx = self.find_classes(self.root)  # type: ignore[arg-type]
        self.loader = loader
        self.extensions = extensions
        self.samples = self.make_dataset(
            self.root,  # type: ignore[arg-type]
            self.class_to_idx,
            extensions,
            is_valid_file,
            allow_empty,
        )
        self.targets = [target for _, target in self.samples]

    make_dataset = staticmethod(make_dataset)

    def find_classes(self, directory: str | os.PathLike) -> tuple[list[str], dict[str, int]]:
        """The classes and their numbers; a subclass may choose others."""
        return find_classes(directory)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        sample = self.loader(path)
        if self.transform is not None:
            sample = self.transform(sample)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return sample, target

    def __len__(self) -> int:
        return len(self.samples)


class ImageFolder(DatasetFolder):
    """Images in files, ``root/<class>/.../<file>``; items are (PIL image, class number)."""

    def __init__(
        self,
        root: str | os.PathLike,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        loader: Callable[[str], Any] = default_loader,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(
            root,
            loader,
            IMG_EXTENSIONS if is_valid_file is None else None,
            transform=transform,
            target_transform=target_transform,
            is_valid_file=is_valid_file,
            allow_empty=allow_empty,
        )
        self.imgs = self.samples
