from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from resnets.atomic import atomic_file, fsync, write_atomic


def test_an_interrupted_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write_atomic(path, "größe")
    assert path.read_text(encoding="utf-8") == "größe"

    def interrupted() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text(encoding="utf-8") == "größe"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.csv"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    write_atomic(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_errors_name_the_requested_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(OSError, match="No space left") as caught, atomic_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write to a full disk does
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError) as missing:
        write_atomic(tmp_path / "no" / "report.html", "")
    assert missing.value.filename == str(tmp_path / "no" / "report.html")


def test_content_is_flushed_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.csv"
    flushed: list[tuple[str, bool]] = []

    def fsync(handle: int) -> None:
        flushed.append(("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file", path.exists()))

    monkeypatch.setattr("os.fsync", fsync)
    write_atomic(path, "content")
    assert flushed == [("file", False), ("folder", True)]


@pytest.mark.parametrize(("call", "number"), [("open", errno.EACCES), ("fsync", errno.EINVAL)])
def test_unsupported_flush_of_a_folder_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", refuse)
        fsync(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        fsync(tmp_path)
