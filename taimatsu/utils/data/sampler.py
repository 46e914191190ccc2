"""Samplers: the order in which a loader asks its dataset for samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

from taimatsu.utils.data import _draws

T_co = TypeVar("T_co", covariant=True)

_DRAWN_AT_ONCE = 32  # indices per draw with replacement; it fixes how the generator advances


class Sampler(Generic[T_co]):
    """Base of all samplers: a subclass writes ``__iter__``, and ``__len__`` where it is known."""

    def __init__(self, data_source: Sized | None = None) -> None:
        pass

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of Sampler should implement __iter__.")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    data_source: Sized

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices at random, each once per pass, or drawn independently with ``replacement``.

    ``num_samples`` (default: all) may exceed the number of samples; then whole permutations follow
    one another. Without a ``generator`` every pass draws a seed from the default one and goes on
    with a generator of its own, so the order is PyTorch's for the same seed.
    """

    data_source: Sized
    replacement: bool

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Any = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if not isinstance(replacement, bool):
            raise TypeError(
                "[RandomSampler] replacement should be a boolean value, but got "
                f"replacement={replacement}"
            )
        _check_count("RandomSampler", self.num_samples)

    @property
    def num_samples(self) -> int:
        # The data source may grow or shrink between passes.
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        count = len(self.data_source)
        generator = self.generator
        if generator is None:
            generator = _draws.generator_with_seed(_draws.seed())
        if self.replacement:
            for _ in range(self.num_samples // _DRAWN_AT_ONCE):
                yield from _draws.randint(count, _DRAWN_AT_ONCE, generator)
            yield from _draws.randint(count, self.num_samples % _DRAWN_AT_ONCE, generator)
            return
        for _ in range(self.num_samples // count):
            yield from _draws.randperm(count, generator)
        # Drawn even where nothing is left over: the generator must end where PyTorch's does.
        yield from _draws.randperm(count, generator)[: self.num_samples % count]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given ``indices``, each once, in random order."""

    indices: Sequence[int]

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for position in _draws.randperm(len(self.indices), self.generator):
            yield self.indices[position]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Indices drawn with probability proportional to ``weights`` (they need not sum to 1)."""

    num_samples: int
    replacement: bool

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
    ) -> None:
        _check_count("WeightedRandomSampler", num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(
                "[WeightedRandomSampler] replacement should be a boolean value, but got "
                f"replacement={replacement}"
            )
        self.weights = _draws.doubles(weights)
        if self.weights.dim() != 1:
            raise ValueError(
                "[WeightedRandomSampler] weights should be a 1d sequence but given weights have "
                f"shape {tuple(self.weights.shape)}"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        yield from _draws.multinomial(
            self.weights, self.num_samples, self.replacement, self.generator
        )

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of ``batch_size`` indices from another sampler; the last may be shorter."""

    def __init__(
        self,
        sampler: Sampler[int] | Iterable[int],
        batch_size: int,
        drop_last: bool,
    ) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(
                "[BatchSampler] batch_size should be a positive integer value, but got "
                f"batch_size={batch_size}; give a whole number of 1 or more, as // gives"
            )
        if not isinstance(drop_last, bool):
            raise ValueError(
                f"[BatchSampler] drop_last should be a boolean value, but got drop_last={drop_last}"
            )
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield batch

    def __len__(self) -> int:
        count = len(self.sampler)
        if self.drop_last:
            return count // self.batch_size
        return -(-count // self.batch_size)


def _check_count(who: str, count: Any) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count <= 0:
        raise ValueError(
            f"[{who}] num_samples should be a positive integer value, but got num_samples={count}; "
            "an empty dataset has nothing to draw: check its path or filter"
        )
