"""Download of published weights files into a cache: with progress, resumed, checked against their SHA-256.

The cache is `RESNETS_CACHE`, or `~/.cache/resnets`. A file is `CACHE/NAME`, a partial download `NAME.part`. A file
that was put there by hand is checked once like any other; a note beside it (`NAME.ok`) then records its size and time,
so that it is not hashed again. With `RESNETS_OFFLINE` set nothing is downloaded.
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
"""Called with the bytes received and the total (0: unknown)."""

CHUNK = 1 << 20
TRIES = 4
TIMEOUT = 30.0


def cache_folder() -> Path:
    """Folder of the cache."""
    return Path(os.environ.get("RESNETS_CACHE") or Path.home() / ".cache" / "resnets").expanduser()


def cached(url: str) -> Path:
    """Path in the cache of the file of `url`, whether it exists or not."""
    return cache_folder() / url.rpartition("/")[2]


def fetch(url: str, sha256: str) -> Path:
    """Path in the cache of the file of `url`, which is downloaded if it is not there.

    Args:
        url: of the file; its last part is its name.
        sha256: the hash that it must have, or its first digits.

    Raises:
        WeightsError: no connection (the message has the URL and the path to put the file by hand), another hash, or
            a cache that cannot be written.
    """
    path = cached(url)
    try:
        if path.is_file() and _has_hash(path, sha256):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.is_file():  # another process may have downloaded it meanwhile
                _download(url, path, sha256, _show_progress(path.name))
            elif not _has_hash(path, sha256):
                raise WeightsError(
                    f"{path.name} must have a SHA-256 of {sha256}...; {path} has another; delete it, or put the "
                    f"file of {url} there"
                )
    except OSError as error:
        raise WeightsError(
            f"the cache must be writable; {path}: {error.strerror or error}; free disk space, or set RESNETS_CACHE"
        ) from None
    return path


def _has_hash(path: Path, sha256: str) -> bool:
    note, status = path.with_name(path.name + ".ok"), path.stat()
    checked = f"{sha256} {status.st_size} {status.st_mtime_ns}"
    if note.is_file() and note.read_text(encoding="utf-8") == checked:
        return True
    if not _digest(path).startswith(sha256):
        return False
    try:
        note.write_text(checked, encoding="utf-8")
    except OSError:
        LOG.debug("cannot note that %s was checked", path)  # a read-only cache works all the same
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file: one process at a time, others wait. It is released when its process ends."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            import fcntl
        except ImportError:  # Windows: the rename at the end still leaves a complete file
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.warning("another process is downloading %s; waiting", path.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(url: str, path: Path, sha256: str, progress: ProgressCallback) -> None:
    if os.environ.get("RESNETS_OFFLINE"):
        raise WeightsError(
            f"{path.name} is not in the cache; RESNETS_OFFLINE is set; unset it, or download {url} and put it at {path}"
        )
    part = path.with_name(path.name + ".part")
    resumed, reason = part.is_file() and part.stat().st_size > 0, ""
    for attempt in range(TRIES):
        try:
            _receive(url, part, progress)
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == 416:  # the partial file is longer than the server's: another file
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                break
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
            if isinstance(getattr(error, "reason", None), OSError) and not part.is_file():
                break  # no connection at all: waiting does not help
        else:
            if _digest(part).startswith(sha256):
                part.replace(path)
                _has_hash(path, sha256)
                return
            part.unlink()
            if not resumed:
                raise WeightsError(
                    f"{path.name} must have a SHA-256 of {sha256}...; {url} gave another; nothing was kept; "
                    "try again later, or check whether a proxy changes downloads"
                )
            resumed = False  # the partial file was another file's: once more, from the start
            continue
        time.sleep(0.2 * attempt)
    kept = f" ({part.stat().st_size:,} bytes are kept; the next try resumes there)" if part.is_file() else ""
    raise WeightsError(
        f"{path.name} must be downloaded; {url} failed: {reason}{kept}; check the connection, or put the file at "
        f"{path} by hand"
    )


def _receive(url: str, part: Path, progress: ProgressCallback) -> None:
    """Append the missing bytes to `part`, or write all of them where the server supports no ranges."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": f"resnets/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        resumes = response.status == 206 and span is not None and int(span[1]) == have
        length = int(response.headers.get("Content-Length") or 0)
        have = have if resumes else 0
        total = have + length if length else 0
        with part.open("ab" if resumes else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    if have < total:
        raise http.client.HTTPException(f"broke off after {have:,} of {total:,} bytes")


def _show_progress(name: str) -> ProgressCallback:
    """A bar with speed and remaining time in a terminal; elsewhere a line at the start and every half minute."""
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
    started, printed = time.monotonic(), [float("-inf")]

    def write_line(have: int, total: int) -> None:
        now = time.monotonic()
        if now - printed[0] >= 30:
            rate = f", {have / max(now - started, 1e-9) / 1e6:.1f} MB/s" if printed[0] > 0 else ""
            size = f" of {total / 1e6:.1f}" if total else ""
            print(f"downloading {name}: {have / 1e6:.1f}{size} MB{rate}", file=sys.stderr, flush=True)
            printed[0] = now

    return write_line
