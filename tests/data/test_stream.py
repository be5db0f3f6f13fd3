"""Batches from files, by any number of workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data import memory, stream
from resnets.data.augment.geometric import AugmentConfig
from resnets.data.dataset import ImageSet
from resnets.data.loader import fits_in_memory, make_batches
from resnets.data.open import open_dataset
from resnets.errors import ImageError

MakeFolder = Callable[[dict[str, int]], Path]
PREPROCESSING = Preprocessing(size=(8, 8), crop_pct=1)
CROP = AugmentConfig(scale=(0.08, 1.0))


@pytest.fixture
def images(make_folder: MakeFolder) -> ImageSet:
    return open_dataset(make_folder({"a": 6, "b": 7}), val_fraction=0).splits["train"]


@pytest.mark.parametrize("config", [CROP, AugmentConfig(pad=2, cutout=3)])
def test_workers_change_nothing(images: ImageSet, config: AugmentConfig) -> None:
    alone = stream.TrainBatches(images, PREPROCESSING, config, 4, 3, workers=0)
    helped = stream.TrainBatches(images, PREPROCESSING, config, 4, 3, workers=2)
    state = torch.get_rng_state()
    for epoch in (0, 1):  # the second with the same workers
        pairs = list(zip(alone.epoch(epoch), helped.epoch(epoch), strict=True))
        assert [len(a.y) for a, _ in pairs] == [4, 4, 5]
        for a, b in pairs:
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.y, b.y)
            assert torch.equal(a.indices, b.indices)
            assert a.x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.get_rng_state(), state)
    later = list(helped.epoch(1, start=2))
    assert len(later) == 1
    assert torch.equal(later[0].x, pairs[2][0].x)


def test_streamed_and_kept_are_the_same(images: ImageSet) -> None:
    config = AugmentConfig(pad=2, cutout=3)
    kept = memory.MemorySet(images, PREPROCESSING)
    training = stream.TrainBatches(images, PREPROCESSING, config, 4, 3, workers=0)
    evaluation = stream.EvalBatches(images, PREPROCESSING, 4, workers=0)
    for streamed, remembered in (
        (training, memory.TrainBatches(kept, PREPROCESSING, config, 4, 3)),
        (evaluation, memory.EvalBatches(kept, PREPROCESSING, 4)),
    ):
        assert len(streamed) == len(remembered)
        for a, b in zip(streamed.epoch(2), remembered.epoch(2), strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.y, b.y)
            assert torch.equal(a.indices, b.indices)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_reaches_the_main_process(images: ImageSet, workers: int) -> None:
    broken = Path(images.name(5))
    broken.write_bytes(broken.read_bytes()[:90])
    batches = stream.EvalBatches(images, PREPROCESSING, 4, workers=workers)
    with pytest.raises(ImageError) as caught:
        list(batches.epoch())
    assert caught.value.where == str(broken)


def test_an_epoch_may_be_left_early(images: ImageSet) -> None:
    batches = stream.EvalBatches(images, PREPROCESSING, 4, workers=1)
    next(batches.epoch())
    assert torch.cat([batch.indices for batch in batches.epoch()]).tolist() == list(range(13))


def test_choosing_memory_or_files(images: ImageSet) -> None:
    size = 13 * 8 * 8 * 3
    assert fits_in_memory(images, PREPROCESSING, limit_bytes=size)
    assert not fits_in_memory(images, PREPROCESSING, limit_bytes=size - 1)
    plain = AugmentConfig()
    assert isinstance(make_batches(images, PREPROCESSING, batch_size=4, augment=plain), memory.TrainBatches)
    assert isinstance(make_batches(images, PREPROCESSING, batch_size=4), memory.EvalBatches)
    assert isinstance(make_batches(images, PREPROCESSING, batch_size=4, augment=CROP, workers=0), stream.TrainBatches)
    small = make_batches(images, PREPROCESSING, batch_size=4, workers=0, limit_bytes=9)
    assert isinstance(small, stream.EvalBatches)
