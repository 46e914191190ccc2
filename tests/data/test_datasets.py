"""Datasets and how they are joined, against what PyTorch's do."""

from __future__ import annotations

import pytest

import taimatsu
from taimatsu.utils.data import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)


class Squares(Dataset):
    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        return index * index

    def __len__(self):
        return self.count


class Many(Squares):
    """Counts how often it was asked for many samples at once."""

    calls = 0

    def __getitems__(self, indices):
        self.calls += 1
        return [self[i] for i in indices]


class Stream(IterableDataset):
    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


def test_tensor_dataset():
    x = taimatsu.arange(6).reshape(3, 2)
    y = taimatsu.tensor([7, 8, 9])
    dataset = TensorDataset(x, y)
    assert len(dataset) == 3
    row, label = dataset[1]
    assert row.tolist() == [2, 3]
    assert label.item() == 8
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        TensorDataset(x, y[:2])


def test_concat_dataset():
    joined = Squares(2) + Squares(0) + Squares(3)
    assert isinstance(joined, ConcatDataset)
    assert [joined[i] for i in range(len(joined))] == [0, 1, 0, 1, 4]
    assert joined[-1] == 4
    with pytest.raises(ValueError, match="absolute value of index should not exceed"):
        joined[-6]
    with pytest.raises(AssertionError, match="empty iterable"):
        ConcatDataset([])
    with pytest.raises(AssertionError, match="does not support IterableDataset"):
        ConcatDataset([Stream(1)])


def test_chain_dataset():
    joined = Stream(1, 2) + Stream(3)
    assert isinstance(joined, ChainDataset)
    assert list(joined) == [1, 2, 3]
    with pytest.raises(AssertionError, match="only supports IterableDataset"):
        list(ChainDataset([Squares(1)]))


def test_stack_dataset():
    pairs = StackDataset(Squares(3), Many(3))
    assert pairs[2] == (4, 4)
    assert pairs.__getitems__([0, 2]) == [(0, 0), (4, 4)]
    assert pairs.datasets[1].calls == 1
    named = StackDataset(a=Squares(2), b=Squares(2))
    assert named[1] == {"a": 1, "b": 1}
    assert named.__getitems__([1]) == [{"a": 1, "b": 1}]
    with pytest.raises(ValueError, match="Size mismatch between datasets"):
        StackDataset(Squares(2), Squares(3))
    with pytest.raises(ValueError, match="either tuple-like or dict-like"):
        StackDataset(Squares(2), a=Squares(2))
    with pytest.raises(ValueError, match="At least one|at least one"):
        StackDataset()


def test_subset_asks_for_many_at_once():
    dataset = Many(5)
    subset = Subset(dataset, [4, 0, 2])
    assert len(subset) == 3
    assert subset[0] == 16
    assert subset.__getitems__([0, 2]) == [16, 4]
    assert dataset.calls == 1


def test_unwritten_methods():
    with pytest.raises(NotImplementedError):
        Dataset()[0]
    with pytest.raises(TypeError):
        len(Stream(1))


@pytest.mark.parametrize("lengths", [[3, 7], [0.3, 0.3, 0.4], [0.5, 0.5], [10], [0.15, 0.85]])
def test_random_split_gives_pytorchs_parts(lengths, torch):
    ours = random_split(Squares(10), lengths, taimatsu.Generator().manual_seed(5))
    theirs = torch.utils.data.random_split(
        list(range(10)), lengths, torch.Generator().manual_seed(5)
    )
    assert [list(part.indices) for part in ours] == [list(part.indices) for part in theirs]


def test_random_split_errors():
    with pytest.raises(ValueError, match="does not equal the length of the input dataset"):
        random_split(Squares(10), [3, 3])
    with pytest.raises(ValueError, match="Fraction at index 0 is not between 0 and 1"):
        random_split(Squares(10), [-0.5, 1.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(Squares(1), [0.9, 0.1])
