"""Decoding a whole data set before it is trained on, and leaving out what does not decode."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from resnets.arch.preprocessing import Depth, Preprocessing
from resnets.data.cores import available_cores
from resnets.data.dataset import Dataset, ImageSet, Problem
from resnets.data.decode.image import PixelChannels
from resnets.data.transform import decode_channels
from resnets.errors import DataError, ImageError

__all__ = ["check", "quarantine", "require_sound"]


def check(
    dataset: Dataset,
    *,
    preprocessing: Preprocessing | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Decodes every image and says which do not.

    Args:
        preprocessing: what images are decoded to; by default what their headers hint at.
        workers: threads; the decoders run outside Python's lock. By default one for every core.
        progress: called with (done, total), from any thread but never twice at once.

    Returns:
        One fatal problem an image that does not decode, in the order of the splits.
    """
    channels, depth = _wanted(dataset, preprocessing)
    todo = [
        (images, range(start, min(start + 32, len(images))))
        for images in dataset.splits.values()
        for start in range(0, len(images), 32)
    ]
    done, lock = 0, threading.Lock()

    def work(job: tuple[ImageSet, range]) -> list[Problem]:
        nonlocal done
        images, places = job
        found = []
        for i in places:
            try:
                images.image(i, channels, depth)
            except ImageError as error:
                found.append(Problem(kind="undecodable", where=error.where, reason=error.reason, fatal=True))
        with lock:
            done += len(places)
            if progress is not None:
                progress(done, len(dataset))
        return found

    with ThreadPoolExecutor(workers or available_cores()) as pool:
        return [problem for found in pool.map(work, todo) for problem in found]


def _wanted(dataset: Dataset, preprocessing: Preprocessing | None) -> tuple[PixelChannels, Depth]:
    if preprocessing is not None:
        return decode_channels(preprocessing), preprocessing.dtype
    try:
        hint = dataset.preprocessing_hint
    except DataError:  # not one header can be read
        return "RGB", "uint8"
    return hint.channels if isinstance(hint.channels, int) else "RGB", hint.dtype


def require_sound(problems: Sequence[Problem]) -> None:
    """Stops at fatal problems.

    Raises:
        DataError: there are some; it names the first three.
    """
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        more = f" and {len(fatal) - 3} more" if len(fatal) > 3 else ""
        remedy = "pass --skip-bad" if all(p.kind == "undecodable" for p in fatal) else "repair the data"
        raise DataError(f"training needs sound data; {'; '.join(map(str, fatal[:3]))}{more}; {remedy}")


def quarantine(dataset: Dataset, problems: Sequence[Problem], path: Path) -> Dataset:
    """`dataset.without(problems)`, after writing what was left out to `path`, a line an image: where, tab, reason."""
    left_out = [problem for problem in problems if problem.kind == "undecodable"]
    sound = dataset.without(left_out)
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(f"{p.where}\t{p.reason}\n" for p in left_out), "utf-8", errors="surrogateescape")
    os.replace(partial, path)  # a killed run never leaves half a list
    return sound
