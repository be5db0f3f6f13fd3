"""Who makes batches while the network trains: other processes, or threads of this one.

Both take keys in order and answer in that order, a few ahead of what is asked for.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any, Literal, Protocol

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from resnets.data.cores import available_cores

__all__ = ["Crew", "Kind", "default_workers", "hire"]

Kind = Literal["processes", "threads"]
AHEAD = 2  # batches that each worker makes before they are asked for


class Crew(Protocol):
    """Workers that live as long as this does."""

    def work(self, keys: Sequence[Any]) -> Iterator[Any]:
        """What the reader answers for each key, in order; finish or drop one iterator before the next."""
        ...


def default_workers() -> int:
    """A worker for every core that this process may use, 8 at most."""
    return min(8, available_cores())


def hire(reader: TorchDataset[Any], workers: int | None, kind: Kind, *, pin: bool = False) -> Crew:
    """Workers for a reader, which answers `reader[key]`.

    Args:
        workers: how many; 0 has this thread do it all; `None` takes `default_workers()`.
        kind: processes do not wait for each other in Python code; threads start at once, share memory and copy
            nothing, and are the better choice where the work is done in libraries that let go of Python's lock.
        pin: hand tensors on in pinned memory, which cards fetch faster (processes only).
    """
    count = default_workers() if workers is None else workers
    return _Threads(reader, count) if kind == "threads" and count else _Processes(reader, count, pin)


class _Threads:
    def __init__(self, reader: TorchDataset[Any], workers: int) -> None:
        self._reader, self._ahead = reader, AHEAD * workers
        # Each computes alone: else torch would start as many threads again for each of them.
        threads, started = torch.get_num_threads(), Barrier(workers + 1)
        self._pool = ThreadPoolExecutor(workers, "reader", initializer=torch.set_num_threads, initargs=(1,))
        for _ in range(workers):
            self._pool.submit(started.wait)
        started.wait()
        torch.set_num_threads(threads)  # which is also what threads that start later take over
        weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)

    def work(self, keys: Sequence[Any]) -> Iterator[Any]:
        pending: deque[Future[Any]] = deque()
        try:
            for key in keys:
                pending.append(self._pool.submit(self._reader.__getitem__, key))
                if len(pending) > self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class _Order:
    """The sampler: a batch's key after another. Persistent workers read it anew each epoch."""

    def __init__(self) -> None:
        self.keys: Sequence[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def _same(item: Any) -> Any:
    return item


@contextmanager
def _no_advice() -> Iterator[None]:
    """Without torch's warning of more workers than cores, and Python 3.12's of forking with threads (unused here)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


def _until_told(worker: int) -> None:
    """Ctrl-C and torchrun's SIGTERM go to a group of processes; workers read on while the run writes its state.

    A SIGTERM to the worker itself ends it: so does Python, as it ends, with those that are left.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_workers(loader: DataLoader[Any]) -> None:
    """Tell them to end, at the latest as Python ends, which would wait for them."""
    if loader._iterator is not None and hasattr(loader._iterator, "_shutdown_workers"):
        loader._iterator._shutdown_workers()


class _Processes:
    def __init__(self, reader: TorchDataset[Any], workers: int, pin: bool) -> None:
        self._order = _Order()
        # A forked worker starts at once; after CUDA has started, a fork cannot use it, so it is spawned there.
        context = "fork" if sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"  # type: ignore[no-untyped-call]
        with _no_advice():
            self._loader: DataLoader[Any] = DataLoader(
                reader,
                sampler=self._order,
                batch_size=None,  # the reader makes whole batches
                collate_fn=_same,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=pin,
                multiprocessing_context=context if workers else None,
                worker_init_fn=_until_told,
                generator=torch.Generator(),  # else every epoch would draw from torch's global generator
            )
        weakref.finalize(self, _end_workers, self._loader)

    def work(self, keys: Sequence[Any]) -> Iterator[Any]:
        self._order.keys = keys
        with _no_advice():
            answers = iter(self._loader)
        yield from answers
