from __future__ import annotations

import re
from pathlib import Path

import pytest

from resnets.train.run_folder.log import log_event


def test_events_are_lines_with_the_time(tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    log_event(path, "rolled back")
    log_event(path, "größe \udcff.png")  # a file name that is not UTF-8
    first, second = path.read_bytes().splitlines()
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d  rolled back", first)
    assert second.endswith("größe ".encode() + b"\xff.png")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.txt"
    path.symlink_to("/dev/full")
    log_event(path, "rolled back")
    log_event(tmp_path / "no" / "events.txt", "rolled back")
    assert capsys.readouterr() == ("", "")
