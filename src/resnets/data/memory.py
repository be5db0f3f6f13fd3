"""Pixel store for small data sets: decoded once, kept in one tensor, augmented a batch at a time on the device.

Legend: N batch, M images in the split, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import PixelTable, augment_draws, augment_geometric
from resnets.data.augment.photometric import augment_photometric
from resnets.data.dataset import ImageSet
from resnets.data.decode.budget import reserving
from resnets.data.random import SampleKeys
from resnets.data.sampler import Order
from resnets.data.transform import decode_channels, fill_values, prepare
from resnets.data.workers import map_threads
from resnets.errors import ConfigError

__all__ = ["MemoryStore"]


class MemoryStore:
    """A split, decoded and resized in advance.

    Args:
        images: the split.
        preprocessing: gives the size (H, W), channels and depth.
        augment: random augmentation, without random resized crops; None for none.
        seed: of the augmentation, 0 to 2**64 - 1.
        device: where images are kept and augmented; options that Pillow carries out keep them on the CPU.
        workers: decoding threads (default: one per core).
        progress: called with (done, total) during decoding, from this thread.

    Attributes:
        table: the images.

    Raises:
        ConfigError: `augment` has random resized crops.
        ImageError: an image cannot be decoded.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        *,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if augment is not None and augment.scale is not None:
            raise ConfigError("random resized crops need original images; got resized images in memory; stream them")
        self._preprocessing, self._augment, self._seed = preprocessing, augment, seed
        shape = len(images), *preprocessing.size, preprocessing.num_channels
        table = PixelTable(shape, fill_values(preprocessing), getattr(torch, preprocessing.dtype))
        out, channels = table.images.numpy(), decode_channels(preprocessing)

        def work(i: int) -> None:
            with reserving():
                out[i] = prepare(images.image(i, channels, preprocessing.dtype), preprocessing)

        for done, _ in enumerate(map_threads(work, range(len(images)), workers, chunk=64), 1):
            if progress is not None and (done % 64 == 0 or done == len(images)):
                progress(done, len(images))
        self.table = table.to("cpu" if augment is None or augment.photometric else device)

    def batches(self, epoch: int, orders: Sequence[Order], size: tuple[int, int]) -> Iterator[torch.Tensor]:
        """(N, H, W, C) pixels of each batch, always of the preprocessing's size."""
        config = self._augment
        for indices, views in orders:
            rows = torch.from_numpy(indices).to(self.table.pixels.device)
            if config is None:
                yield self.table.images.index_select(0, rows)
                continue
            keys = SampleKeys(self._seed, epoch, indices, views)
            pixels = augment_geometric(self.table, rows, config, augment_draws(*keys))
            if config.photometric:
                pixels = torch.from_numpy(augment_photometric(pixels.numpy(), config, self._preprocessing, keys))
            yield pixels
