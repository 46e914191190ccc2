"""The loader: order, lengths, arguments and errors, against PyTorch's."""

from __future__ import annotations

import pytest

import taimatsu
from taimatsu.utils.data import DataLoader, IterableDataset, TensorDataset

CONFIGURATIONS = {
    "in order": {"batch_size": 4},
    "shuffled": {"batch_size": 4, "shuffle": True},
    "shuffled, one generator": {"batch_size": 4, "shuffle": True, "own": True},
    "last dropped": {"batch_size": 4, "shuffle": True, "drop_last": True},
    "one by one": {"batch_size": None, "shuffle": True},
    "sampler": {"batch_size": 2, "sampler": [5, 1, 3]},
    "batch sampler": {"batch_sampler": [[1, 2, 3], [0]]},
    "workers": {"batch_size": 3, "shuffle": True, "num_workers": 2},
    "persistent": {
        "batch_size": 3,
        "shuffle": True,
        "num_workers": 2,
        "persistent_workers": True,
        "own": True,
    },
    "prefetch": {"batch_size": 1, "shuffle": True, "num_workers": 2, "prefetch_factor": 5},
    "workers, one by one": {"batch_size": None, "num_workers": 1},
}


def plain(batch):
    return batch.tolist() if hasattr(batch, "tolist") else batch


def two_passes(library, own=False, **options):
    """The batches of two passes, and what the generators draw afterwards."""
    library.manual_seed(7)
    generator = library.Generator().manual_seed(9)
    if own:
        options["generator"] = generator
    loader = library.utils.data.DataLoader(list(range(10, 23)), **options)
    passes = [[plain(batch) for batch in loader] for _ in range(2)]
    ends = [library.rand(1).item(), library.rand(1, generator=generator).item()]
    return passes, ends, len(loader)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_batches_are_pytorchs(name, torch):
    ours = two_passes(taimatsu, **CONFIGURATIONS[name])
    theirs = two_passes(torch, **CONFIGURATIONS[name])
    assert ours == theirs


def test_workers_do_not_change_the_batches():
    alone = two_passes(taimatsu, batch_size=3, shuffle=True)
    with_workers = two_passes(taimatsu, batch_size=3, shuffle=True, num_workers=2)
    assert alone == with_workers


def test_a_pass_can_begin_before_the_last_one_ended():
    loader = DataLoader(range(4), batch_size=2)
    first = iter(loader)
    assert next(first).tolist() == [0, 1]
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3]]
    assert next(first).tolist() == [2, 3]


def test_tensors_in_batches():
    dataset = TensorDataset(taimatsu.arange(6.0).reshape(3, 2), taimatsu.tensor([0, 1, 2]))
    x, y = next(iter(DataLoader(dataset, batch_size=3)))
    assert x.dtype == taimatsu.float32
    assert x.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert y.tolist() == [0, 1, 2]


def test_a_dataset_that_loads_many_at_once():
    class Many:
        def __len__(self):
            return 4

        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert [b.tolist() for b in DataLoader(Many(), batch_size=2)] == [[0, 10], [20, 30]]


def test_a_collate_function():
    loader = DataLoader(range(4), batch_size=3, collate_fn=sum)
    assert list(loader) == [3, 3]


class Stream(IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))


class Sized(Stream):
    def __len__(self):
        return 3


def test_streams():
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2)] == [[0, 1], [2, 3], [4]]
    dropped = DataLoader(Stream(5), batch_size=2, drop_last=True)
    assert [b.tolist() for b in dropped] == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(2), batch_size=None)) == [0, 1]
    assert list(DataLoader(Stream(0))) == []
    with pytest.raises(TypeError):
        len(DataLoader(Stream(5)))


def test_a_stream_longer_than_it_said():
    loader = DataLoader(Sized(4))
    assert len(loader) == 3
    with pytest.warns(UserWarning, match="Length of IterableDataset"):
        list(loader)


def test_pin_memory_only_warns():
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert len(list(DataLoader(range(2), pin_memory=True))) == 2


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"num_workers": -1}, ValueError, "num_workers option should be non-negative"),
        ({"timeout": -1}, ValueError, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, ValueError, "prefetch_factor option could only be specified in"),
        (
            {"num_workers": 1, "prefetch_factor": -1},
            ValueError,
            "prefetch_factor option should be non-negative",
        ),
        ({"persistent_workers": True}, ValueError, "persistent_workers option needs num_workers"),
        ({"sampler": [0], "shuffle": True}, ValueError, "mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, ValueError, "mutually exclusive with batch_"),
        ({"batch_sampler": [[0]], "shuffle": True}, ValueError, "mutually exclusive with batch_"),
        ({"batch_size": None, "drop_last": True}, ValueError, "disables auto-batching"),
        ({"batch_size": 0}, ValueError, "batch_size should be a positive integer value"),
        ({"multiprocessing_context": "fork"}, ValueError, "can only be used with multi-process"),
        (
            {"multiprocessing_context": "thread", "num_workers": 1},
            ValueError,
            "should specify a valid start method",
        ),
        (
            {"multiprocessing_context": 3, "num_workers": 1},
            TypeError,
            "should be a valid context object",
        ),
    ],
)
def test_argument_errors(options, kind, message):
    with pytest.raises(kind, match=message):
        DataLoader([1, 2, 3], **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"shuffle": True}, "shuffle"),
        ({"sampler": [0]}, "sampler"),
        ({"batch_sampler": [[0]]}, "batch_sampler"),
    ],
)
def test_a_stream_takes_no_order(options, name):
    with pytest.raises(ValueError, match=f"expected unspecified {name} option"):
        DataLoader(Stream(3), **options)


def test_what_is_fixed_at_construction():
    loader = DataLoader([1, 2])
    with pytest.raises(ValueError, match="batch_size attribute should not be set after DataLoader"):
        loader.batch_size = 2
    loader.num_workers = 0  # this one may change


def test_timeout_needs_workers():
    with pytest.raises(AssertionError, match="timeout == 0"):
        iter(DataLoader([1], timeout=1))


def test_workers_must_load_ahead():
    with pytest.raises(AssertionError, match="prefetch_factor must be greater than 0"):
        iter(DataLoader([1], num_workers=1, prefetch_factor=0))
