"""Dtypes that do not go together."""

from __future__ import annotations

import numpy as np
from errors.corpus import F, nn, torch, wrong


@wrong(RuntimeError, "same dtype", ("Double", "Float"), "x.to(torch.float32)")
def double_data_from_numpy():
    """NumPy's doubles into a layer of floats."""
    data = torch.from_numpy(np.zeros((5, 3)))
    layer = nn.Linear(3, 2)
    layer(data)


@wrong(RuntimeError, "same dtype", ("float", "long int"), "y.to(torch.float32)")
def product_of_floats_and_integers():
    """A matrix product of floats and integers."""
    torch.randn(2, 3) @ torch.ones(3, 4, dtype=torch.long)


@wrong(RuntimeError, "must be either a floating point or complex dtype", "Long", ".float()")
def mean_of_integers():
    """The mean of integers."""
    correct = torch.tensor([1, 0, 1])
    correct.mean()


@wrong(NotImplementedError, "expected a floating dtype", "Long", ".float()")
def softmax_of_integers():
    """Softmax of integers."""
    F.softmax(torch.tensor([1, 2, 3]), dim=0)


@wrong(RuntimeError, "can't be cast", ("Float", "Long"), "out-of-place")
def integers_divided_in_place():
    """Integers divided in place."""
    counts = torch.tensor([1, 2, 3])
    counts /= 2


@wrong(RuntimeError, "can't be cast", ("Float", "Long"), "convert")
def floats_added_to_integers_in_place():
    """Floats added in place to integers."""
    total = torch.zeros(3, dtype=torch.long)
    total += torch.randn(3)


@wrong(RuntimeError, "Subtraction, the `-` operator", "two bool tensors", "`^`")
def difference_of_masks():
    """The difference of two masks."""
    a = torch.tensor([True, False])
    b = torch.tensor([True, True])
    a - b


@wrong(RuntimeError, "bool", "`-` operator", "~")
def negated_mask():
    """A mask negated with `-`."""
    mask = torch.tensor([True, False])
    -mask


@wrong(TypeError, "integer and Boolean-type tensors", "torch.float32", "x.bool()")
def inverted_floats():
    """`~` of a mask of floats."""
    mask = torch.tensor([1.0, 0.0])
    ~mask


@wrong(RuntimeError, "should be the same", ("unsigned char", "Byte"), ".float()")
def bytes_into_a_convolution():
    """An image of bytes into a convolution."""
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    conv = nn.Conv2d(3, 4, 3)
    conv(image)


@wrong(RuntimeError, "Long, Int", "Float", ".long()")
def float_tokens():
    """Floats as the indices of an embedding."""
    tokens = torch.tensor([1.0, 2.0])
    embedding = nn.Embedding(10, 4)
    embedding(tokens)


@wrong(TypeError, "unsupported operand", "'str'")
def sum_with_text():
    """A number of text added to a tensor: Python's own error."""
    torch.ones(3) + "1"


@wrong(TypeError, "Tensor", "list", "torch.tensor")
def function_of_a_list():
    """A function of tensors given a list."""
    torch.sigmoid([0.5, 1.0])


@wrong(TypeError, "Tensor", "ndarray", "torch.from_numpy")
def function_of_an_array():
    """A function of tensors given a NumPy array."""
    image = np.zeros((3, 4), np.float32)
    F.relu(image)


@wrong(TypeError, "Tensor", "ndarray", "torch.from_numpy")
def layer_of_an_array():
    """A layer given a NumPy array."""
    layer = nn.Linear(3, 2)
    layer(np.zeros((5, 3), np.float32))


@wrong(NotImplementedError, "floating point", "ComplexFloat", ".abs()")
def comparison_of_complex():
    """Complex numbers compared by size."""
    z = torch.tensor([1 + 2j, 2 + 1j])
    z > 1


@wrong(TypeError, "BFloat16", "unsupported", ".float()")
def numpy_of_bfloat16():
    """A tensor of bfloat16 as a NumPy array."""
    torch.ones(3, dtype=torch.bfloat16).numpy()


@wrong(NotImplementedError, "floating dtype", "Long", "torch.float32")
def random_numbers_like_integers():
    """Normal random numbers in the dtype of integers."""
    torch.randn_like(torch.tensor([1, 2]))


@wrong(RuntimeError, "Invalid device string", "'float32'", "without quotes")
def to_a_misspelt_device():
    """`to` with a dtype in text."""
    torch.ones(3).to("float32")


@wrong(TypeError, "argument 'other' (position 2) must be Tensor", "NoneType", "torch.tensor(...)")
def function_of_a_missing_value():
    """A forgotten `return`: the function gave None."""

    def normalised(x):
        x / x.norm()

    weights = normalised(torch.ones(3))
    torch.atan2(torch.ones(3), weights)


@wrong(TypeError, "expected (", "got (Tensor of shape [2, 3], dims='rows')", "*dims")
def dimension_by_name():
    """A dimension given by a name that it does not have."""
    torch.flip(torch.ones(2, 3), dims="rows")
