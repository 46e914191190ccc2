"""Shapes that do not fit: broadcasting, reshaping, joining, products of matrices."""

from __future__ import annotations

from errors.corpus import torch, wrong


@wrong(RuntimeError, "must match", ("3", "4", "dimension 1"), "unsqueeze")
def shapes_do_not_broadcast():
    """Elementwise arithmetic on shapes that do not broadcast."""
    prediction = torch.randn(2, 3)
    target = torch.randn(2, 4)
    prediction - target


@wrong(RuntimeError, "doesn't match", ("[3]", "[2, 3]"), "out-of-place")
def inplace_would_grow():
    """An in-place sum that is larger than the tensor."""
    total = torch.zeros(3)
    total += torch.ones(2, 3)


@wrong(RuntimeError, "invalid for input of size", ("[4, 4]", "12"), "-1")
def view_of_wrong_size():
    """`view` into a shape of another number of elements."""
    x = torch.randn(3, 4)
    x.view(4, 4)


@wrong(RuntimeError, "invalid for input of size", ("[5, -1]", "12"), "multiple")
def view_that_does_not_divide():
    """`-1` where the other extents do not divide the number of elements."""
    x = torch.randn(3, 4)
    x.view(5, -1)


@wrong(RuntimeError, "only one dimension can be inferred", "[-1, -1]", "the others")
def two_unknown_extents():
    """Two extents left to be inferred."""
    torch.randn(3, 4).reshape(-1, -1)


@wrong(RuntimeError, "view size is not compatible", "stride", "reshape")
def view_of_a_transpose():
    """`view` of a tensor whose rows are not contiguous."""
    x = torch.randn(3, 4).t()
    x.view(12)


@wrong(RuntimeError, "Sizes of tensors must match except in dimension 0", ("3", "4"), "dim=1")
def cat_along_the_wrong_dimension():
    """`cat` of tensors that differ in another dimension."""
    a = torch.randn(2, 3)
    b = torch.randn(2, 4)
    torch.cat([a, b])


@wrong(RuntimeError, "same number of dimensions", ("2", "1"), "unsqueeze")
def cat_of_row_and_matrix():
    """`cat` of a matrix and a vector."""
    torch.cat([torch.randn(2, 3), torch.randn(3)])


@wrong(ValueError, "non-empty", "an empty one", "at least one")
def cat_of_nothing():
    """`cat` of an empty list, as after a loop that never ran."""
    outputs = []
    torch.cat(outputs)


@wrong(TypeError, "tuple of Tensors", "Tensor", "[")
def cat_of_two_arguments():
    """`cat` of tensors that are not in a list."""
    a = torch.randn(2)
    b = torch.randn(2)
    torch.cat(a, b)


@wrong(RuntimeError, "stack expects each tensor to be equal size", ("[3]", "[4]"), "pad")
def stack_of_unequal_sizes():
    """`stack` of sequences of unequal length."""
    torch.stack([torch.randn(3), torch.randn(4)])


@wrong(RuntimeError, "cannot be multiplied", ("2x3", "2x4"), "transpose")
def matrices_do_not_chain():
    """A matrix product whose inner extents differ."""
    torch.randn(2, 3) @ torch.randn(2, 4)


@wrong(RuntimeError, "must be a matrix", "3D", "matmul")
def mm_of_a_batch():
    """`mm` of a batch of matrices."""
    torch.mm(torch.randn(5, 2, 3), torch.randn(3, 4))


@wrong(RuntimeError, "3D", "2", "matmul")
def bmm_of_matrices():
    """`bmm` of plain matrices."""
    torch.bmm(torch.randn(2, 3), torch.randn(3, 4))


@wrong(RuntimeError, "batch", ("[5, 3, 4]", "6"), "batch")
def bmm_of_other_batch():
    """`bmm` of batches of unequal length."""
    torch.bmm(torch.randn(6, 2, 3), torch.randn(5, 3, 4))


@wrong(RuntimeError, "1D tensors expected", "2D", "matmul")
def dot_of_matrices():
    """`dot`, which is for vectors, of matrices."""
    torch.dot(torch.randn(2, 2), torch.randn(2, 2))


