"""Indices that are out of range, of the wrong dtype or of the wrong shape."""

from __future__ import annotations

from errors.corpus import torch, wrong


@wrong(IndexError, "size 3", "index 3", "-3")
def index_past_the_end():
    """An index one past the end."""
    x = torch.arange(3)
    x[3]


@wrong(IndexError, "too many indices", ("2", "3"), "dimension")
def too_many_indices():
    """More indices than dimensions."""
    x = torch.zeros(2, 3)
    x[0, 1, 2]


@wrong(IndexError, "0-dim tensor", "invalid index", ".item()")
def index_of_a_number():
    """`loss[0]`, as programs of old wrote it."""
    loss = torch.tensor(0.5)
    loss[0]


@wrong(IndexError, "long", "torch.float32", ".long()")
def float_index():
    """A tensor of floats as index."""
    order = torch.tensor([0.0, 1.0])
    torch.arange(3)[order]


@wrong(IndexError, "mask [2]", "shape of the indexed tensor [3]", "same")
def mask_of_wrong_length():
    """A mask of another length than the tensor."""
    x = torch.arange(3)
    x[torch.tensor([True, False])]


@wrong(TypeError, "only integers, slices", "str", "columns have numbers", parity=False)
def text_index():
    """A column's name as index."""
    table = torch.zeros(3, 2)
    table["age"]


@wrong(IndexError, "only integers, slices", "float", "//")
def middle_by_division():
    """An index computed with `/`, which gives a float."""
    x = torch.arange(10)
    x[len(x) / 2]


@wrong(ValueError, "step", "-1", "flip")
def reversed_by_slice():
    """A slice with a negative step."""
    x = torch.arange(3)
    x[::-1]


@wrong(IndexError, "out of bounds", "index 5", "from -3 to 2")
def list_of_indices_out_of_range():
    """A list of indices of which one is out of range."""
    x = torch.arange(3)
    x[[0, 5]]


@wrong(IndexError, "broadcast", ("[2]", "[3]"), "shape")
def index_tensors_of_unequal_length():
    """Rows and columns of unequal number."""
    x = torch.zeros(4, 4)
    x[torch.tensor([0, 1]), torch.tensor([0, 1, 2])]


@wrong(RuntimeError, "must match", ("(3)", "(2)"), "aligned")
def assignment_of_wrong_length():
    """Two values written into three places."""
    x = torch.zeros(3)
    x[:] = torch.ones(2)


@wrong(RuntimeError, "out of bounds", "index 10", "from 0 to 3")
def gather_out_of_range():
    """`gather` with a label that no column has."""
    scores = torch.randn(2, 4)
    labels = torch.tensor([[1], [10]])
    scores.gather(1, labels)


@wrong(RuntimeError, "same number of dimensions", ("[2]", "[2, 4]"), "unsqueeze")
def gather_with_a_vector():
    """`gather` by labels that lack a dimension."""
    scores = torch.randn(2, 4)
    labels = torch.tensor([1, 3])
    scores.gather(1, labels)


@wrong(RuntimeError, "int32/int64 for index", "torch.float32", ".long()")
def gather_with_floats():
    """`gather` by floats."""
    scores = torch.randn(2, 4)
    scores.gather(1, torch.tensor([[1.0], [3.0]]))


@wrong(RuntimeError, "to be equal to src.dtype", ("torch.float32", "torch.int64"), ".to(")
def scatter_of_other_dtype():
    """`scatter_` of integers into floats."""
    onehot = torch.zeros(2, 4)
    labels = torch.tensor([[1], [3]])
    onehot.scatter_(1, labels, torch.ones(2, 1, dtype=torch.long))


@wrong(RuntimeError, "out of bounds", "index 4", "from 0 to 3")
def one_hot_by_scatter_out_of_range():
    """Labels counted from one, scattered into one-hot rows."""
    onehot = torch.zeros(2, 4)
    labels = torch.tensor([[1], [4]])
    onehot.scatter_(1, labels, 1.0)


@wrong(IndexError, "out of bounds", "index 3", "from 0 to 2")
def index_select_out_of_range():
    """`index_select` of a row that is not there."""
    torch.randn(3, 2).index_select(0, torch.tensor([0, 3]))


@wrong(RuntimeError, "Tensor with 3 elements", "Scalar", "reduce")
def item_of_many():
    """`item()` of a tensor of several elements."""
    losses = torch.randn(3)
    losses.item()


@wrong(RuntimeError, "ambiguous", "more than one value", ".any()")
def tensor_in_a_condition():
    """A tensor of several elements in a condition."""
    x = torch.tensor([1.0, -1.0])
    if x > 0:  # wrong
        x = -x


@wrong(RuntimeError, "ambiguous", "more than one value", "&")
def masks_joined_by_and():
    """Masks joined by `and` where `&` is meant."""
    x = torch.tensor([1.0, -1.0])
    x[x > 0 and x < 1]


@wrong(TypeError, "iteration", "0-d tensor", "x.item()")
def loop_over_a_number():
    """A loop over a single number."""
    for _ in torch.tensor(3.0):  # wrong
        pass


@wrong(TypeError, "0-d tensor", "len()", "numel")
def length_of_a_number():
    """The length of a single number."""
    len(torch.tensor(3.0))


@wrong(TypeError, "only integer tensors of a single element", "torch.float32", "int(x)")
def range_of_a_float_tensor():
    """A float tensor where Python wants an integer."""
    steps = torch.tensor(3.0)
    range(steps)
