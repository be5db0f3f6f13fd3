"""Images that are not files: from the web, or from standard input."""

from __future__ import annotations

import sys
from typing import IO

from resnets.data.decode.image import MAX_FILE_BYTES
from resnets.errors import ImageError

__all__ = ["fetch_url", "is_url", "read_stdin"]

TIMEOUT = 30.0  # seconds without data


def is_url(path: str) -> bool:
    """Whether a path is an http or https address."""
    return path.lower().startswith(("http://", "https://"))


def fetch_url(url: str) -> bytes:
    """The bytes at an http or https address.

    Raises:
        ImageError: no connection, an HTTP error, or more than 256 MiB.
    """
    import http.client
    import urllib.error
    import urllib.request

    from resnets.version import __version__

    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"resnets/{__version__}"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return _read(response, url)
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError(url, f"the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise ImageError(url, f"it cannot be fetched ({reason})") from error


def read_stdin() -> bytes:
    """The bytes of one image from standard input.

    Raises:
        ImageError: more than 256 MiB.
    """
    return _read(sys.stdin.buffer, "-")


def _read(file: IO[bytes], where: str) -> bytes:
    content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(where, f"more than {MAX_FILE_BYTES // 2**20} MiB")
    return content
