"""Where things stand in a JPEG, read from its markers alone; and the same image with fewer rows.

A baseline JPEG is coded row of blocks after row of blocks. With a smaller height in its header it is an image of
its upper rows, and a decoder stops there: the rest of the file costs nothing.

Legend: H height, W width, in pixels as stored (before EXIF's orientation).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Frame", "read_frame", "upper_rows"]

_SEQUENTIAL = (0xC0, 0xC1)  # baseline and extended: one pass over the image when all components share a scan
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # between the frame markers, but tables
_RESTART_INTERVAL, _START_OF_SCAN, _END_OF_IMAGE = 0xDD, 0xDA, b"\xff\xd9"
_TAIL = 64  # bytes at the end in which the end marker must stand; some cameras pad


class Frame(NamedTuple):
    """What a JPEG's markers say.

    Args:
        height, width: as stored.
        height_at: where the two bytes of the height stand.
        scan_at: where the first scan begins; all metadata stand before it.
        may_stop: whether the coded rows follow each other, so that `upper_rows` works: sequential, one scan of all
            components, no restart markers, and the file is whole to its end marker.
    """

    height: int
    width: int
    height_at: int
    scan_at: int
    may_stop: bool


def read_frame(content: bytes) -> Frame | None:
    """The frame of a JPEG; None where its markers are not in order."""
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
            height = int.from_bytes(content[at + 5 : at + 7], "big")
            width = int.from_bytes(content[at + 7 : at + 9], "big")
            frame, components = (marker, height, width, at + 5), content[at + 9]
        elif marker == _RESTART_INTERVAL:
            restarts = content[at + 4 : at + 6] != b"\0\0"
        elif marker == _START_OF_SCAN:
            if frame is None or length < 3:
                return None
            kind, height, width, height_at = frame
            whole = content.find(_END_OF_IMAGE, max(at, len(content) - _TAIL)) >= 0
            one_scan = kind in _SEQUENTIAL and content[at + 4] == components
            return Frame(height, width, height_at, at, one_scan and whole and not restarts and height > 0)
        at += 2 + length
    return None


def upper_rows(content: bytes, frame: Frame, rows: int) -> bytearray:
    """The JPEG `content` as one of its first `rows` rows; what was coded of the others is left behind them.

    Args:
        rows: 1 to H; the frame's `may_stop` must hold.
    """
    assert frame.may_stop
    assert 0 < rows <= frame.height
    shorter = bytearray(content)
    shorter[frame.height_at : frame.height_at + 2] = rows.to_bytes(2, "big")
    return shorter
