"""Samplers draw PyTorch's order, and leave the generator where PyTorch's stands."""

from __future__ import annotations

import pytest

import taimatsu
from taimatsu.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

RANDOM_SAMPLERS = {
    "permutation": lambda data, g: data.RandomSampler(range(11), generator=g),
    "fewer": lambda data, g: data.RandomSampler(range(11), num_samples=4, generator=g),
    "several permutations": lambda data, g: data.RandomSampler(
        range(5), num_samples=13, generator=g
    ),
    "replacement": lambda data, g: data.RandomSampler(range(7), True, 70, generator=g),
    "replacement 64": lambda data, g: data.RandomSampler(range(7), True, 64, generator=g),
    "subset": lambda data, g: data.SubsetRandomSampler([5, 3, 8, 1], generator=g),
    "weights": lambda data, g: data.WeightedRandomSampler([1, 2.5, 0, 4], 9, generator=g),
    "weights once": lambda data, g: data.WeightedRandomSampler([1, 2.5, 3, 4], 3, False, g),
}


@pytest.mark.parametrize("own", [True, False], ids=["own generator", "default generator"])
@pytest.mark.parametrize("name", RANDOM_SAMPLERS)
def test_order_and_generator_agree_with_pytorch(name, own, torch):
    drawn = []
    for library in (taimatsu, torch):
        library.manual_seed(3)
        generator = library.Generator().manual_seed(11) if own else None
        sampler = RANDOM_SAMPLERS[name](library.utils.data, generator)
        order = [list(sampler), list(sampler)]  # two passes
        drawn.append((order, library.randint(1 << 30, (1,), generator=generator).item()))
    assert drawn[0] == drawn[1]
    assert len(sampler) == len(drawn[0][0][0])


def test_sequential():
    sampler = SequentialSampler("abc")
    assert list(sampler) == [0, 1, 2]
    assert len(sampler) == 3


def test_a_random_sampler_is_a_permutation():
    assert sorted(RandomSampler(range(20))) == list(range(20))
    assert sorted(SubsetRandomSampler([4, 9])) == [4, 9]


def test_random_sampler_follows_a_growing_source():
    source = [1, 2]
    sampler = RandomSampler(source)
    source.append(3)
    assert len(sampler) == len(list(sampler)) == 3


@pytest.mark.parametrize(
    ("drop_last", "expected"), [(False, [[0, 1], [2, 3], [4]]), (True, [[0, 1], [2, 3]])]
)
def test_batches(drop_last, expected):
    sampler = BatchSampler(SequentialSampler(range(5)), 2, drop_last)
    assert list(sampler) == expected
    assert len(sampler) == len(expected)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: RandomSampler([]), ValueError, "num_samples should be a positive integer"),
        (lambda: RandomSampler([1], num_samples=1.5), ValueError, "positive integer value"),
        (lambda: RandomSampler([1], replacement=1), TypeError, "should be a boolean value"),
        (lambda: WeightedRandomSampler([1.0], 0), ValueError, "num_samples should be a positive"),
        (lambda: WeightedRandomSampler([[1.0]], 1), ValueError, "should be a 1d sequence"),
        (lambda: WeightedRandomSampler([1.0], 1, 1), ValueError, "should be a boolean value"),
        (lambda: BatchSampler([1], 0, False), ValueError, "batch_size should be a positive"),
        (lambda: BatchSampler([1], True, False), ValueError, "batch_size should be a positive"),
        (lambda: BatchSampler([1], 1, 0), ValueError, "drop_last should be a boolean value"),
        (lambda: DistributedSampler([1]), RuntimeError, "Requires distributed package"),
        (lambda: DistributedSampler([1], 2, 2), ValueError, "Invalid rank 2"),
        (lambda: iter(Sampler()), NotImplementedError, "__iter__"),
    ],
)
def test_errors(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("count", [1, 10, 12])
def test_distributed_parts_are_pytorchs(count, shuffle, drop_last, torch):
    for rank in range(4):
        orders = []
        for library in (taimatsu, torch):
            kind = library.utils.data.distributed.DistributedSampler
            sampler = kind(range(count), 4, rank, shuffle, seed=2, drop_last=drop_last)
            sampler.set_epoch(3)
            orders.append((list(sampler), len(sampler)))
        assert orders[0] == orders[1]
