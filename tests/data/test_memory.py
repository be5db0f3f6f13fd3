"""Batches from memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.geometric import AugmentConfig, augment_draws
from resnets.data.augment.geometric import augment as augment_pixels
from resnets.data.dataset import ImageSet
from resnets.data.memory import EvalBatches, MemorySet, TrainBatches
from resnets.data.random import permutation
from resnets.data.sources.digits import ArraySource
from resnets.data.transform import normalise, prepare
from resnets.errors import ConfigError, ImageError

PREPROCESSING = Preprocessing(size=(8, 8), crop_pct=1)
CONFIG = AugmentConfig(pad=2, cutout=3)


def make_images(count: int = 21, size: tuple[int, int] = (8, 8)) -> ImageSet:
    images = np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return ImageSet(source=ArraySource("x", images), rows=np.arange(count), labels=np.arange(count) % 4)


def test_images_are_prepared_once_and_kept() -> None:
    images = make_images(70, (12, 10))
    seen: list[tuple[int, int]] = []
    kept = MemorySet(images, PREPROCESSING, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert kept.table.images.shape == (70, 8, 8, 3)
    for i in (0, 63, 64, 69):
        assert np.array_equal(kept.table.images[i].numpy(), prepare(images.image(i, "RGB"), PREPROCESSING))
    assert seen == [(64, 70), (70, 70)]
    assert torch.equal(kept.labels, torch.from_numpy(images.labels))


def test_an_epoch_shows_every_image_once_in_the_seeds_order() -> None:
    batches = TrainBatches(MemorySet(make_images(), PREPROCESSING), PREPROCESSING, CONFIG, 4, 9)
    epoch = list(batches.epoch(5))
    assert len(batches) == len(epoch) == 5
    assert [len(batch.indices) for batch in epoch] == [4, 4, 4, 4, 5]  # 21 = 5 x 4 + 1
    indices = torch.cat([batch.indices for batch in epoch])
    assert torch.equal(indices, torch.from_numpy(permutation(21, 9, 5)))
    assert torch.equal(torch.cat([batch.y for batch in epoch]), indices % 4)
    for batch in epoch:
        assert batch.x.dtype == torch.float32
        assert batch.x.is_contiguous(memory_format=torch.channels_last)
        assert batch.y.dtype == batch.indices.dtype == torch.int64


def test_a_image_is_varied_alike_whatever_the_batch_size() -> None:
    kept = MemorySet(make_images(), PREPROCESSING)
    by_index = []
    for size in (1, 4, 21):
        shown: dict[int, torch.Tensor] = {}
        for batch in TrainBatches(kept, PREPROCESSING, CONFIG, size, 9).epoch(2):
            shown |= dict(zip(batch.indices.tolist(), batch.x, strict=True))
        by_index.append(torch.stack([shown[i] for i in range(21)]))
    assert torch.equal(by_index[0], by_index[1])
    assert torch.equal(by_index[0], by_index[2])
    alone = augment_pixels(kept.table, torch.tensor([13]), CONFIG, augment_draws(9, 2, [13]))
    assert torch.equal(normalise(alone, PREPROCESSING)[0], by_index[0][13])


def test_epochs_and_seeds_differ_and_repeat() -> None:
    kept = MemorySet(make_images(), PREPROCESSING)
    first = [batch.x for batch in TrainBatches(kept, PREPROCESSING, CONFIG, 7, 0).epoch(1)]
    other = TrainBatches(kept, PREPROCESSING, CONFIG, 7, 0)
    list(other.epoch(0))
    again = [batch.x for batch in other.epoch(1)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], next(other.epoch(2)).x)
    assert not torch.equal(first[0], next(TrainBatches(kept, PREPROCESSING, CONFIG, 7, 1).epoch(1)).x)


def test_an_epoch_can_be_taken_up_in_the_middle() -> None:
    batches = TrainBatches(MemorySet(make_images(), PREPROCESSING), PREPROCESSING, CONFIG, 4, 9)
    whole, rest = list(batches.epoch(0)), list(batches.epoch(0, start=3))
    assert len(rest) == 2
    assert all(torch.equal(a.x, b.x) for a, b in zip(whole[3:], rest, strict=True))


def test_few_images() -> None:
    def sizes(count: int, *, drop_last: bool = False) -> list[int]:
        kept = MemorySet(make_images(count), PREPROCESSING)
        batches = TrainBatches(kept, PREPROCESSING, CONFIG, 4, 0, drop_last=drop_last)
        return [len(batch.y) for batch in batches.epoch(0)]

    assert sizes(1) == [1]
    assert sizes(3) == [3]
    assert sizes(5) == [5]
    assert sizes(6, drop_last=True) == [4]


def test_evaluation_is_in_order_and_plain() -> None:
    images = make_images(9)
    kept = MemorySet(images, PREPROCESSING)
    batches = EvalBatches(kept, PREPROCESSING, 4)
    epoch = list(batches.epoch())
    assert [len(batch.y) for batch in epoch] == [4, 4, 1] == [4] * (len(batches) - 1) + [1]
    assert torch.cat([batch.indices for batch in epoch]).tolist() == list(range(9))
    assert torch.equal(torch.cat([batch.x for batch in epoch]), normalise(kept.table.images, PREPROCESSING))
    assert [len(batch.y) for batch in batches.epoch(start=2)] == [1]


def test_grey_images_for_a_grey_network() -> None:
    preprocessing = replace(PREPROCESSING, channels="L", mean=(0.5,), std=(0.25,))
    batch = next(TrainBatches(MemorySet(make_images(), preprocessing), preprocessing, CONFIG, 4, 0).epoch(0))
    assert batch.x.shape == (4, 1, 8, 8)


def test_what_memory_does_not_do() -> None:
    with pytest.raises(ConfigError, match="stream them"):
        TrainBatches(MemorySet(make_images(), PREPROCESSING), PREPROCESSING, AugmentConfig(scale=(0.1, 1)), 4, 0)


class _Broken:
    def name(self, row: int) -> str:
        return f"broken#{row}"

    def read(self, row: int) -> bytes:
        return b"no image"


def test_a_broken_image_is_named() -> None:
    images = ImageSet(source=_Broken(), rows=np.arange(3), labels=np.zeros(3, np.int64))
    with pytest.raises(ImageError, match="broken#0"):
        MemorySet(images, PREPROCESSING)