@wrong(RuntimeError, "same number of elements", ("3", "4"), "vector")
def dot_of_unequal_vectors():
    """`dot` of vectors of unequal length."""
    torch.dot(torch.randn(3), torch.randn(4))


@wrong(RuntimeError, "at least 1D", "0D", "*")
def matmul_with_a_number():
    """A matrix product with a single number."""
    torch.randn(2, 3) @ torch.tensor(2.0)


@wrong(RuntimeError, "does not broadcast", ("3", "4"), "einsum")
def einsum_extents_differ():
    """One letter of an einsum equation for two extents."""
    torch.einsum("ij,jk->ik", torch.randn(2, 3), torch.randn(4, 5))


@wrong(RuntimeError, "number of subscripts", ("3", "2"), "letter")
def einsum_too_many_letters():
    """More letters than dimensions in an einsum equation."""
    torch.einsum("bij,bjk->bik", torch.randn(2, 3), torch.randn(3, 4))


@wrong(RuntimeError, "output subscript", "z", "input")
def einsum_unknown_letter():
    """An output letter that no input has."""
    torch.einsum("ij->iz", torch.randn(2, 3))


@wrong(RuntimeError, "fewer operands", ("1", "2"), "comma")
def einsum_missing_operand():
    """An einsum equation of two operands with one tensor."""
    torch.einsum("ij,jk->ik", torch.randn(2, 3))


@wrong(RuntimeError, "must match the existing size (3)", "4", "size 1")
def expand_of_a_real_extent():
    """`expand` of a dimension that has more than one element."""
    torch.randn(3, 1).expand(4, 5)


@wrong(RuntimeError, "number of sizes provided", ("1", "2"), "-1")
def expand_to_fewer_dimensions():
    """`expand` to fewer dimensions."""
    torch.randn(3, 1).expand(3)


@wrong(RuntimeError, "number of dimensions", ("2", "3"), "every dimension")
def permute_of_some_dimensions():
    """`permute` that does not name every dimension."""
    torch.randn(2, 3, 4).permute(1, 0)


@wrong(RuntimeError, "duplicate", "0", "each dimension once")
def permute_names_one_twice():
    """`permute` that names a dimension twice."""
    torch.randn(2, 3).permute(0, 0)


@wrong(RuntimeError, "<= 2 dimensions", "3", "transpose")
def t_of_a_batch():
    """`.t()` of a batch of matrices."""
    torch.randn(5, 2, 3).t()


@wrong(IndexError, "expected to be in range of [-2, 1]", "got 2", "count from 0")
def sum_over_a_missing_dimension():
    """A reduction over a dimension that is not there."""
    torch.randn(3, 4).sum(dim=2)


@wrong(IndexError, "[-2, 1]", "got 2", "count from 0")
def argmax_over_a_missing_dimension():
    """`argmax` over a dimension that is not there."""
    logits = torch.randn(3, 10)
    logits.argmax(dim=2)


@wrong(IndexError, "[-3, 2]", "got 5", "count from 0")
def unsqueeze_too_far():
    """`unsqueeze` beyond the last place."""
    torch.randn(3, 4).unsqueeze(5)


@wrong(RuntimeError, "k", ("5", "3"), "at most")
def topk_of_too_many():
    """Top-5 of three classes."""
    torch.randn(2, 3).topk(5)


@wrong(RuntimeError, "reduction dim to be specified", "numel() == 0", "dim")
def maximum_of_nothing():
    """The maximum of an empty selection."""
    scores = torch.randn(4)
    scores[scores > 100].max()


@wrong(RuntimeError, "split_with_sizes expects split_sizes to sum exactly to 10", "9", "sum")
def split_that_does_not_add_up():
    """Pieces that do not add up to the whole."""
    torch.arange(10).split([4, 5])


@wrong(ValueError, "expected 3", "got 2")
def too_many_names_for_a_split():
    """More names than there are pieces: Python's own error."""
    x = torch.randn(4, 6)
    query, key, value = x.chunk(2, dim=1)


@wrong(RuntimeError, "repeat", ("1", "2"), "dimension")
def repeat_with_too_few_counts():
    """`repeat` with fewer counts than dimensions."""
    torch.randn(2, 3).repeat(2)
