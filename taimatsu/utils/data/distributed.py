"""The part of a dataset that one of several cooperating processes trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taimatsu.utils.data import _draws
from taimatsu.utils.data.sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every ``num_replicas``-th index beginning at ``rank``, of an order all processes share.

    The order is shuffled with ``seed + epoch``: call :meth:`set_epoch` before each pass, or every
    pass has the same order. So that all parts are equally long, the first indices are repeated at
    the end, or with ``drop_last`` the last ones left out.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None or rank is None:
            raise RuntimeError(
                "[DistributedSampler] Requires distributed package to be available: no process "
                "group exists, so pass num_replicas and rank"
            )
        if not 0 <= rank < num_replicas:
            raise ValueError(
                f"[DistributedSampler] Invalid rank {rank}, rank should be in the interval "
                f"[0, {num_replicas - 1}]"
            )
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.seed = seed
        count = len(dataset)
        whole, rest = divmod(count, num_replicas)
        self.num_samples = whole if drop_last or not rest else whole + 1
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        order = list(range(count))
        if self.shuffle:
            order = _draws.randperm(count, _draws.generator_with_seed(self.seed + self.epoch))
        while len(order) < self.total_size:
            order += order[: self.total_size - len(order)]
        return iter(order[: self.total_size][self.rank :: self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """The pass that comes next; it takes part in the seed of the order."""
        self.epoch = epoch
