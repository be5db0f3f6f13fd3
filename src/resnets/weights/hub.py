"""Published files into a cache: with progress, resumed where they broke off, checked, whole or not there.

The cache is `RESNETS_CACHE`, or `~/.cache/resnets`. A file is `CACHE/NAME`; what has come of it so far `NAME.part`.
A file that somebody put there by hand is checked once like any other; a note beside it (`NAME.ok`) then keeps its size
and time, so that it is not read again for its hash. With `RESNETS_OFFLINE` set nothing is fetched.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnets.errors import WeightsError
from resnets.version import __version__

__all__ = ["cache_folder", "cached", "fetch"]

LOG = logging.getLogger("resnets.weights")

ProgressCallback = Callable[[int, int], None]
"""Called with the bytes that are there and those that there will be (0: nobody knows)."""

CHUNK = 1 << 20
TRIES = 4
TIMEOUT = 30.0


def cache_folder() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("RESNETS_CACHE") or Path.home() / ".cache" / "resnets").expanduser()


def cached(url: str) -> Path:
    """Where the file of `url` is found once it is there; a file put there by hand serves as well."""
    return cache_folder() / url.rpartition("/")[2]


def fetch(url: str, sha256: str, *, progress: ProgressCallback | None = None) -> Path:
    """The file of `url` in the cache, downloaded if it is not there yet.

    Args:
        url: of the file; its last part is its name.
        sha256: the hash that it must have, or the beginning of it.
        progress: called as bytes arrive; by default a bar is shown in a terminal, a line elsewhere.

    Raises:
        WeightsError: no connection (the message says the URL and where to put the file by hand), another hash, or a
            cache that cannot be written.
    """
    path = cached(url)
    try:
        if path.is_file() and _has_hash(path, sha256):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.is_file():  # another process may have been first
                _download(url, path, sha256, progress or _shown(path.name))
            elif not _has_hash(path, sha256):
                raise WeightsError(
                    f"{path.name} must have a SHA-256 of {sha256}...; {path} has another; delete it, or put the "
                    f"right file there, from {url}"
                )
    except OSError as error:
        raise WeightsError(
            f"the cache must be writable; {path}: {error.strerror or error}; free some room, or set RESNETS_CACHE"
        ) from None
    return path


def _has_hash(path: Path, sha256: str) -> bool:
    note, status = path.with_name(path.name + ".ok"), path.stat()
    checked = f"{sha256} {status.st_size} {status.st_mtime_ns}"
    if note.is_file() and note.read_text(encoding="utf-8") == checked:
        return True
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found.startswith(sha256):
        try:
            note.write_text(checked, encoding="utf-8")
        except OSError:
            LOG.debug("cannot note that %s is right", path)  # a cache that may only be read serves all the same
        return True
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; a second one waits. The lock goes with its process."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            import fcntl
        except ImportError:  # Windows: the rename at the end still leaves a whole file
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.warning("another process is downloading %s: waiting for it", path.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(url: str, path: Path, sha256: str, progress: ProgressCallback) -> None:
    if os.environ.get("RESNETS_OFFLINE"):
        raise WeightsError(
            f"{path.name} is not in the cache; RESNETS_OFFLINE is set; unset it, or get {url} by hand and put it at "
            f"{path}"
        )
    part = path.with_name(path.name + ".part")
    resumed, reason = part.is_file() and part.stat().st_size > 0, ""
    for attempt in range(TRIES):
        try:
            _receive(url, part, progress)
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == 416:  # more is here than there: not the same file
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                break
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
            if isinstance(getattr(error, "reason", None), OSError) and not part.is_file():
                break  # no connection at all: nothing to wait for
        else:
            if _has_right(part, sha256):
                part.replace(path)
                _has_hash(path, sha256)
                return
            part.unlink()
            if not resumed:
                raise WeightsError(
                    f"{path.name} must have a SHA-256 of {sha256}...; {url} gave another; nothing was kept; "
                    "try again later, or look whether a proxy changes downloads"
                )
            resumed = False  # two halves of different files: once more, from the start
            continue
        time.sleep(0.2 * attempt)
    kept = f" ({part.stat().st_size:,} bytes are kept and will be gone on with)" if part.is_file() else ""
    raise WeightsError(
        f"{path.name} must be downloaded; {url} failed: {reason}{kept}; connect, or put it at {path} by hand"
    )


def _has_right(part: Path, sha256: str) -> bool:
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256)


def _receive(url: str, part: Path, progress: ProgressCallback) -> None:
    """Append what is missing to `part`, or all of it where the server knows no ranges."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": f"resnets/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        goes_on = answer.status == 206 and span is not None and int(span[1]) == have
        length = int(answer.headers.get("Content-Length") or 0)
        have = have if goes_on else 0
        total = have + length if length else 0
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    if have < total:
        raise http.client.HTTPException(f"broke off after {have:,} of {total:,} bytes")


def _shown(name: str) -> ProgressCallback:
    """A bar with rate and time left in a terminal; elsewhere a line at the start and one every half minute."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        bars = Bars(TextColumn(name), *columns, console=Console(stderr=True), transient=True)
        task = bars.add_task(name)

        def draw(have: int, total: int) -> None:
            bars.start()
            bars.update(task, completed=have, total=total or None)
            if have == total:
                bars.stop()

        return draw
    started, said = time.monotonic(), [float("-inf")]

    def say(have: int, total: int) -> None:
        now = time.monotonic()
        if now - said[0] >= 30:
            rate = f", {have / max(now - started, 1e-9) / 1e6:.1f} MB/s" if said[0] > 0 else ""
            size = f" of {total / 1e6:.1f}" if total else ""
            print(f"downloading {name}: {have / 1e6:.1f}{size} MB{rate}", file=sys.stderr, flush=True)
            said[0] = now

    return say
