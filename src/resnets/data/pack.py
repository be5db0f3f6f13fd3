"""Writing a packed data set: every image is decoded and resized once and stored as pixels.

Training then reads memory-mapped pixels instead of decoding in every epoch. Random resized crops are cut from the
resized images, so `size` should be a little more than the network's input (256 for 224).

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnets.arch.preprocessing import Interpolation, Preprocessing
from resnets.atomic import fsync
from resnets.data.check import raise_on_fatal
from resnets.data.dataset import SPLITS, Dataset, ImageSet, PreprocessingHint, Problem
from resnets.data.decode.image import Pixels
from resnets.data.sources.packed import INDEX, MANIFEST, NAMES, RECORD, SCHEMA, shard_name
from resnets.data.transform import resize
from resnets.data.workers import map_threads
from resnets.errors import DataError, ImageError

__all__ = ["Packed", "pack", "packed_size"]

Size = int | tuple[int, int]
Item = tuple[str, ImageSet, int, Pixels | ImageError]  # split, its images, index, pixels

FILTER: Interpolation = "bilinear"
_SHARD_BYTES = 512 * 2**20
_UNFINISHED = ".packing"  # suffix of a folder that is being written
_CHUNK = 16  # images per task of a thread


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Result of `pack`.

    Args:
        folder: the packed folder.
        images: number of images written.
        bytes: of pixels.
        left_out: (name, reason) of the images that cannot be decoded.
    """

    folder: Path
    images: int
    bytes: int
    left_out: tuple[tuple[str, str], ...]


def packed_size(height: int, width: int, size: Size) -> tuple[int, int]:
    """(H, W) that an image is packed with.

    Args:
        size: maximum length of the shorter side in pixels, keeping the aspect ratio (smaller images keep their size);
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
    """Write all splits of a data set to a folder that `open_dataset` opens.

    Images are resized with Pillow's antialiased bilinear filter, and packed with the channels and depth of the data
    set's `preprocessing_hint`: grayscale if all sampled images are, and so on. The folder gets its name when it is
    complete; leftovers of killed runs with the same target are removed first.

    Args:
        folder: must be empty or not exist.
        size: see `packed_size`.
        skip_bad: leave out images that cannot be decoded instead of raising an error.
        workers: decoding threads (default: one per core).
        shard_bytes: size at which a new shard begins.
        progress: called with (done, total) now and then, from this thread.

    Raises:
        ImageError: an image cannot be decoded.
        DataError: the folder exists, the size is invalid, or no image of a split, or of a class in training, can be
            decoded.
        OSError: no permission, or the disk is full.
    """
    if min(size if isinstance(size, tuple) else (size,)) < 1:
        raise DataError(f"a packed size must be 1 pixel or more; got {size}; 256 is usual for an image size of 224")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"a packed folder must be new; {folder} exists; remove it or choose another name")
    if not folder.parent.is_dir():
        raise DataError(f"the parent folder must exist; got {folder}; create {folder.parent}")
    with _new_folder(folder) as temporary:
        written = _write(dataset, temporary, folder, size, skip_bad, workers, shard_bytes, progress)
    if progress is not None:
        progress(len(dataset), len(dataset))
    return written


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`: renamed to it if the block succeeds, else removed."""
    temporary = lock = None
    try:
        _remove_leftovers(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        lock = _lock(temporary)
        temporary = temporary.rename(temporary.with_name(temporary.name + _UNFINISHED))  # locked already
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp's folders are private
        fsync(temporary)
        temporary.rename(folder)
        fsync(folder.parent)
    except OSError as error:  # the error of a full disk has no path, others have the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs with this target have left; a folder that a running process writes is locked."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{_UNFINISHED}"):
        with suppress(OSError):  # another user's, or removed meanwhile
            if (lock := _lock(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """A file descriptor that locks the folder for the life of this process; None if another process has the lock."""
    try:
        import fcntl
    except ImportError:  # Windows: leftovers stay
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked by another process, or no locks in this file system
        os.close(handle)
        return None
    return handle


def _write(
    dataset: Dataset,
    at: Path,
    folder: Path,
    size: Size,
    skip_bad: bool,
    workers: int | None,
    shard_bytes: int,
    progress: Callable[[int, int], None] | None,
) -> Packed:
    hint = dataset.preprocessing_hint
    records, names, listing = [], bytearray(), hashlib.sha256()
    left_out: list[tuple[str, str]] = []
    sizes: list[int] = []  # of the shards, in bytes
    with ExitStack() as file, closing(_resize_all(dataset, size, hint, workers)) as decoded:
        for done, (split, images, i, pixels) in enumerate(decoded, 1):
            if progress is not None and done % _CHUNK == 0:
                progress(done, len(dataset))
            if isinstance(pixels, ImageError):
                if not skip_bad:
                    raise pixels
                left_out.append((pixels.where, pixels.reason))
                continue
            name, label = os.fsencode(images.name(i).removeprefix(dataset.folder)), int(images.labels[i])
            group = -1 if images.groups is None else int(images.groups[i])
            names += name
            listing.update(b"%s\0%d\0%s\0" % (split.encode(), label, name))
            if not sizes or sizes[-1] + pixels.nbytes > shard_bytes:
                file.close()
                shard = file.enter_context((at / shard_name(len(sizes))).open("wb"))
                sizes.append(0)
            position = len(sizes) - 1, sizes[-1]
            records.append((*position, *pixels.shape, SPLITS.index(split), label, group, len(names)))
            shard.write(np.ascontiguousarray(pixels).data)
            sizes[-1] += pixels.nbytes
    if not records:
        raise DataError(f"a data set must have images; none of {dataset.name} can be decoded; repair the data")
    bad = [Problem(kind="undecodable", where=where, reason=reason) for where, reason in left_out]
    raise_on_fatal([p for p in dataset.without_undecodable(bad).problems if p not in dataset.problems])
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
        "shards": sizes,
        "left_out": [{"where": where, "reason": reason} for where, reason in left_out],
    }
    (at / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    for path in at.iterdir():
        fsync(path)
    return Packed(folder=folder, images=len(records), bytes=sum(sizes), left_out=tuple(left_out))


def _resize_all(dataset: Dataset, size: Size, hint: PreprocessingHint, workers: int | None) -> Generator[Item]:
    """All images in the order of their splits."""

    def work(item: tuple[str, ImageSet, int]) -> Item:
        split, images, i = item
        try:
            pixels = images.image(i, hint.channels, hint.dtype)
        except ImageError as error:
            return split, images, i, error
        target = packed_size(pixels.shape[0], pixels.shape[1], size)
        return split, images, i, resize(pixels, target, Preprocessing(interpolation=FILTER))

    items = ((split, images, i) for split, images in dataset.splits.items() for i in range(len(images)))
    return map_threads(work, items, workers, chunk=_CHUNK)
