"""Reuse of batch buffers."""

from __future__ import annotations

import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.buffers import MAX_FREE, BufferPool
from resnets.data.dataset import ImageSet
from resnets.data.loader import make_batches
from resnets.data.sources.digits import ArraySource
from resnets.data.transform import normalise


def address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_released_memory_is_reused() -> None:
    buffers = BufferPool()
    array = buffers.empty((2, 3), np.float32)
    first = address(array)
    assert address(buffers.empty((2, 3), np.float32)) != first  # still held
    del array
    assert address(buffers.empty((2, 3), np.uint8)) != first
    assert address(buffers.empty((2, 3), np.float32)) == first


def test_views_and_tensors_keep_their_memory() -> None:
    buffers = BufferPool()
    view, first = None, 0
    for hold in (
        lambda array: array[1:],
        lambda array: torch.from_numpy(array),
        lambda array: torch.from_numpy(array).view(-1)[:1],
        lambda array: normalise(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), Preprocessing(size=(4, 4)), out=array),
    ):
        array = buffers.empty((1, 4, 4, 3), np.float32)
        first, view = address(array), hold(array)
        del array
        assert address(buffers.empty((1, 4, 4, 3), np.float32)) != first
    del view
    held = [buffers.empty((1, 4, 4, 3), np.float32) for _ in range(MAX_FREE)]
    assert first in {address(array) for array in held}


def test_at_most_so_many_free_buffers_are_kept() -> None:
    buffers = BufferPool()
    held = [buffers.empty((5,), np.uint8) for _ in range(3 * MAX_FREE)]
    assert len({address(array) for array in held}) == len(held)
    assert len(buffers) == 0
    held.clear()
    assert len(buffers) == MAX_FREE


def test_a_pickle_is_empty() -> None:
    buffers = BufferPool()
    del (array := [buffers.empty((5,), np.uint8)])[:]
    assert (array, len(buffers)) == ([], 1)
    assert len(pickle.loads(pickle.dumps(buffers))) == 0


def test_arrays_are_writable_and_aligned() -> None:
    array = BufferPool().empty((3, 5, 2), np.float32)
    array[:] = 1
    assert (array.shape, array.dtype.name) == ((3, 5, 2), "float32")
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.sum() == 30


def test_a_batch_may_outlive_the_pool() -> None:
    buffers = BufferPool()
    tensor = torch.from_numpy(buffers.empty((4,), np.float32)).fill_(7)
    del buffers
    gc.collect()
    assert tensor.tolist() == [7] * 4


def test_threads_never_share_an_array() -> None:
    buffers = BufferPool()

    def work(number: int) -> bool:
        array = buffers.empty((500,), np.int64)
        array[:] = number
        return bool((array.sum() == 500 * number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))


def test_batches_that_are_kept_keep_their_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    split = ImageSet(source=ArraySource("noise", images), rows=np.arange(12), labels=np.arange(12) % 2)
    preprocessing, augment = Preprocessing(size=(8, 8), crop_pct=1.0), AugmentConfig()
    batches = make_batches(split, preprocessing, batch_size=3, augment=augment, workers=0, limit_bytes=0)
    kept = list(batches.epoch(0))
    copies = [batch.x.clone() for batch in batches.epoch(0)]
    assert all(torch.equal(one.x, two) for one, two in zip(kept, copies, strict=True))
    assert len({one.x.data_ptr() for one in kept}) == 4
    assert len({batch.x.data_ptr() for batch in batches.epoch(1)}) < 4
