"""What runs inside a loader's worker process, and the messages between it and its parent.

Every worker has a pipe of its own, so a worker that dies holds no lock that another one needs.
Inside the worker three threads share the work: the main one loads batches, one receives orders
(so that the parent never blocks in sending them), one sends results (so that the next batch is
loaded while the last one waits in the pipe).
"""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import queue
import random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from taimatsu.generator import manual_seed
from taimatsu.recorder import constant
from taimatsu.recorder import value as value_of
from taimatsu.runtime.threads import set_num_threads
from taimatsu.tensor import Tensor

_PARENT_CHECK_SECONDS = 5.0

# Orders from the parent.
FETCH = "fetch"  # (FETCH, task, indices)
EPOCH = "epoch"  # (EPOCH, number): persistent workers begin again
STOP = "stop"  # (STOP,)

# Replies: (kind, task, payload), where the payload of a batch is what `pack` gave.
BATCH = "batch"
EXHAUSTED = "exhausted"
ERROR = "error"
READY = "ready"


@dataclasses.dataclass
class WorkerInfo:
    """What :func:`get_worker_info` tells: ``id``, ``num_workers``, ``seed``, ``dataset``."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Where the code runs: the loader's worker, or None in the main process."""
    return _worker_info


@dataclasses.dataclass(frozen=True)
class WorkerTask:
    """All a worker needs to begin; pickled where the start method is not fork."""

    worker_id: int
    num_workers: int
    base_seed: int
    dataset: Any
    make_fetcher: Callable[[Any], Any]  # from the dataset to an object with fetch(indices)
    init: Callable[[int], None] | None
    inherited: tuple[Connection, ...]  # the parent's pipe ends that a fork copied here


# -- batches as bytes ---------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Pickles tensors as NumPy arrays."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.requires_grad and not value.is_leaf:
                raise RuntimeError(
                    "[DataLoader] Cowardly refusing to serialize non-leaf tensor which requires_"
                    "grad: a graph does not cross process boundaries; detach() the sample"
                )
            return _tensor, (value_of(value.detach()), value.requires_grad)
        return NotImplemented


def _tensor(array: np.ndarray, requires_grad: bool) -> Tensor:
    made = constant(array)
    return made.requires_grad_() if requires_grad else made


