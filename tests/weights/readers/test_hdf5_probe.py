"""A damaged HDF5 file ends a process of its own, not the caller's."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from resnets.weights.readers import hdf5_probe
from resnets.weights.readers.files import read_file
from tests.weights.readers.keras_models import residual_model
from tests.weights.readers.test_hostile import refused

h5py = pytest.importorskip("h5py")


def nested(depth: int) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["/".join("g" * depth)] = 1.0
    return buffer.getvalue()


def test_structures_that_can_be_read(tmp_path: Path) -> None:
    build, output = residual_model()
    path = build.write(tmp_path / "w.h5", output)
    assert hdf5_probe.probe_hdf5(path) is None
    assert hdf5_probe.probe_hdf5(path.read_bytes()) is None
    assert "OSError" in str(hdf5_probe.probe_hdf5(b"text"))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.abort()", "the HDF5 library crashes on it"),
        ("while True: pass", "takes more than 2 s"),
        ("x = [0] * 2**40", "MemoryError"),
    ],
)
def test_a_process_that_crashes_or_never_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    build, output = residual_model()
    path = build.write(tmp_path / "w.h5", output)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(hdf5_probe, "__file__", str(tmp_path / "program.py"))
    monkeypatch.setattr(hdf5_probe, "SECONDS", 2)
    with pytest.raises(Exception, match=f"{path} is damaged or no Keras file; .*{message}"):
        read_file(path)


def test_groups_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_probe, "SECONDS", 1)
    (tmp_path / "w.h5").write_bytes(nested(2000))
    refused(tmp_path / "w.h5", "takes more than 1 s")
