"""The structure of JPEG files, from their markers: where the height stands, and how many scans there are."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Frame", "read_frame", "require_few_scans"]

_SEQUENTIAL = (0xC0, 0xC1)  # baseline and extended: one pass over the image if all components share a scan
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # tables that lie between the frame markers
_RESTART_INTERVAL, _START_OF_SCAN, _END_OF_IMAGE = 0xDD, 0xDA, b"\xff\xd9"
_TAIL = 64  # bytes at the end that must contain the end marker; some cameras pad

MAX_SCANS = 20  # of a file of any size; usual progressive ones have ten
MAX_SCANNED_PIXELS = 2**31  # pixels of the image times scans, each of which the decoder walks over the whole image for
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # in coded data, other bytes follow 0xff


class Frame(NamedTuple):
    """Structure of a JPEG file, from its markers.

    Attributes:
        height_at: offset of the two bytes of the height.
        scan_at: offset of the first scan; all metadata come before it.
        may_stop: whether decoding may stop after some rows: sequential, one scan of all components, no restart
            markers, and the file is complete to its end marker.
    """

    height_at: int
    scan_at: int
    may_stop: bool


def read_frame(content: bytes) -> Frame | None:
    """The structure of a JPEG; None if its markers are damaged."""
    if content[:2] != b"\xff\xd8":
        return None
    at, frame, components, restarts = 2, None, 0, False
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(content):
            return None
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME and length >= 8:
            frame, components = (marker, at + 5), content[at + 9]
        elif marker == _RESTART_INTERVAL:
            restarts = content[at + 4 : at + 6] != b"\0\0"
        elif marker == _START_OF_SCAN:
            if frame is None or length < 3:
                return None
            kind, height_at = frame
            complete = content.find(_END_OF_IMAGE, max(at, len(content) - _TAIL)) >= 0
            one_scan = kind in _SEQUENTIAL and content[at + 4] == components
            return Frame(height_at, at, one_scan and complete and not restarts)
        at += 2 + length
    return None


def require_few_scans(content: bytes) -> None:
    """Refuse a JPEG whose many scans would take minutes; any other file passes.

    Raises:
        ValueError: too many scans for the size of the image.
    """
    if content[:3] != b"\xff\xd8\xff":
        return
    at, scans, pixels = 2, 0, 2**16
    while found := _MARKER.search(content, at):
        marker, at = found[1][0], found.end()
        if marker == _END_OF_IMAGE[1]:
            break
        length = int.from_bytes(content[at : at + 2], "big")
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = (int.from_bytes(content[at + i : at + i + 2], "big") for i in (3, 5))
            pixels = max(pixels, height * width)
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS and scans * pixels > MAX_SCANNED_PIXELS:
            raise ValueError(f"more than {scans - 1} scans of {pixels:,} pixels (a decompression bomb?)")
        at += length
