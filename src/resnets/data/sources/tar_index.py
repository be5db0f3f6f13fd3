"""Index of a tar archive: names, offsets and sizes of its files, from the headers alone.

POSIX, GNU and PAX archives are supported, with long names and large sizes; links, folders and devices are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

__all__ = ["BLOCK", "Member", "TarError", "read_members"]

BLOCK = 512  # bytes
_FILES, _LONG_NAME, _PAX = b"0\x007", b"L", b"x"


class TarError(ValueError):
    """A damaged archive; the message describes the damage."""


class Member(NamedTuple):
    """A file of an archive: its name, and the offset and size of its content in bytes."""

    name: bytes
    offset: int
    size: int


def read_members(content: bytes | mmap) -> Iterator[Member]:
    """The files of an archive, in order.

    Raises:
        TarError: it is no tar archive, damaged or truncated; its end mark is required.
    """
    at, name, size = 0, None, None
    while True:
        header = content[at : at + BLOCK]
        if len(header) < BLOCK:
            raise TarError("it is truncated" if at else "it is no tar archive")
        if not any(header):
            return
        if sum(header) - sum(header[148:156]) + 8 * ord(" ") != _number(header[148:156]):
            raise TarError(f"its header at byte {at} is damaged" if at else "it is no tar archive")
        kind, start = header[156:157], at + BLOCK
        length = _number(header[124:136]) if size is None or kind in (_LONG_NAME, _PAX) else size
        if length < 0:
            raise TarError(f"the size in its header at byte {at} is damaged")
        if start + length > len(content):
            raise TarError(f"it is truncated: the file at byte {at} ends beyond it")
        if kind == _LONG_NAME:
            name = content[start : start + length].rstrip(b"\0")
        elif kind == _PAX:
            records = _pax(content[start : start + length])
            name = records.get(b"path", name)
            size = _decimal(records[b"size"]) if b"size" in records else None
        else:
            if kind in _FILES:
                yield Member(_name(header) if name is None else name, start, length)
            elif kind == b"S":
                raise TarError(f"its file at byte {at} is sparse, which is not supported")
            name, size = None, None
        at = start + -(-length // BLOCK) * BLOCK


def _number(field: bytes) -> int:
    """Octal digits, or GNU's big-endian binary with the highest bit set; -1 if damaged."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    digits = field.split(b"\0")[0].strip()
    return int(digits, 8) if digits and not digits.strip(b"01234567") else -1 if digits else 0


def _name(header: bytes) -> bytes:
    name = header[:100].rstrip(b"\0")
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _pax(content: bytes) -> dict[bytes, bytes]:
    records, at = {}, 0
    while at < len(content):
        length = content[at : content.find(b" ", at)]
        size = _decimal(length)
        if size < 5:
            raise TarError("one of its extended headers is damaged")
        key, _, value = content[at + len(length) + 1 : at + size - 1].partition(b"=")
        records[key] = value
        at += size
    return records


def _decimal(digits: bytes) -> int:
    """Decimal digits of a size; -1 if they are none."""
    return int(digits) if digits.isdigit() and len(digits) <= 20 else -1
