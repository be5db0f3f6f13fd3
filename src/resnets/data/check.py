"""Checking a data set before training: decoding every image, and leaving out those that cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from resnets.arch.preprocessing import Depth, Preprocessing
from resnets.atomic import write_atomic
from resnets.data.dataset import Dataset, ImageSet, Problem
from resnets.data.decode.image import PixelChannels
from resnets.data.transform import decode_channels
from resnets.data.workers import map_threads
from resnets.errors import DataError, ImageError

__all__ = ["check", "raise_on_fatal", "skip_undecodable"]

_THIN = 20  # ratio of the sides
_CHUNK = 32  # images per task of a thread


def check(
    dataset: Dataset,
    *,
    preprocessing: Preprocessing | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Decode every image.

    Args:
        preprocessing: channels and depth to decode to (default: those of most images' headers).
        workers: decoding threads (default: one per core).
        progress: called with (done, total), from this thread.

    Returns:
        A fatal problem for every image that cannot be decoded, and a `thin` one for every image more than 20 times as
        long as wide, in the order of the splits.
    """
    channels, depth = _decode_format(dataset, preprocessing)

    def work(item: tuple[ImageSet, int]) -> Problem | None:
        images, i = item
        try:
            height, width, _ = images.image(i, channels, depth).shape
        except ImageError as error:
            return Problem(kind="undecodable", where=error.where, reason=error.reason, fatal=True)
        if max(height, width) <= _THIN * min(height, width):
            return None
        reason = f"{height} x {width} pixels (height x width): a square crop shows less than 1/{_THIN} of it"
        return Problem(kind="thin", where=images.name(i), reason=reason)

    items = ((images, i) for images in dataset.splits.values() for i in range(len(images)))
    problems = []
    for done, problem in enumerate(map_threads(work, items, workers, chunk=_CHUNK), 1):
        problems += [problem] if problem is not None else []
        if progress is not None and (done % _CHUNK == 0 or done == len(dataset)):
            progress(done, len(dataset))
    return problems


def _decode_format(dataset: Dataset, preprocessing: Preprocessing | None) -> tuple[PixelChannels, Depth]:
    if preprocessing is not None:
        return decode_channels(preprocessing), preprocessing.dtype
    try:
        hint = dataset.preprocessing_hint
    except DataError:  # none of the headers can be read
        return "RGB", "uint8"
    return hint.channels if isinstance(hint.channels, int) else "RGB", hint.dtype


def raise_on_fatal(problems: Sequence[Problem]) -> None:
    """Raise an error that names the first three fatal problems, if there are any.

    Raises:
        DataError: there are fatal problems.
    """
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        more = f" and {len(fatal) - 3} more" if len(fatal) > 3 else ""
        remedy = "pass --skip-bad" if all(p.kind == "undecodable" for p in fatal) else "repair the data"
        raise DataError(f"training data must have no fatal problems; {'; '.join(map(str, fatal[:3]))}{more}; {remedy}")


def skip_undecodable(dataset: Dataset, problems: Sequence[Problem], list_path: Path) -> Dataset:
    """`dataset.without_undecodable(problems)`; lists the images left out in `list_path`, as lines `name<tab>reason`."""
    skipped = [problem for problem in problems if problem.kind == "undecodable"]
    remaining = dataset.without_undecodable(skipped)
    lines = "".join(f"{problem.where}\t{problem.reason}\n" for problem in skipped)
    write_atomic(list_path, lines.encode("utf-8", "surrogateescape"))
    return remaining