def pack(batch: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(batch)
    return buffer.getvalue()


def unpack(payload: bytes) -> Any:
    return pickle.loads(payload)


# -- errors across processes ----------------------------------------------------------------


class _PlainMessage(str):
    """A message that stays readable where an exception shows the repr of it (KeyError)."""

    def __repr__(self) -> str:
        return str(self)


class RemoteError:
    """An exception in a worker, with its traceback as text, ready to be raised by the parent."""

    def __init__(self, error: BaseException, worker_id: int) -> None:
        self.kind = type(error)
        self.message = (
            f"Caught {self.kind.__name__} in DataLoader worker process {worker_id}.\n"
            f"Original {''.join(traceback.format_exception(error))}"
        )

    def packed(self) -> bytes:
        try:
            payload = pickle.dumps(self)
            pickle.loads(payload)
        except Exception:  # an exception class made inside a function cannot cross
            self.kind = RuntimeError
            payload = pickle.dumps(self)
        return payload

    def reraise(self) -> None:
        message: str = self.message
        if issubclass(self.kind, KeyError):
            message = _PlainMessage(message)
        try:
            error = self.kind(message)
        except Exception:  # its constructor takes something else
            error = RuntimeError(message)
        raise error


# -- the process ----------------------------------------------------------------------------


def run_worker(task: WorkerTask, connection: Connection) -> None:
    """The main function of a worker process."""
    # Ctrl-C reaches the whole process group; the parent alone decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for copied in task.inherited:
        copied.close()
    set_num_threads(1)  # workers are as many as the user wants cores for loading
    orders: queue.SimpleQueue = queue.SimpleQueue()
    replies: queue.SimpleQueue = queue.SimpleQueue()
    receiver = threading.Thread(target=_receive, args=(connection, orders), daemon=True)
    receiver.start()
    sender = threading.Thread(target=_send, args=(connection, replies), daemon=True)
    sender.start()
    _serve(task, orders, replies)
    replies.put(None)
    sender.join()


def _receive(connection: Connection, orders: queue.SimpleQueue) -> None:
    parent = os.getppid()
    try:
        while True:
            while not connection.poll(_PARENT_CHECK_SECONDS):
                if os.getppid() != parent:
                    os._exit(1)  # nobody is left to take the results
            order = connection.recv()
            orders.put(order)
            if order[0] == STOP:
                return
    except (EOFError, OSError):
        orders.put((STOP,))


def _send(connection: Connection, replies: queue.SimpleQueue) -> None:
    try:
        while (reply := replies.get()) is not None:
            connection.send(reply)
    except OSError:  # the parent has closed its end: it wants no more
        return


def _serve(task: WorkerTask, orders: queue.SimpleQueue, replies: queue.SimpleQueue) -> None:
    failure = _begin(task)
    fetcher = None
    exhausted = False
    while (order := orders.get())[0] != STOP:
        if order[0] == EPOCH:
            fetcher = None
            exhausted = False
            replies.put((READY, order[1], b""))
            continue
        _, number, indices = order
        if failure is not None:
            replies.put((ERROR, number, failure.packed()))
            continue
        if exhausted:
            replies.put((EXHAUSTED, number, b""))
            continue
        try:
            if fetcher is None:
                fetcher = task.make_fetcher(task.dataset)
            reply = (BATCH, number, pack(fetcher.fetch(indices)))
        except StreamEnd:
            exhausted = True
            reply = (EXHAUSTED, number, b"")
        except Exception as error:
            reply = (ERROR, number, RemoteError(error, task.worker_id).packed())
        replies.put(reply)


def _begin(task: WorkerTask) -> RemoteError | None:
    """Seeds the generators and calls the user's ``worker_init_fn``; what it raised, if it did."""
    global _worker_info
    seed = task.base_seed + task.worker_id
    random.seed(seed)
    manual_seed(seed)
    np.random.seed(numpy_seed(task.base_seed, task.worker_id))
    _worker_info = WorkerInfo(task.worker_id, task.num_workers, seed, task.dataset)
    if task.init is None:
        return None
    try:
        task.init(task.worker_id)
    except Exception as error:
        return RemoteError(error, task.worker_id)
    return None


def numpy_seed(base_seed: int, worker_id: int) -> np.ndarray:
    """The words that seed NumPy's global generator in a worker, the ones PyTorch uses."""
    words = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    return np.random.SeedSequence(words).generate_state(4)


class StreamEnd(Exception):  # noqa: N818 (an end is no error)
    """Raised by a fetcher when its stream has no more samples."""


# -- fetching, in a worker or in the main process ---------------------------------------------


class IndexFetcher:
    """Batches, or single samples, by index."""

    def __init__(self, dataset: Any, batched: bool, collate_fn: Callable) -> None:
        self.dataset = dataset
        self.batched = batched
        self.collate_fn = collate_fn

    def fetch(self, indices: Any) -> Any:
        if not self.batched:
            return self.collate_fn(self.dataset[indices])
        get_many = getattr(self.dataset, "__getitems__", None)
        if get_many:
            return self.collate_fn(get_many(indices))
        return self.collate_fn([self.dataset[i] for i in indices])


class StreamFetcher:
    """The next samples of a stream; the indices only say how many."""

    def __init__(self, dataset: Any, batched: bool, collate_fn: Callable, drop_last: bool) -> None:
        self.samples: Iterator = iter(dataset)
        self.batched = batched
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def fetch(self, indices: Any) -> Any:
        if self.ended:
            raise StreamEnd
        if not self.batched:
            return self.collate_fn(self._next())
        batch: list = []
        for _ in indices:
            try:
                batch.append(self._next())
            except StreamEnd:
                break
        if not batch or (self.drop_last and len(batch) < len(indices)):
            raise StreamEnd
        return self.collate_fn(batch)

    def _next(self) -> Any:
        try:
            return next(self.samples)
        except StopIteration:
            self.ended = True
            raise StreamEnd from None


@dataclasses.dataclass(frozen=True)
class FetcherFactory:
    """Makes the fetcher a loader needs; an object, not a closure, so that spawn can pickle it."""

    stream: bool
    batched: bool
    collate_fn: Callable
    drop_last: bool

    def __call__(self, dataset: Any) -> IndexFetcher | StreamFetcher:
        if self.stream:
            return StreamFetcher(dataset, self.batched, self.collate_fn, self.drop_last)
        return IndexFetcher(dataset, self.batched, self.collate_fn)
