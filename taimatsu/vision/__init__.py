"""Image datasets and transforms, under the names of torchvision."""

from taimatsu.vision import datasets, transforms, utils

__all__ = ["datasets", "transforms", "utils"]
