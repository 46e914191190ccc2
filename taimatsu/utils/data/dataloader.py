"""DataLoader: samples in batches, in any order, in this process or by workers."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from taimatsu.utils.data import _draws
from taimatsu.utils.data.collate import default_collate, default_convert
from taimatsu.utils.data.dataset import Dataset, IterableDataset
from taimatsu.utils.data.parallel import ParallelIterator, warn_of_many_workers
from taimatsu.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from taimatsu.utils.data.worker import FetcherFactory, StreamEnd, get_worker_info

T_co = TypeVar("T_co", covariant=True)

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]


class _Endless(Sampler):
    """None without end: the index sampler of a stream, which says itself when it is over."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


class DataLoader(Generic[T_co]):
    """An iterable over batches of ``dataset``.

    Args:
        dataset: with ``__getitem__`` and ``__len__``, or an :class:`IterableDataset`.
        batch_size: samples per batch; None turns batching off (samples come one by one).
        shuffle: a new random order for each pass.
        sampler: the order of the indices, instead of ``shuffle``.
        batch_sampler: lists of indices, instead of all four above and ``drop_last``.
        num_workers: processes that load batches; 0 loads in this one.
        collate_fn: makes a batch from a list of samples.
        pin_memory: for accelerators; without one it only warns.
        drop_last: leaves out a last batch that is not full.
        timeout: seconds to wait for a batch from a worker; 0 waits for ever.
        worker_init_fn: called with the worker's number in each worker, after seeding.
        multiprocessing_context: a start method's name, or a context of ``multiprocessing``.
        generator: for the order and the workers' seeds; default: the default generator.
        prefetch_factor: batches each worker loads ahead (2).
        persistent_workers: keeps the workers from one pass to the next.
        in_order: gives batches in the sampler's order; False gives them as they come.

    The order, and the seeds of workers, are PyTorch's for the same seed.
    """

    dataset: Dataset[T_co]
    batch_size: int | None
    num_workers: int
    pin_memory: bool
    drop_last: bool
    timeout: float
    sampler: Sampler | Iterable
    prefetch_factor: int | None

    _FIXED = frozenset(
        ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")
    )
    _initialized = False

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler | Iterable | None = None,
        batch_sampler: Sampler[list] | Iterable[list] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers > 0 and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
        self.generator = generator
        self.persistent_workers = persistent_workers

        self._is_stream = isinstance(dataset, IterableDataset)
        if self._is_stream:
            _check_stream(shuffle, sampler, batch_sampler)
        if sampler is not None and shuffle:
            raise ValueError(
                "[DataLoader] sampler option is mutually exclusive with shuffle; leave shuffle "
                "out: the sampler decides the order (RandomSampler shuffles)"
            )
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "[DataLoader] batch_sampler option is mutually exclusive with batch_size, "
                    "shuffle, sampler, and drop_last"
                )
            batch_size = None
            drop_last = False
        elif batch_size is None and drop_last:
            raise ValueError(
                "[DataLoader] batch_size=None option disables auto-batching and is mutually "
                "exclusive with drop_last"
            )
        if sampler is None:
            sampler = self._default_sampler(bool(shuffle))
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        if collate_fn is None:
            collate_fn = default_collate if self._auto_collation else default_convert
        self.collate_fn = collate_fn
        self._announced_length: int | None = None  # what a stream said when len(loader) was asked
        self._iterator: ParallelIterator | None = None  # of persistent workers
        if num_workers > 0:
            warn_of_many_workers(num_workers)
        self._initialized = True

    def _default_sampler(self, shuffle: bool) -> Sampler:
        if self._is_stream:
            return _Endless()
        if shuffle:
            return RandomSampler(self.dataset, generator=self.generator)
        return SequentialSampler(self.dataset)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._initialized and name in self._FIXED:
            raise ValueError(
                f"[DataLoader] {name} attribute should not be set after "
                f"{type(self).__name__} is initialized; make a new one"
            )
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self) -> Any:
        return self._multiprocessing_context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None:
            context = _checked_context(context, self.num_workers)
        self._multiprocessing_context = context

    def _context(self) -> Any:
        return self.multiprocessing_context or multiprocessing.get_context()

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self) -> Any:
        return self.batch_sampler if self._auto_collation else self.sampler

    def _fetcher_factory(self) -> FetcherFactory:
        return FetcherFactory(
            self._is_stream, self._auto_collation, self.collate_fn, self.drop_last
        )

    def __iter__(self) -> Iterator[Any]:
        if self.pin_memory:
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device "
                "pinned memory won't be used.",
                stacklevel=2,
            )
        if self._iterator is not None and not self._iterator.pool.ended:
            self._iterator.restart()
            return self._iterator
        # Drawn for every pass, even without workers: the generator moves on as PyTorch's does.
        base_seed = _draws.seed(self.generator)
        if self.num_workers == 0:
            return _InProcessIterator(self)
        iterator = ParallelIterator(self, base_seed)
        if self.persistent_workers:
            self._iterator = iterator
        return iterator

    def __len__(self) -> int:
        """The number of batches; of a stream, what its own length makes it."""
        if not self._is_stream:
            return len(self._index_sampler)
        length = self._announced_length = len(self.dataset)
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def _check_stream_length(self, yielded: int) -> None:
        """Warns when a stream gives more batches than the length it had claimed."""
        if self._announced_length is None or yielded <= len(self):
            return
        warnings.warn(
            f"Length of IterableDataset {self.dataset} was reported to be "
            f"{self._announced_length} (when accessing len(dataloader)), but {yielded} samples "
            "have been fetched."
            + (
                " For multiprocessing data-loading, this could be caused by not properly "
                "configuring the IterableDataset replica at each worker."
                if self.num_workers > 0
                else ""
            ),
            stacklevel=3,
        )

    def check_worker_number_rationality(self) -> None:
        """Warns when there are more workers than processors."""
        if self.num_workers > 0:
            warn_of_many_workers(self.num_workers)


