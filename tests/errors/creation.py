"""Tensors made wrongly: from ragged lists, text, arrays of objects; dtypes and devices."""

from __future__ import annotations

import numpy as np
from errors.corpus import torch, wrong


@wrong(ValueError, "expected sequence of length 3 at dim 1", "got 2", "pad")
def ragged_list():
    """Rows of unequal length."""
    rows = [[1, 2, 3], [4, 5]]
    torch.tensor(rows)


@wrong(ValueError, "too many dimensions 'str': expected numbers", "'1.0'", "float(text)")
def list_of_text():
    """Text among the numbers, as a CSV reader gives it."""
    row = ["1.0", "2.0"]
    torch.tensor(row)


@wrong(RuntimeError, "Could not infer dtype", "NoneType", "give numbers")
def missing_value():
    """A missing value as `None`."""
    measured = [1.0, None, 3.0]
    torch.tensor(measured)


@wrong(RuntimeError, "Could not infer dtype", "dict", "numbers")
def dictionary_of_values():
    """A dictionary instead of its values."""
    record = {"height": 1.7, "weight": 60.0}
    torch.tensor(record)


@wrong(TypeError, "expected np.ndarray", "list", "torch.tensor")
def from_numpy_of_a_list():
    """`from_numpy` of a list."""
    torch.from_numpy([1.0, 2.0])


@wrong(TypeError, "can't convert np.ndarray", "object", "astype")
def array_of_objects():
    """An array of dtype object, as pandas gives for mixed columns."""
    column = np.array([1.0, None], dtype=object)
    torch.from_numpy(column)


@wrong(TypeError, "can't convert np.ndarray", "str", "astype")
def array_of_text():
    """An array of text."""
    names = np.array(["cat", "dog"])
    torch.tensor(names)


@wrong(ValueError, "negative", "strides", "copy()")
def flipped_array():
    """A flipped NumPy array, whose strides are negative."""
    image = np.zeros((4, 4), np.float32)
    torch.from_numpy(image[::-1])


@wrong(RuntimeError, "device", "gpu", "cuda")
def device_called_gpu():
    """A device name that does not exist."""
    torch.zeros(3, device="gpu")


@wrong(TypeError, "torch.dtype", "str", "torch.float32")
def dtype_as_text():
    """A dtype given as text."""
    torch.zeros(3, dtype="float32")


@wrong(TypeError, "torch.dtype", "type", "torch.float32")
def dtype_of_numpy():
    """NumPy's dtype where PyTorch's is meant."""
    torch.zeros(3, dtype=np.float32)


@wrong(RuntimeError, "negative dimension", "-1", "0 or more")
def negative_extent():
    """A negative extent."""
    torch.zeros(2, -1)


@wrong(TypeError, "int", "2.0", "int(")
def extent_of_a_division():
    """An extent computed with `/`, which gives a float."""
    hidden = 4 / 2
    torch.zeros(3, hidden)


@wrong(TypeError, "int", "[1.0, 2.0]", "torch.tensor")
def zeros_of_data():
    """Data given where extents are meant."""
    torch.zeros([1.0, 2.0])


@wrong(RuntimeError, "floating point", "torch.int64", ".float()")
def integer_parameter():
    """Gradients wanted for integers."""
    torch.tensor([1, 2, 3], requires_grad=True)


@wrong(RuntimeError, "step sign", ("5", "0"), "negative step")
def arange_backwards():
    """`arange` downwards without a negative step."""
    torch.arange(5, 0)


@wrong(AttributeError, "no attribute", "'zeroes'", "Did you mean: 'zeros'")
def misspelt_function():
    """A misspelt function."""
    torch.zeroes(3)


@wrong(AttributeError, "no attribute", "'astype'", "x.to(dtype)")
def numpy_method():
    """A method of NumPy's arrays on a tensor."""
    x = torch.ones(3)
    x.astype("int64")


@wrong(RuntimeError, "'from' to be less than 'to'", "from=5 >= to=5", "the range of one number")
def empty_random_range():
    """Random integers from an empty range."""
    torch.randint(5, 5, (3,))


@wrong(RuntimeError, "element < 0", "-0.5", "softmax")
def multinomial_of_logits():
    """Sampling from scores that are no probabilities."""
    logits = torch.tensor([1.0, -0.5, 2.0])
    torch.multinomial(logits, 2)


@wrong(RuntimeError, "probabilities are from 0 to 1", "2.0", "sigmoid")
def bernoulli_of_scores():
    """Coin tosses from scores that are no probabilities."""
    scores = torch.tensor([0.5, 2.0])
    torch.bernoulli(scores)
