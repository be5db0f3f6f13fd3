from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.geometric import AugmentConfig
from resnets.data.buffers import KEPT, Buffers
from resnets.data.dataset import ImageSet
from resnets.data.sources.digits import ArraySource
from resnets.data.stream import TrainBatches
from resnets.data.transform import normalise


def place(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_what_is_let_go_is_handed_out_again() -> None:
    buffers = Buffers()
    array = buffers.empty((2, 3), np.float32)
    first = place(array)
    assert place(buffers.empty((2, 3), np.float32)) != first  # still held
    del array
    assert place(buffers.empty((2, 3), np.uint8)) != first
    assert place(buffers.empty((2, 3), np.float32)) == first


def test_views_and_tensors_hold_their_memory() -> None:
    buffers = Buffers()
    view, first = None, 0
    for hold in (
        lambda array: array[1:],
        lambda array: torch.from_numpy(array),
        lambda array: torch.from_numpy(array).view(-1)[:1],
        lambda array: normalise(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), Preprocessing(size=(4, 4)), out=array),
    ):
        array = buffers.empty((1, 4, 4, 3), np.float32)
        first, view = place(array), hold(array)
        del array
        assert place(buffers.empty((1, 4, 4, 3), np.float32)) != first
    del view
    held = [buffers.empty((1, 4, 4, 3), np.float32) for _ in range(KEPT)]
    assert first in {place(array) for array in held}


def test_no_more_is_kept_than_is_worth_it() -> None:
    buffers = Buffers()
    held = [buffers.empty((5,), np.uint8) for _ in range(3 * KEPT)]
    assert len({place(array) for array in held}) == len(held)
    assert len(buffers._arrays) == KEPT


def test_a_pickle_is_an_empty_one() -> None:
    buffers = Buffers()
    held = buffers.empty((5,), np.uint8)
    other = pickle.loads(pickle.dumps(buffers))
    assert not other._arrays
    assert place(other.empty((5,), np.uint8)) != place(held)


def test_threads_never_share_an_array() -> None:
    buffers = Buffers()

    def work(number: int) -> bool:
        array = buffers.empty((500,), np.int64)
        array[:] = number
        return bool((array.sum() == 500 * number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))


def test_batches_that_are_kept_keep_their_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    split = ImageSet(source=ArraySource("noise", images), rows=np.arange(12), labels=np.arange(12) % 2)
    batches = TrainBatches(split, Preprocessing(size=(8, 8), crop_pct=1.0), AugmentConfig(), 3, 0, workers=0)
    kept = list(batches.epoch(0))
    copies = [batch.x.clone() for batch in batches.epoch(0)]
    assert all(torch.equal(one.x, two) for one, two in zip(kept, copies, strict=True))
    assert len({one.x.data_ptr() for one in kept}) == 4
    assert len({batch.x.data_ptr() for batch in batches.epoch(1)}) < 4
