"""Image datasets."""

from taimatsu.vision.datasets.digits import Digits
from taimatsu.vision.datasets.folder import DatasetFolder, ImageFolder
from taimatsu.vision.datasets.mnist import KMNIST, MNIST, FashionMNIST
from taimatsu.vision.datasets.vision import VisionDataset

__all__ = [
    "KMNIST",
    "MNIST",
    "DatasetFolder",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "VisionDataset",
]
