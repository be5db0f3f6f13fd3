"""Writing a packed data set: every image decoded once, made smaller, and laid down as pixels.

Training then reads from mapped files what it would have decoded anew in every epoch. A random resized crop takes its
part from the smaller image, so `size` should be a little more than the network's input (256 for 224).

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnets.arch.preprocessing import Interpolation, Preprocessing
from resnets.atomic import fsync
from resnets.data.check import require_sound
from resnets.data.cores import available_cores
from resnets.data.dataset import SPLITS, Dataset, ImageSet, PreprocessingHint, Problem
from resnets.data.decode.image import Pixels
from resnets.data.sources.packed import INDEX, MANIFEST, NAMES, RECORD, SCHEMA, shard_name
from resnets.data.transform import resize
from resnets.errors import DataError, ImageError

__all__ = ["Packed", "pack", "packed_size"]

Size = int | tuple[int, int]
Item = tuple[str, ImageSet, int, Pixels | ImageError]  # split, its images, the place in them, pixels

FILTER: Interpolation = "bilinear"
_SHARD_BYTES = 512 * 2**20
_UNFINISHED = ".packing"  # how the name of a folder ends that is being written
_CHUNK = 16  # images that a thread decodes at a time


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was written.

    Args:
        folder: where it lies.
        images: how many there are.
        bytes: of pixels.
        left_out: (name, reason) of the images that do not decode.
    """

    folder: Path
    images: int
    bytes: int
    left_out: tuple[tuple[str, str], ...]


def packed_size(height: int, width: int, size: Size) -> tuple[int, int]:
    """(H, W) that an image is packed with.

    Args:
        size: the most pixels that the shorter side keeps (smaller images stay as they are, the aspect is kept),
            or exactly (H, W).
    """
    if isinstance(size, tuple):
        return size
    if min(height, width) <= size:
        return height, width
    if height <= width:
        return size, max(size, round(width * size / height))
    return max(size, round(height * size / width)), size


