"""Datasets: indexable ones (``Dataset``), streams (``IterableDataset``), and what joins them."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from taimatsu.tensor import Tensor
from taimatsu.utils.data._draws import randperm

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Dataset(Generic[T_co]):
    """A collection with ``dataset[index]`` and, usually, ``len(dataset)``.

    A subclass writes ``__getitem__`` and ``__len__``. One that can load many samples at once may
    write ``__getitems__(indices)`` (a list of samples); the loader then calls it once per batch.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(
            "Subclasses of Dataset should implement __getitem__. "
            f"{type(self).__name__} lacks it: define __getitem__(self, index), which gives one "
            "sample"
        )

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co], Iterable[T_co]):
    """A stream of samples: a subclass writes ``__iter__``.

    With several loader workers every worker iterates over its own copy; split the stream with
    :func:`get_worker_info`, or samples come once per worker.
    """

    def __add__(self, other: Dataset[T_co]) -> ChainDataset:
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples are the rows of the given tensors, which have the same first extent."""

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        lengths = [tensor.size(0) for tensor in tensors]
        if any(length != lengths[0] for length in lengths):
            raise AssertionError(
                "[TensorDataset] Size mismatch between tensors: expected the same first extent, "
                f"got {lengths}; give as many labels as samples"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].size(0)


class StackDataset(Dataset[Any]):
    """Several datasets of one length read side by side: tuples, or dicts when given by keyword."""

    datasets: tuple | dict

    def __init__(self, *args: Dataset, **kwargs: Dataset) -> None:
        if args and kwargs:
            raise ValueError(
                "[StackDataset] expected datasets by position or by keyword, got both: supports "
                "either tuple-like or dict-like items"
            )
        if not args and not kwargs:
            raise ValueError("[StackDataset] expected at least one dataset should be passed, got 0")
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in self._members()]
        if any(length != lengths[0] for length in lengths):
            raise ValueError(f"[StackDataset] Size mismatch between datasets: lengths {lengths}")
        self._length = lengths[0]

    def _members(self) -> Iterable[Dataset]:
        return self.datasets.values() if isinstance(self.datasets, dict) else self.datasets

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __getitems__(self, indices: list) -> list:
        if isinstance(self.datasets, dict):
            named = {name: _fetch_many(d, indices) for name, d in self.datasets.items()}
            return [
                {name: samples[i] for name, samples in named.items()} for i in range(len(indices))
            ]
        return list(zip(*(_fetch_many(d, indices) for d in self.datasets), strict=True))

    def __len__(self) -> int:
        return self._length


def _fetch_many(dataset: Dataset, indices: list) -> list:
    """The samples at ``indices``, in one call where the dataset can do that."""
    get_many = getattr(dataset, "__getitems__", None)
    if not callable(get_many):
        return [dataset[i] for i in indices]
    samples = get_many(indices)
    if len(samples) != len(indices):
        raise ValueError(
            f"[StackDataset] Nested dataset's output size mismatch: expected {len(indices)} "
            f"samples from {type(dataset).__name__}.__getitems__, got {len(samples)}"
        )
    return samples


class ConcatDataset(Dataset[T_co]):
    """Datasets one after another."""

    datasets: list[Dataset[T_co]]
    cumulative_sizes: list[int]

    @staticmethod
    def cumsum(sequence: Iterable) -> list[int]:
        return list(itertools.accumulate(len(dataset) for dataset in sequence))

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError(
                "[ConcatDataset] datasets should not be an empty iterable; pass at least one"
            )
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise AssertionError(
                "[ConcatDataset] ConcatDataset does not support IterableDataset: a stream has no "
                "length; use ChainDataset"
            )
        self.cumulative_sizes = self.cumsum(self.datasets)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if index < 0:
            if -index > len(self):
                raise ValueError(
                    "[ConcatDataset] absolute value of index should not exceed dataset length: "
                    f"got {index} for {len(self)} samples"
                )
            index += len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[which - 1] if which > 0 else 0
        return self.datasets[which][index - before]

    @property
    def cummulative_sizes(self) -> list[int]:
        """The misspelt name that older programs use."""
        warnings.warn(
            "cummulative_sizes attribute is renamed to cumulative_sizes",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.cumulative_sizes


class ChainDataset(IterableDataset):
    """Streams one after another."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        super().__init__()
        self.datasets = datasets

    def _streams(self) -> Iterator[IterableDataset]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError(
                    "[ChainDataset] ChainDataset only supports IterableDataset, got "
                    f"{type(dataset).__name__}; use ConcatDataset"
                )
            yield dataset

    def __iter__(self) -> Iterator:
        for dataset in self._streams():
            yield from dataset

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self._streams())  # type: ignore[misc]


class Subset(Dataset[T_co]):
    """The samples of ``dataset`` at ``indices``."""

    dataset: Dataset[T_co]
    indices: Sequence[int]

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[T_co]:
        chosen = [self.indices[i] for i in indices]
        get_many = getattr(self.dataset, "__getitems__", None)
        if callable(get_many):
            return get_many(chosen)
        return [self.dataset[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[T],
    lengths: Sequence[int | float],
    generator: Any = None,
) -> list[Subset[T]]:
    """Parts of ``dataset`` at random, without overlap.

    ``lengths`` are numbers of samples, or fractions that sum to 1 (what rounding down leaves over
    goes to the first parts, one each). The permutation is PyTorch's for the same seed.

    Raises:
        ValueError: for fractions outside [0, 1], or lengths that do not sum to ``len(dataset)``.
    """
    total = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        lengths = _lengths_of_fractions(lengths, total)
    if sum(lengths) != total:
        raise ValueError(
            "[random_split] Sum of input lengths does not equal the length of the input dataset! "
            f"expected {total}, got {list(lengths)} (sum {sum(lengths)}); fractions such as "
            "[0.8, 0.2] need no counting"
        )
    order = randperm(total, generator)
    ends = itertools.accumulate(int(length) for length in lengths)
    return [
        Subset(dataset, order[end - int(length) : end])
        for end, length in zip(ends, lengths, strict=True)
    ]


def _lengths_of_fractions(fractions: Sequence[float], total: int) -> list[int]:
    for i, fraction in enumerate(fractions):
        if not 0 <= fraction <= 1:
            raise ValueError(
                f"[random_split] Fraction at index {i} is not between 0 and 1: got {fraction}"
            )
    lengths = [math.floor(total * fraction) for fraction in fractions]
    for i in range(total - sum(lengths)):
        lengths[i % len(lengths)] += 1
    for i, length in enumerate(lengths):
        if length == 0:
            warnings.warn(
                f"Length of split at index {i} is 0. This might result in an empty dataset.",
                stacklevel=3,
            )
    return lengths
