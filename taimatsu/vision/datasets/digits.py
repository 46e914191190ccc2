"""A small MNIST that comes with the package: nothing to download."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import numpy as np

from taimatsu.recorder import constant
from taimatsu.tensor import Tensor
from taimatsu.vision.datasets.mnist import MNIST
from taimatsu.vision.datasets.vision import VisionDataset
from taimatsu.vision.idx import read_idx
from taimatsu.vision.resample import resample

_FOLDER = os.path.join(os.path.dirname(__file__), "data")
_SIDE = 28
_BRIGHTEST = 16  # the files hold 0 to 16
_TEST_PER_CLASS = 36
_SPLIT_SEED = 0


class Digits(MNIST):
    """1797 handwritten digits with the interface of :class:`MNIST`; the files are in the package.

    The images, 8 by 8 with values 0 to 16, get a black border of one pixel (the digits touch the
    edges, MNIST's do not) and are enlarged from 10 by 10 to 28 by 28 by cubic interpolation, scaled
    to 0 to 255, rounded and clipped. The test part is 36 images of each class
    (360), chosen at random once for all; the other 1437 are the training part.

    E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning
    Repository (1998), https://doi.org/10.24432/C50P49, licensed CC BY 4.0.

    Args:
        root: accepted for the sake of programs written for MNIST; nothing is read or written there.
        train: the training part, or else the test part.
        transform: for images.
        target_transform: for labels.
        download: accepted; there is nothing to download.
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        train: bool = True,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
    ) -> None:
        VisionDataset.__init__(self, root, transform=transform, target_transform=target_transform)
        self.train = train
        self.data, self.targets = self._load_data()

    def _load_data(self) -> tuple[Tensor, Tensor]:
        images, labels = _images_and_labels()
        chosen = _train_and_test(labels)[0 if self.train else 1]
        return constant(images[chosen]), constant(labels[chosen].astype(np.int64))

    def _check_exists(self) -> bool:
        return True

    def download(self) -> None:
        """Does nothing: the files are in the package."""


@functools.cache
def _images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    small = read_idx(os.path.join(_FOLDER, "digits-images-idx3-ubyte.gz"), 3, np.uint8)
    labels = read_idx(os.path.join(_FOLDER, "digits-labels-idx1-ubyte.gz"), 1, np.uint8)
    framed = np.pad(small, ((0, 0), (1, 1), (1, 1)))
    large = resample(framed, _SIDE, _SIDE, "bicubic") * (255 / _BRIGHTEST)
    return np.clip(np.rint(large), 0, 255).astype(np.uint8), labels


def _train_and_test(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the two parts, in the order of the files."""
    # RandomState's numbers are the same in every release of NumPy; default_rng's need not be.
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[order[labels[order] == label][:_TEST_PER_CLASS]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