def pack(
    dataset: Dataset,
    folder: Path,
    *,
    size: Size = 256,
    skip_bad: bool = False,
    workers: int | None = None,
    shard_bytes: int = _SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Writes all splits of a data set to a folder that `open_dataset` opens.

    Images are resized with Pillow's antialiased bilinear filter. They are packed with the channels and the depth
    that the data set's `preprocessing_hint` tells: where all sampled images are grey, as grey, and so on. The folder
    takes its name when everything has been written: it is whole or not there. What a pack to that name has left behind
    that was killed is removed first.

    Args:
        folder: must not exist, or be empty.
        size: see `packed_size`.
        skip_bad: leave out images that do not decode; without it the first of them is an error.
        workers: decoding threads; by default one for every core.
        shard_bytes: a new file is begun beyond this.
        progress: called with (done, total) now and then, from this thread.

    Raises:
        ImageError: an image does not decode.
        DataError: the folder is in the way, the size makes no sense, or no image of a split, or none that a class
            trains on, decodes.
        OSError: no permission, or no room on the disk.
    """
    if min(size if isinstance(size, tuple) else (size,)) < 1:
        raise DataError(f"a packed size must be 1 pixel or more; got {size}; 256 is usual for networks that see 224")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"a packed folder must be new; {folder} exists; remove it or choose another name")
    if not folder.parent.is_dir():
        raise DataError(f"the folder above must exist; got {folder}; create {folder.parent}")
    with _new_folder(folder) as temporary:
        written = _write(
            dataset, temporary, folder, size, skip_bad, workers or available_cores(), shard_bytes, progress
        )
    if progress is not None:
        progress(len(dataset), len(dataset))
    return written


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which takes its name when the block ends well, and else disappears."""
    temporary = lock = None
    try:
        _tidy(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        lock = _lock(temporary)
        temporary = temporary.rename(temporary.with_name(temporary.name + _UNFINISHED))  # never there without its lock
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes folders for their owner alone
        fsync(temporary)
        temporary.rename(folder)
        fsync(folder.parent)
    except OSError as error:  # a full disk names no file, and the temporary name says nothing to anyone
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _tidy(folder: Path) -> None:
    """Removes what killed packs to this name have left behind; what a living process writes is locked."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{_UNFINISHED}"):
        with suppress(OSError):  # someone else's, or removed meanwhile
            if (lock := _lock(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """A handle that holds the folder for this process, as long as it lives; None where that cannot be had."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is tidied up
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system has no locks
        os.close(handle)
        return None
    return handle


def _write(
    dataset: Dataset,
    at: Path,
    folder: Path,
    size: Size,
    skip_bad: bool,
    workers: int,
    shard_bytes: int,
    progress: Callable[[int, int], None] | None,
) -> Packed:
    hint = dataset.preprocessing_hint
    records, names, listing = [], bytearray(), hashlib.sha256()
    left_out: list[tuple[str, str]] = []
    with closing(_Shards(at, shard_bytes)) as shards, closing(_resized(dataset, size, hint, workers)) as decoded:
        for done, (split, images, i, pixels) in enumerate(decoded, 1):
            if progress is not None and done % _CHUNK == 0:
                progress(done, len(dataset))
            if isinstance(pixels, ImageError):
                if not skip_bad:
                    raise pixels
                left_out.append((pixels.where, pixels.reason))
                continue
            short, label = os.fsencode(images.name(i).removeprefix(dataset.folder)), int(images.labels[i])
            group = -1 if images.groups is None else int(images.groups[i])
            names += short
            listing.update(b"%s\0%d\0%s\0" % (split.encode(), label, short))
            records.append((*shards.append(pixels), *pixels.shape, SPLITS.index(split), label, group, len(names)))
    if not records:
        raise DataError(f"a data set needs images; none of {dataset.name} decodes; repair the data")
    bad = [Problem(kind="undecodable", where=where, reason=reason) for where, reason in left_out]
    require_sound([problem for problem in dataset.without(bad).problems if problem not in dataset.problems])
    np.save(at / INDEX, np.array(records, RECORD), allow_pickle=False)
    (at / NAMES).write_bytes(names)
    manifest = {
        "schema": SCHEMA,
        "name": dataset.name,
        "classes": list(dataset.classes),
        "images": len(records),
        "size": list(size) if isinstance(size, tuple) else size,
        "channels": hint.channels,
        "dtype": hint.dtype,
        "groups": any(images.groups is not None for images in dataset.splits.values()),
        "filter": FILTER,
        "listing": listing.hexdigest(),
        "shards": shards.sizes,
        "left_out": [{"where": where, "reason": reason} for where, reason in left_out],
    }
    (at / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    for path in at.iterdir():
        fsync(path)
    return Packed(folder=folder, images=len(records), bytes=sum(shards.sizes), left_out=tuple(left_out))


class _Shards:
    """The pixel files, of `sizes` bytes: images go to the last one until it is full."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit, self.sizes = folder, limit, [0]
        self._file = (folder / shard_name(0)).open("wb")

    def append(self, pixels: Pixels) -> tuple[int, int]:
        """Shard and offset at which the pixels now lie."""
        if self.sizes[-1] and self.sizes[-1] + pixels.nbytes > self._limit:
            self._file.close()
            self.sizes.append(0)
            self._file = (self._folder / shard_name(len(self.sizes) - 1)).open("wb")
        place = len(self.sizes) - 1, self.sizes[-1]
        self._file.write(np.ascontiguousarray(pixels).data)
        self.sizes[-1] += pixels.nbytes
        return place

    def close(self) -> None:
        """Nothing more will be written."""
        self._file.close()


def _resized(dataset: Dataset, size: Size, hint: PreprocessingHint, workers: int) -> Generator[Item]:
    """All images in the order of their splits, a few chunks ahead of who asks for them."""

    def work(split: str, images: ImageSet, places: range) -> list[Item]:
        return [(split, images, i, _one(images, i, size, hint)) for i in places]

    jobs = (
        (split, images, range(start, min(start + _CHUNK, len(images))))
        for split, images in dataset.splits.items()
        for start in range(0, len(images), _CHUNK)
    )
    waiting: deque[Future[list[Item]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(work, *job))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _one(images: ImageSet, i: int, size: Size, hint: PreprocessingHint) -> Pixels | ImageError:
    try:
        pixels = images.image(i, hint.channels, hint.dtype)
    except ImageError as error:
        return error
    return resize(pixels, packed_size(pixels.shape[0], pixels.shape[1], size), Preprocessing(interpolation=FILTER))