class _InProcessIterator:
    """Batches loaded by this process, one when it is asked for."""

    def __init__(self, loader: DataLoader) -> None:
        if loader.timeout != 0:
            raise AssertionError(
                "[DataLoader] loading in this process requires timeout == 0, got "
                f"{loader.timeout}; set num_workers > 0"
            )
        self.loader = loader
        self.indices = iter(loader._index_sampler)
        self.yielded = 0

    @functools.cached_property
    def fetcher(self) -> Any:
        return self.loader._fetcher_factory()(self.loader.dataset)

    def __iter__(self) -> _InProcessIterator:
        return self

    def __len__(self) -> int:
        return len(self.loader._index_sampler)

    def __next__(self) -> Any:
        indices = next(self.indices)
        try:
            batch = self.fetcher.fetch(indices)
        except StreamEnd:
            raise StopIteration from None
        self.yielded += 1
        self.loader._check_stream_length(self.yielded)
        return batch


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent: bool
) -> None:
    if num_workers < 0:
        raise ValueError(
            "[DataLoader] num_workers option should be non-negative; use num_workers=0 to disable "
            f"multiprocessing. got {num_workers}"
        )
    if timeout < 0:
        raise ValueError(f"[DataLoader] timeout option should be non-negative, got {timeout}")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError(
            "[DataLoader] prefetch_factor option could only be specified in multiprocessing. "
            "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
        )
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError(
            f"[DataLoader] prefetch_factor option should be non-negative, got {prefetch_factor}"
        )
    if persistent and num_workers == 0:
        raise ValueError("[DataLoader] persistent_workers option needs num_workers > 0, got 0")


def _check_stream(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    """A stream decides on its order itself."""
    options = {"sampler": sampler, "batch_sampler": batch_sampler}
    if shuffle not in (None, False):
        options = {"shuffle": shuffle}
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"[DataLoader] DataLoader with IterableDataset: expected unspecified {name} "
                f"option, but got {name}={value}"
            )


def _checked_context(context: Any, num_workers: int) -> Any:
    if num_workers == 0:
        raise ValueError(
            "[DataLoader] multiprocessing_context can only be used with multi-process loading "
            f"(num_workers > 0), but got num_workers={num_workers}"
        )
    if isinstance(context, str):
        known = multiprocessing.get_all_start_methods()
        if context not in known:
            raise ValueError(
                "[DataLoader] multiprocessing_context option should specify a valid start method "
                f"in {known!r}, but got multiprocessing_context={context!r}"
            )
        return multiprocessing.get_context(context)
    if not isinstance(context, multiprocessing.context.BaseContext):
        raise TypeError(
            "[DataLoader] multiprocessing_context option should be a valid context object or a "
            f"string specifying the start method, but got multiprocessing_context={context!r}"
        )
    return context
