"""Workers that prepare batches while the network trains: processes, or threads of this one.

Both process requests in order and return results in that order, a few ahead of what has been consumed.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from threading import Barrier
from typing import Any, Literal, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from resnets.errors import DataError

__all__ = ["WorkerKind", "available_cores", "map_threads", "start_workers"]

Item = TypeVar("Item")
Result = TypeVar("Result")
WorkerKind = Literal["processes", "threads"]
PREFETCH = 2  # batches that each worker prepares ahead
MAX_RESTARTS = 3  # of workers that were killed, in one pass over the requests


def available_cores() -> int:
    """Cores that this process may use, 1 or more; in a container often fewer than the machine has.

    Under `torchrun`, the processes of one machine share its cores.
    """
    affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def map_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None, *, chunk: int = 1
) -> Generator[Result]:
    """Results of a function that releases Python's global lock, in order, by threads.

    Args:
        items: consumed a little ahead of the results.
        workers: number of threads (default: one per core).
        chunk: items per task of a thread.
    """
    workers, iterator = workers or available_cores(), iter(items)
    chunks = iter(lambda: list(islice(iterator, chunk)), [])
    with (
        ThreadPoolExecutor(workers) as pool,
        closing(_map_ahead(pool, lambda part: list(map(function, part)), chunks, PREFETCH * workers)) as results,
    ):
        for result in results:
            yield from result


def _map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Generator[Result]:
    """`pool.map`, but with at most `ahead` results in advance."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def start_workers(
    reader: TorchDataset[Any],
    workers: int | None,
    kind: WorkerKind,
    *,
    pin_memory: bool = False,
    on_message: Callable[[str], None] = lambda text: None,
) -> _Threads | _Processes:
    """Start workers, which run as long as the returned object exists.

    Its `map(requests)` iterates over `reader[request]` of each request, in order; finish or drop one iterator before
    the next.

    Args:
        workers: how many; 0 computes in the calling thread (default: one per core, 8 at most).
        kind: `processes` are independent of Python's global lock; `threads` start at once, share memory and copy
            nothing, which is better where libraries that release the lock do the work.
        pin_memory: return tensors in pinned memory, which GPUs fetch faster (processes only).
        on_message: told when worker processes were killed and are started again, which changes no result.
    """
    count = min(8, available_cores()) if workers is None else workers
    return _Threads(reader, count) if kind == "threads" and count else _Processes(reader, count, pin_memory, on_message)


class _Threads:
    def __init__(self, reader: TorchDataset[Any], workers: int) -> None:
        self._reader, self._ahead = reader, PREFETCH * workers
        # One torch thread for each worker: by default every one of them would start as many as there are cores.
        threads, started = torch.get_num_threads(), Barrier(workers + 1)
        self._pool = ThreadPoolExecutor(workers, "reader", initializer=torch.set_num_threads, initargs=(1,))
        for _ in range(workers):
            self._pool.submit(started.wait)
        started.wait()
        torch.set_num_threads(threads)  # the setting that threads started later inherit
        weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)

    def map(self, requests: Sequence[Any]) -> Iterator[Any]:
        return _map_ahead(self._pool, self._reader.__getitem__, requests, self._ahead)


class _Processes:
    def __init__(
        self, reader: TorchDataset[Any], workers: int, pin_memory: bool, on_message: Callable[[str], None]
    ) -> None:
        self._reader, self._workers, self._pin_memory, self._on_message = reader, workers, pin_memory, on_message
        self._requests: list[Any] = []  # torch's sampler, which persistent workers iterate anew each epoch
        self._start()

    def _start(self) -> None:
        # Forked workers start at once; but CUDA cannot be used after a fork, so they are spawned once it is in use.
        context = "fork" if sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"  # type: ignore[no-untyped-call]
        with _expected_warnings_ignored():
            self._loader: DataLoader[Any] = DataLoader(
                self._reader,
                sampler=self._requests,
                batch_size=None,  # the reader makes complete batches
                num_workers=self._workers,
                persistent_workers=self._workers > 0,
                pin_memory=self._pin_memory,
                multiprocessing_context=context if self._workers else None,
                worker_init_fn=_ignore_group_signals,
                generator=torch.Generator(),  # else every epoch would draw from torch's global generator
            )
        self._shut_down = weakref.finalize(self, _shut_down, self._loader)

    def map(self, requests: Sequence[Any]) -> Iterator[Any]:
        results, done, restarts = None, 0, 0
        while done < len(requests):
            try:
                if results is None:
                    results = self._iterate(requests[done:])
                yield next(results)  # without a name, which would keep the memory of the batch
            except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
                if not _says_worker_is_gone(error):
                    raise
                restarts += 1
                what = "a data worker ended unexpectedly (killed, or out of memory)"
                if restarts > MAX_RESTARTS:
                    raise DataError(
                        f"data workers must stay alive; {what} {restarts} times in an epoch; use fewer --workers, or "
                        "--workers 0"
                    ) from None
                self._on_message(f"{what}; the workers were started again at batch {done + 1}")
                self._shut_down()
                self._start()
                results = None
            else:
                done += 1

    def _iterate(self, requests: Sequence[Any]) -> Iterator[Any]:
        self._requests[:] = requests
        with _expected_warnings_ignored(), _main_module_hidden(), _child_signals_kept():
            return iter(self._loader)


def _says_worker_is_gone(error: Exception) -> bool:
    """Whether torch found a worker dead, or a connection to one broke while it sent a batch.

    Errors of the reader itself come from a worker with a message of torch's own before theirs.
    """
    text = str(error)
    if isinstance(error, RuntimeError):
        return text.startswith("DataLoader worker (pid")
    return not text.startswith("Caught ")


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Hide the program's main module from workers that are spawned: they would import, and so run, a script again.

    Nothing that they receive is defined there. A script thus needs no `if __name__ == "__main__":`.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__spec__", "__file__") if getattr(main, name, None) is not None}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


@contextmanager
def _child_signals_kept() -> Iterator[None]:
    """Keep the handler of SIGCHLD: torch's raises an error wherever the program is when a worker is killed.

    Without it, the next batch that is asked for raises the same error.
    """
    number = getattr(signal, "SIGCHLD", None)
    before = None if number is None else signal.getsignal(number)
    try:
        yield
    finally:
        if number is not None and signal.getsignal(number) is not before:  # only in the main thread
            signal.signal(number, signal.SIG_DFL if before is None else before)


@contextmanager
def _expected_warnings_ignored() -> Iterator[None]:
    """Ignore torch's warning of more workers than cores, and Python 3.12's of forking with threads (unused here)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


def _ignore_group_signals(worker: int) -> None:
    """Keep a worker alive while the run writes its checkpoint: Ctrl-C and torchrun's SIGTERM reach the entire group.

    A SIGTERM to the worker itself still ends it; Python sends one, as it exits, to workers that are left.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _shut_down(loader: DataLoader[Any]) -> None:
    """End the workers, at the latest before Python exits, which would wait for them."""
    if loader._iterator is not None and hasattr(loader._iterator, "_shutdown_workers"):
        loader._iterator._shutdown_workers()
