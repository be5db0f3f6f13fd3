"""Choosing where batches come from."""

from __future__ import annotations

import numpy as np
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.dataset import ImageSet
from resnets.data.loader import make_batches
from resnets.data.memory import MemoryStore
from resnets.data.sources.digits import ArraySource
from resnets.data.stream import StreamStore

PREPROCESSING = Preprocessing(size=(8, 8), crop_pct=1)
CROP = AugmentConfig(scale=(0.08, 1.0))


def make_images() -> ImageSet:
    images = np.random.default_rng(1).integers(0, 256, (13, 8, 8, 3), dtype=np.uint8)
    return ImageSet(source=ArraySource("x", images), rows=np.arange(13), labels=np.arange(13) % 4)


def test_choosing_memory_or_stream() -> None:
    images, size = make_images(), 13 * 8 * 8 * 3
    for augment, limit, kind in (
        (AugmentConfig(), size, MemoryStore),
        (None, size, MemoryStore),
        (CROP, size, StreamStore),
        (None, size - 1, StreamStore),
    ):
        loader = make_batches(images, PREPROCESSING, batch_size=4, augment=augment, workers=0, limit_bytes=limit)
        assert isinstance(loader.store, kind)


def test_progressive_sizes_from_memory_and_stream() -> None:
    for limit in (0, 2**20):
        loader = make_batches(make_images(), PREPROCESSING, batch_size=13, workers=0, limit_bytes=limit)
        (small,), (whole,) = loader.epoch(0, size=(5, 4)), loader.epoch(0)
        assert small.x.shape == (13, 3, 5, 4)
        assert whole.x.shape == (13, 3, 8, 8)
        assert small.x.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(small.x.mean((2, 3)), whole.x.mean((2, 3)), atol=0.4)
