"""Agreement of processes on keys of a store that no earlier processes have used.

torchrun keeps its store when it starts processes again, and with it the addresses of those that are gone: a new process
that reads one waits for it forever (seen with torch 2.13, in a third of the restarts).
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]

from resnets.errors import TrainingError

__all__ = ["fresh_store"]

POLL = 0.02  # seconds


def fresh_store(store: Store, rank: int, world_size: int, timeout: timedelta) -> Store:
    """The part of `store` that these processes alone use. All of them call it.

    Rank 0 names the part. Another process asks for the name with a number of its own, and waits for the answer to this
    number, which cannot be an old one.

    Args:
        store: that all processes were given, with whatever earlier ones left in it.
        rank: of this process, from 0 to `world_size` - 1.
        timeout: for the slowest process to start.

    Raises:
        TrainingError: a process is missing.
    """
    if rank:
        request = uuid.uuid4().hex
        store.set(f"resnets/request/{rank}", request)
        store.wait([f"resnets/answer/{request}"], timeout)
        part = store.get(f"resnets/answer/{request}").decode()
        store.set(f"{part}/joined/{rank}", "")
    else:
        part = f"resnets/{uuid.uuid4().hex}"
        _answer_all(store, part, world_size, time.monotonic() + timeout.total_seconds())
    return PrefixStore(part, store)


def _answer_all(store: Store, part: str, world_size: int, deadline: float) -> None:
    """Answer requests until all other processes have joined; a request of an earlier process is answered in vain."""
    missing, answered = set(range(1, world_size)), set[str]()
    while missing:
        for rank in sorted(missing):
            if store.check([f"{part}/joined/{rank}"]):
                missing.remove(rank)
            elif store.check([f"resnets/request/{rank}"]):
                request = store.get(f"resnets/request/{rank}").decode()
                if request not in answered:
                    store.set(f"resnets/answer/{request}", part)
                    answered.add(request)
        if missing and time.monotonic() > deadline:
            raise TrainingError(
                f"distributed training needs all processes; {len(missing)} of {world_size} did not start; start them "
                "with torchrun"
            )
        time.sleep(POLL if missing else 0)
