"""MNIST and the datasets that come in its format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from taimatsu.recorder import constant
from taimatsu.recorder import value as value_of
from taimatsu.tensor import Tensor
from taimatsu.vision.datasets.vision import VisionDataset
from taimatsu.vision.download import check_integrity, download_from_mirrors, extract_gzip
from taimatsu.vision.idx import read_idx
from taimatsu.vision.images import image_of

_SIDE = 28


class MNIST(VisionDataset):
    """Handwritten digits, 28 by 28: 60,000 for training, 10,000 for testing.

    Items are (image, label): a PIL image of mode "L" and an int, after the transforms. ``data`` is
    a uint8 tensor (N, 28, 28) and ``targets`` an int64 tensor (N).

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document
    recognition. Proc. IEEE 86 (1998).

    Args:
        root: the folder that holds ``MNIST/raw`` with the four IDX files (plain or ``.gz``).
        train: the training part, or else the test part.
        transform: for images.
        target_transform: for labels.
        download: fetches the files that are not there.

    Raises:
        RuntimeError: when the files are not there, or cannot be downloaded.
        ValueError: for files that are damaged.
    """

    mirrors: ClassVar[list[str]] = [
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ]
    resources: ClassVar[list[tuple[str, str]]] = [
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ]
    classes: list[str] = [
        "0 - zero",
        "1 - one",
        "2 - two",
        "3 - three",
        "4 - four",
        "5 - five",
        "6 - six",
        "7 - seven",
        "8 - eight",
        "9 - nine",
    ]

    data: Tensor
    targets: Tensor

    def __init__(
        self,
        root: str | os.PathLike,
        train: bool = True,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.train = train
        if download:
            self.download()
        if not self._check_exists():
            raise RuntimeError(
                f"[{type(self).__name__}] Dataset not found. You can use download=True to download "
                f"it; expected the files of {self.raw_folder}"
            )
        self.data, self.targets = self._load_data()

    def _load_data(self) -> tuple[Tensor, Tensor]:
        part = "train" if self.train else "t10k"
        return _load_pair(
            self._path(f"{part}-images-idx3-ubyte"), self._path(f"{part}-labels-idx1-ubyte")
        )

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = image_of(value_of(self.data)[int(index)])
        target = int(value_of(self.targets)[int(index)])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        return len(self.data)

    @property
    def raw_folder(self) -> str:
        return os.path.join(self.root, type(self).__name__, "raw")  # type: ignore[arg-type]

    @property
    def processed_folder(self) -> str:
        return os.path.join(self.root, type(self).__name__, "processed")  # type: ignore[arg-type]

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    def _path(self, name: str) -> str:
        """Where the file is: the plain one, else the compressed one, else where it belongs."""
        plain = os.path.join(self.raw_folder, name)
        if not os.path.isfile(plain) and os.path.isfile(plain + ".gz"):
            return plain + ".gz"
        return plain

    def _check_exists(self) -> bool:
        names = (name.removesuffix(".gz") for name, _ in self.resources)
        return all(check_integrity(self._path(name)) for name in names)

    def download(self) -> None:
        """Fetches the files that are not there, checks them and unpacks them."""
        os.makedirs(self.raw_folder, exist_ok=True)
        for name, md5 in self.resources:
            plain = os.path.join(self.raw_folder, name.removesuffix(".gz"))
            if os.path.isfile(plain):
                continue
            packed = download_from_mirrors(self.mirrors, name, self.raw_folder, md5)
            extract_gzip(packed, plain)

    def extra_repr(self) -> str:
        return f"Split: {'Train' if self.train else 'Test'}"

    def _renamed(self, old: str, new: str) -> Tensor:
        warnings.warn(f"{old} has been renamed {new}", stacklevel=3)
        return getattr(self, new)

    @property
    def train_data(self) -> Tensor:
        return self._renamed("train_data", "data")

    @property
    def test_data(self) -> Tensor:
        return self._renamed("test_data", "data")

    @property
    def train_labels(self) -> Tensor:
        return self._renamed("train_labels", "targets")

    @property
    def test_labels(self) -> Tensor:
        return self._renamed("test_labels", "targets")


class FashionMNIST(MNIST):
    """Zalando's articles of clothing in MNIST's format (H. Xiao et al., arXiv:1708.07747)."""

    mirrors: ClassVar[list[str]] = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"]
    resources: ClassVar[list[tuple[str, str]]] = [
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ]
    classes: list[str] = [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ]


class KMNIST(MNIST):
    """Cursive Japanese characters in MNIST's format (T. Clanuwat et al., arXiv:1812.01718)."""

    mirrors: ClassVar[list[str]] = ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"]
    resources: ClassVar[list[tuple[str, str]]] = [
        ("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
        ("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
        ("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
        ("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134"),
    ]
    classes: list[str] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


def _load_pair(images_path: str, labels_path: str) -> tuple[Tensor, Tensor]:
    """Images and labels of one part; says so where they do not fit together."""
    images = read_idx(images_path, ndim=3, dtype=np.uint8)
    labels = read_idx(labels_path, ndim=1, dtype=np.uint8)
    if len(images) != len(labels):
        raise ValueError(
            f"[MNIST] expected as many labels as images, got {len(images)} images in {images_path} "
            f"and {len(labels)} labels in {labels_path}"
        )
    if images.shape[1:] != (_SIDE, _SIDE):
        raise ValueError(
            f"[MNIST] {images_path}: expected images of {_SIDE} by {_SIDE}, got "
            f"{images.shape[1]} by {images.shape[2]}"
        )
    return constant(images), constant(labels.astype(np.int64))
