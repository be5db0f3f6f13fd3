"""Counter-based random numbers: a pure function of seed, epoch, sample and purpose, without any state.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a counter to four random words.
The counter is (draw, sample index, epoch, stream and view) and the key is the seed, so an image's augmentation is the
same in any batch, in any worker and after any restart.

Legend: N samples, K draws per sample.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from resnets.errors import ConfigError

__all__ = ["SampleKeys", "Stream", "permutation", "philox4x32", "random_bytes", "uniform"]

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)


class Stream(IntEnum):
    """Purposes of random numbers; each has its own sequence."""

    SHUFFLE = 0
    SPLIT = 1
    AUGMENT = 2  # padded crop, flips, cutout
    RESIZED_CROP = 3
    MIXUP = 4  # for a whole batch: sample 0, and the optimiser step as the epoch
    DROP_PATH = 5  # as MIXUP
    SAMPLER = 6
    POLICY = 7  # automatic policies
    JITTER = 8  # colour jitter and grayscale
    ERASE = 9  # random erasing: rectangles
    ERASE_NOISE = 10  # random erasing: fill
    IDENTITIES = 11  # identities that fill a batch


class SampleKeys(NamedTuple):
    """Keys of the random numbers of a batch's samples, the first arguments of `uniform`.

    Attributes:
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
        indices: (N,) sample indices in the data set (not in the batch).
        views: which of several views of the same sample; one number, or (N,).
    """

    seed: int
    epoch: int
    indices: npt.ArrayLike
    views: npt.ArrayLike = 0


def philox4x32(counter: npt.NDArray[np.uint32], key: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """Ten rounds of Philox4x32, as Random123 defines them.

    Args:
        counter: (..., 4) uint32.
        key: two words below 2**32.

    Returns:
        (..., 4) uint32 random words.
    """
    c0, c1, c2, c3 = (counter[..., word].astype(np.uint64) for word in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _MASK,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3), axis=-1).astype(np.uint32)


def _words(
    seed: int, epoch: int, index: npt.ArrayLike, stream: int, count: int, view: npt.ArrayLike
) -> npt.NDArray[np.uint32]:
    """(N, count) uint32 words for the samples `index`."""
    rows = np.atleast_1d(np.asarray(index))
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed must be between 0 and 2**64 - 1; got {seed}; choose another")
    assert 0 <= epoch < 2**32
    seen = np.asarray(view)
    assert 0 <= stream < 2**16
    assert seen.size == 0 or (seen.min() >= 0 and seen.max() < 2**16)
    assert rows.size == 0 or (rows.min() >= 0 and rows.max() < 2**32)
    blocks = -(-count // 4)
    counter = np.empty((len(rows), blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = rows[:, None]
    counter[..., 2] = epoch
    counter[..., 3] = (stream << 16 | seen).reshape(-1, 1)
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))  # (N, blocks, 4)
    return words.reshape(len(rows), blocks * 4)[:, :count]


def uniform(
    seed: int, epoch: int, index: npt.ArrayLike, stream: int, count: int, view: npt.ArrayLike = 0
) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1) with 32 bits each.

    Args:
        seed: 0 to 2**64 - 1.
        epoch: 0 to 2**32 - 1.
        index: (N,) sample indices in the data set (not in the batch).
        stream: the purpose, see `Stream`.
        count: draws per sample, K.
        view: which of several views of the same sample; one number, or (N,).

    Returns:
        (N, K) float64.
    """
    return _words(seed, epoch, index, stream, count, view).astype(np.float64) * 2.0**-32


def random_bytes(
    seed: int, epoch: int, index: npt.ArrayLike, stream: int, count: int, view: npt.ArrayLike = 0
) -> npt.NDArray[np.uint8]:
    """Uniform bytes; arguments as for `uniform`. Returns (N, K) uint8."""
    words = _words(seed, epoch, index, stream, -(-count // 4), view)
    return np.ascontiguousarray(words, "<u4").view(np.uint8)[:, :count]


def permutation(n: int, seed: int, epoch: int, stream: int = Stream.SHUFFLE, *, view: int = 0) -> npt.NDArray[np.int64]:
    """A random order of 0..n-1: sorted by a random 64-bit key each. Returns (n,) int64."""
    words = _words(seed, epoch, np.arange(n), stream, 2, view).astype(np.uint64)
    return np.argsort(words[:, 0] << _SHIFT | words[:, 1], kind="stable").astype(np.int64)
