"""Batches from memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import augment_draws, augment_geometric
from resnets.data.dataset import ImageSet
from resnets.data.loader import EpochLoader, make_batches
from resnets.data.memory import MemoryStore
from resnets.data.random import permutation
from resnets.data.sources.digits import ArraySource
from resnets.data.transform import normalise, prepare
from resnets.errors import ConfigError, ImageError

PREPROCESSING = Preprocessing(size=(8, 8), crop_pct=1)
CONFIG = AugmentConfig(pad=2, cutout=3)


def make_images(count: int = 21, size: tuple[int, int] = (8, 8)) -> ImageSet:
    images = np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return ImageSet(source=ArraySource("x", images), rows=np.arange(count), labels=np.arange(count) % 4)


def load(batch_size: int, seed: int = 9, count: int = 21, *, drop_last: bool = False) -> EpochLoader:
    return make_batches(
        make_images(count), PREPROCESSING, batch_size=batch_size, augment=CONFIG, seed=seed, drop_last=drop_last
    )


def test_images_are_prepared_once_and_kept() -> None:
    images = make_images(70, (12, 10))
    seen: list[tuple[int, int]] = []
    kept = MemoryStore(images, PREPROCESSING, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert kept.table.images.shape == (70, 8, 8, 3)
    for i in (0, 63, 64, 69):
        assert np.array_equal(kept.table.images[i].numpy(), prepare(images.image(i, "RGB"), PREPROCESSING))
    assert seen == [(64, 70), (70, 70)]


def test_an_epoch_shows_every_image_once_in_the_seeds_order() -> None:
    batches = load(4)
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


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    table = MemoryStore(make_images(), PREPROCESSING).table
    by_index = []
    for size in (1, 4, 21):
        shown: dict[int, torch.Tensor] = {}
        for batch in load(size).epoch(2):
            shown |= dict(zip(batch.indices.tolist(), batch.x, strict=True))
        by_index.append(torch.stack([shown[i] for i in range(21)]))
    assert torch.equal(by_index[0], by_index[1])
    assert torch.equal(by_index[0], by_index[2])
    alone = augment_geometric(table, torch.tensor([13]), CONFIG, augment_draws(9, 2, [13]))
    assert torch.equal(normalise(alone, PREPROCESSING)[0], by_index[0][13])


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first = [batch.x for batch in load(7, seed=0).epoch(1)]
    other = load(7, seed=0)
    list(other.epoch(0))
    again = [batch.x for batch in other.epoch(1)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], next(other.epoch(2)).x)
    assert not torch.equal(first[0], next(load(7, seed=1).epoch(1)).x)


def test_an_epoch_can_be_resumed_in_the_middle() -> None:
    batches = load(4)
    whole, rest = list(batches.epoch(0)), list(batches.epoch(0, start=3))
    assert len(rest) == 2
    assert all(torch.equal(a.x, b.x) for a, b in zip(whole[3:], rest, strict=True))


def test_few_images() -> None:
    def sizes(count: int, *, drop_last: bool = False) -> list[int]:
        return [len(batch.y) for batch in load(4, count=count, drop_last=drop_last).epoch(0)]

    assert sizes(1) == [1]
    assert sizes(3) == [3]
    assert sizes(5) == [5]
    assert sizes(6, drop_last=True) == [4]


def test_evaluation_is_in_order_and_not_augmented() -> None:
    images = make_images(9)
    batches = make_batches(images, PREPROCESSING, batch_size=4)
    epoch = list(batches.epoch(0))
    assert [len(batch.y) for batch in epoch] == [4, 4, 1] == [4] * (len(batches) - 1) + [1]
    assert torch.cat([batch.indices for batch in epoch]).tolist() == list(range(9))
    assert torch.equal(
        torch.cat([batch.x for batch in epoch]),
        normalise(MemoryStore(images, PREPROCESSING).table.images, PREPROCESSING),
    )
    assert [len(batch.y) for batch in batches.epoch(0, start=2)] == [1]


def test_grayscale_batches() -> None:
    preprocessing = replace(PREPROCESSING, channels="L", mean=(0.5,), std=(0.25,))
    batch = next(make_batches(make_images(), preprocessing, batch_size=4, augment=CONFIG).epoch(0))
    assert batch.x.shape == (4, 1, 8, 8)


def test_random_resized_crops_are_refused() -> None:
    with pytest.raises(ConfigError, match="stream them"):
        MemoryStore(make_images(), PREPROCESSING, AugmentConfig(scale=(0.1, 1)))


class BrokenSource:
    def name(self, row: int) -> str:
        return f"broken#{row}"

    def read(self, row: int) -> bytes:
        return b"no image"


def test_an_undecodable_image_is_named() -> None:
    images = ImageSet(source=BrokenSource(), rows=np.arange(3), labels=np.zeros(3, np.int64))
    with pytest.raises(ImageError, match="broken#0"):
        MemoryStore(images, PREPROCESSING)
