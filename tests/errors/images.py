"""Images: transforms and data sets of `torchvision`."""

from __future__ import annotations

import numpy as np
from errors.corpus import torch, wrong

from taimatsu.vision import datasets, transforms


@wrong(TypeError, "PIL Image or ndarray", "Tensor", "no ToTensor", parity=False)
def tensor_into_to_tensor():
    """`ToTensor` of a tensor."""
    transforms.ToTensor()(torch.zeros(3, 4, 4))


@wrong(ValueError, "2/3 dimensional", "4", "one image", parity=False)
def batch_into_to_tensor():
    """`ToTensor` of a batch of images."""
    transforms.ToTensor()(np.zeros((2, 4, 4, 3), np.uint8))


@wrong(TypeError, "float tensor", "torch.uint8", "ToTensor", parity=False)
def normalize_of_bytes():
    """`Normalize` of an image of bytes."""
    transforms.Normalize((0.5,), (0.5,))(torch.zeros(1, 4, 4, dtype=torch.uint8))


@wrong(TypeError, "Tensor Image", "ndarray", "ToTensor", parity=False)
def normalize_before_to_tensor():
    """`Normalize` before `ToTensor`."""
    transforms.Normalize((0.5,), (0.5,))(np.zeros((4, 4, 1), np.float32))


@wrong(ValueError, "zero", "std=(0.0,)", "positive", parity=False)
def normalize_by_zero():
    """`Normalize` by a standard deviation of zero."""
    transforms.Normalize((0.5,), (0.0,))(torch.zeros(1, 4, 4))


@wrong(RuntimeError, "must match", ("2 channels", "3"), "one mean and std for each", parity=False)
def normalize_of_other_channels():
    """`Normalize` with the means of three channels on a grey image."""
    transform = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    transform(torch.zeros(2, 4, 4))


@wrong(RuntimeError, "Dataset not found", "no-such-folder", "download=True", parity=False)
def dataset_not_downloaded():
    """A data set that was not downloaded."""
    datasets.MNIST("no-such-folder", download=False)


@wrong(ValueError, "crop size (32, 32)", "(8, 8)", "pad_if_needed", parity=False)
def crop_larger_than_the_image():
    """A random crop larger than the image."""
    transforms.RandomCrop(32)(torch.zeros(3, 8, 8))


@wrong(TypeError, "ToTensor", "takes no arguments", parity=False)
def transform_not_made():
    """A transform's class where an instance is meant: Python's own error."""
    transforms.Compose([transforms.ToTensor])(np.zeros((4, 4), np.uint8)).mean()


@wrong(TypeError, "PIL Image or Tensor Image", "ndarray", "Image.fromarray", parity=False)
def resize_of_an_array():
    """`Resize` of a NumPy array."""
    transforms.Resize(8)(np.zeros((4, 4, 3), np.uint8))
