"""Files that people name: pipes, devices, folders and huge files are refused, everywhere, without being read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resnets.errors import ResnetsError
from resnets.evaluate.class_match import read_class_map
from resnets.evaluate.results import read_results
from resnets.small_files import read_small_text, require_regular_file
from resnets.train.config.recipes import load_recipe
from resnets.train.run_folder.checkpoint import read_checkpoint
from resnets.train.run_folder.log import log_event
from resnets.weights.convert import _read_labels
from resnets.weights.folder.config_json import read_json
from resnets.weights.key_map import read_key_map
from resnets.weights.resolve import resolve

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "recipe": ("x.yaml", load_recipe),
    "class map": ("x.yaml", read_class_map),
    "class map, CSV": ("x.csv", read_class_map),
    "key map": ("x.yaml", read_key_map),
    "config.json": ("config.json", read_json),
    "labels": ("x.txt", lambda path: _read_labels(path, 3)),
    "results.csv": ("results.csv", read_results),
    "weights": ("x.pth", resolve),
    "checkpoint": ("step-000000001.safetensors", read_checkpoint),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_refused_without_waiting_for_a_writer(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    os.mkfifo(tmp_path / name)
    with pytest.raises(ResnetsError, match="not a regular file") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("weights", "checkpoint")])
def test_a_huge_file_is_not_read(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**34)  # a sparse file
    with pytest.raises(ResnetsError, match=r"17,179,869,184 bytes, more than"):
        read(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_events_are_not_written_to_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.txt")
    log_event(tmp_path / "events.txt", "something")


def test_devices_folders_and_missing_files(tmp_path: Path) -> None:
    for path, error in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "no", FileNotFoundError),
        (Path("/dev/zero"), OSError),
    ):
        with pytest.raises(error):
            require_regular_file(path)
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfa")
    assert read_small_text(tmp_path / "bom.txt") == "a"
