"""Mutated files of every kind are opened, or refused in one line: no traceback, no hang, no memory.

The time of each kind is RESNETS_FUZZ_SECONDS (default: 2). A failure names the kind, the seed and the number of the
file; `python -m tests.weights.readers.fuzzer KIND 1 SEED NUMBER` repeats it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnets.weights.readers import SUFFIXES
from tests.weights.readers.fuzzer import KINDS

ROOT = Path(__file__).parents[3]
SECONDS = float(os.environ.get("RESNETS_FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("RESNETS_FUZZ_SEED", "0"))
NEEDS = {"h5": "h5py", "keras": "h5py", "onnx": "onnx", "tflite": "tflite"}
MAX_BYTES = 2**30
COVERED = {
    ".safetensors": "safetensors", ".npz": "npz", ".onnx": "onnx", ".tflite": "tflite",
    ".h5": "h5", ".hdf5": "h5", ".keras": "keras",
    **dict.fromkeys((".pth", ".pt", ".th", ".ckpt", ".bin", ".tar"), "torch"),
}  # fmt: skip


def test_every_suffix_has_a_kind() -> None:
    assert {*SUFFIXES} - {".index"} <= {*COVERED}  # TensorFlow itself reads its checkpoints
    assert {*COVERED.values()} <= {*KINDS}


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind: str) -> None:
    pytest.importorskip(NEEDS.get(kind, "torch"))
    command = [sys.executable, "-W", "ignore", "-m", "tests.weights.readers.fuzzer", kind, str(SECONDS), str(SEED)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS + 120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["faults"] == [], f"seed {SEED}"
    assert report["added_bytes"] < MAX_BYTES
    assert report["refused"] > 0
