"""Datasets, batches and their sizes."""

from __future__ import annotations

from errors.corpus import torch, wrong


@wrong(ValueError, "positive integer", "batch_size=0", "1 or more")
def empty_batches():
    """A batch size of zero."""
    data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    torch.utils.data.DataLoader(data, batch_size=0)


@wrong(ValueError, "positive integer", "2.0", "//")
def batch_size_of_a_division():
    """A batch size computed with `/`, which gives a float."""
    data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    torch.utils.data.DataLoader(data, batch_size=4 / 2)


@wrong(ValueError, "mutually exclusive", "shuffle", "leave shuffle out")
def sampler_and_shuffle():
    """A sampler and `shuffle` together."""
    data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    sampler = torch.utils.data.SequentialSampler(data)
    torch.utils.data.DataLoader(data, sampler=sampler, shuffle=True)


@wrong(ValueError, "non-negative", "-1", "num_workers=0")
def negative_workers():
    """A negative number of workers."""
    data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    torch.utils.data.DataLoader(data, num_workers=-1)


@wrong(ValueError, "positive integer", "num_samples=0", "path")
def shuffle_of_nothing():
    """An empty dataset, as after a wrong path, shuffled."""
    torch.utils.data.DataLoader([], shuffle=True)


@wrong(AssertionError, "Size mismatch between tensors", "[4, 3]", "as many labels")
def features_and_labels_of_unequal_length():
    """Features and labels of unequal length."""
    torch.utils.data.TensorDataset(torch.zeros(4, 2), torch.zeros(3))


@wrong(RuntimeError, "equal size", ("[3]", "[2]"), "collate_fn")
def samples_of_unequal_length():
    """Samples of unequal length in one batch."""
    sentences = [torch.zeros(3), torch.zeros(2)]
    loader = torch.utils.data.DataLoader(sentences, batch_size=2)
    next(iter(loader))


@wrong(TypeError, "default_collate: batch must contain tensors", "NoneType", "collate_fn")
def sample_without_value():
    """A sample that is None, as of a file that could not be read."""
    loader = torch.utils.data.DataLoader([None, None], batch_size=2)
    next(iter(loader))


@wrong(TypeError, "has no len()", "Numbers", "")
def dataset_without_length():
    """A dataset without `__len__`: Python's own error."""

    class Numbers(torch.utils.data.Dataset):
        def __getitem__(self, index):
            return torch.zeros(2)

    next(iter(torch.utils.data.DataLoader(Numbers())))


@wrong(NotImplementedError, "should implement __getitem__", "Numbers", "one sample")
def dataset_without_items():
    """A dataset without `__getitem__`."""

    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 3

    next(iter(torch.utils.data.DataLoader(Numbers())))


@wrong(IndexError, "size 4", "index 4", "-4 to 3")
def index_past_the_dataset():
    """An index past the end of a dataset."""
    data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    data[4]


@wrong(ValueError, "expected 10", "[7, 2]", "fractions")
def split_of_another_length():
    """A random split whose parts do not add up."""
    data = torch.utils.data.TensorDataset(torch.zeros(10, 2))
    torch.utils.data.random_split(data, [7, 2])


@wrong(TypeError, "subscriptable", "DataLoader", "")
def loader_by_index():
    """A batch taken from a loader by index: Python's own error."""
    data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    torch.utils.data.DataLoader(data)[0]


@wrong(TypeError, "iterator", "DataLoader", "")
def next_of_a_loader():
    """`next` of a loader that was not made an iterator: Python's own error."""
    data = torch.utils.data.TensorDataset(torch.zeros(4, 2))
    next(torch.utils.data.DataLoader(data))


@wrong(KeyError, "fields of entry 0", "['y']", "collate_fn")
def records_of_other_fields():
    """Samples of different fields in one batch."""
    records = [{"x": 1.0}, {"y": 2.0}]
    next(iter(torch.utils.data.DataLoader(records, batch_size=2)))
