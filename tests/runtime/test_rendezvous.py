"""Processes that start again share no key with those before them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist

from resnets.errors import TrainingError
from resnets.runtime.rendezvous import fresh_store

SIZE = 3


def start(store: Any) -> list[Any]:
    """The parts that three processes get, which here are threads."""
    with ThreadPoolExecutor(SIZE) as pool:
        return list(pool.map(lambda rank: fresh_store(store, rank, SIZE, timedelta(seconds=30)), reversed(range(SIZE))))


def test_processes_that_start_again_see_no_key_of_those_before() -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    for generation in range(3):
        parts = start(store)
        assert not any(part.check(["address"]) for part in parts)
        parts[0].set("address", str(generation))
        assert [part.get("address") for part in parts] == [str(generation).encode()] * SIZE
        store.set("resnets/request/1", f"of a process that was killed {generation}")


def test_a_process_that_does_not_start_is_an_error() -> None:
    with pytest.raises(TrainingError, match="2 of 3 did not start; start them with torchrun"):
        fresh_store(dist.HashStore(), 0, SIZE, timedelta(seconds=0.1))  # type: ignore[attr-defined]
