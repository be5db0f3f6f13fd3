"""Batches from files, with any number of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.dataset import ImageSet
from resnets.data.decode.image import Pixels
from resnets.data.loader import EpochLoader, make_batches
from resnets.data.open import open_dataset
from resnets.errors import ImageError

MakeFolder = Callable[[dict[str, int]], Path]
PREPROCESSING = Preprocessing(size=(8, 8), crop_pct=1)
CROP = AugmentConfig(scale=(0.08, 1.0))


@pytest.fixture
def images(make_folder: MakeFolder) -> ImageSet:
    return open_dataset(make_folder({"a": 6, "b": 7}), val_fraction=0).splits["train"]


def stream(images: ImageSet, config: AugmentConfig | None, workers: int = 0) -> EpochLoader:
    return make_batches(images, PREPROCESSING, batch_size=4, augment=config, seed=3, workers=workers, limit_bytes=0)


@pytest.mark.parametrize("config", [CROP, AugmentConfig(pad=2, cutout=3)])
def test_workers_change_nothing(images: ImageSet, config: AugmentConfig) -> None:
    alone, helped = stream(images, config), stream(images, config, workers=2)
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


@pytest.mark.parametrize("config", [None, AugmentConfig(pad=2, cutout=3)])
def test_streamed_and_kept_are_the_same(images: ImageSet, config: AugmentConfig | None) -> None:
    streamed = stream(images, config)
    kept = make_batches(images, PREPROCESSING, batch_size=4, augment=config, seed=3)
    assert len(streamed) == len(kept)
    for a, b in zip(streamed.epoch(2), kept.epoch(2), strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
        assert torch.equal(a.indices, b.indices)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_reaches_the_main_process(images: ImageSet, workers: int) -> None:
    broken = Path(images.name(5))
    broken.write_bytes(broken.read_bytes()[:90])
    batches = stream(images, None, workers)
    with pytest.raises(ImageError) as caught:
        list(batches.epoch(0))
    assert caught.value.where == str(broken)


def test_an_epoch_may_be_left_early(images: ImageSet) -> None:
    batches = stream(images, None, workers=1)
    next(batches.epoch(0))
    assert torch.cat([batch.indices for batch in batches.epoch(0)]).tolist() == list(range(13))


class CountingSource:
    """Counts how often each row is read."""

    def __init__(self, images: ImageSet) -> None:
        self.source, self.reads = images.source, Counter[int]()

    def name(self, row: int) -> str:
        return self.source.name(row)

    def read(self, row: int) -> bytes | Pixels:
        self.reads[row] += 1
        return self.source.read(row)


@pytest.mark.parametrize("config", [CROP, AugmentConfig(pad=2), None])
def test_each_image_is_read_once(images: ImageSet, config: AugmentConfig | None) -> None:
    counting = CountingSource(images)
    list(stream(replace(images, source=counting), config).epoch(0))
    assert counting.reads == dict.fromkeys(range(13), 1)
