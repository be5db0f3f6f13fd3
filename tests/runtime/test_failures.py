"""Tests of failures of the machine: which errors say that memory ran out, and how failures are described."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from resnets.errors import ConfigError, MissingExtraError, ResnetsError, require_extra
from resnets.runtime.failures import describe_failure, is_out_of_memory

TERABYTES = 2**44


def _raised_by_numpy() -> None:
    np.empty(TERABYTES)


def _raised_by_torch() -> None:
    torch.empty(TERABYTES)


@pytest.mark.parametrize("allocate", [_raised_by_numpy, _raised_by_torch])
def test_errors_of_real_allocations_are_recognised(allocate) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)
    described = describe_failure(caught.value)
    assert described is not None
    assert described.startswith("out of memory (")
    assert "\n" not in described


def test_failures_are_described_and_faults_of_the_program_are_not() -> None:
    assert describe_failure(ConfigError("rule; got; remedy")) == "rule; got; remedy"
    assert describe_failure(FileNotFoundError(errno.ENOENT, "No such file", "x.csv")) == "No such file: x.csv"
    assert describe_failure(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))).startswith("out of memory")  # type: ignore[union-attr]
    assert describe_failure(MemoryError()) == "out of memory; use smaller batches or images, or free memory"
    assert describe_failure(RuntimeError("shapes differ")) is None
    assert describe_failure(KeyError("x")) is None


def test_an_extra_that_cannot_be_imported_is_not_called_missing() -> None:
    with pytest.raises(MissingExtraError, match="pip install"), require_extra("a file", "data"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(ResnetsError, match="failed to map segment") as caught, require_extra("a file", "data"):
        raise ImportError("libx.so: failed to map segment from shared object")
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
def test_a_report_that_does_not_fit_into_memory_leaves_the_models(tmp_path: Path) -> None:
    command = "ulimit -v {}; {} -m resnets train digits --epochs 1 --workers 0 --output {} --name r --amp off"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    limited = None
    for kib in range(1_000_000, 1_600_000, 100_000):  # training fits before drawing does
        folder = tmp_path / str(kib)
        line = command.format(kib, sys.executable, folder)
        limited = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in limited.stderr
        if limited.returncode in (0, 1) and (folder / "r" / "last").exists():
            break
    assert limited is not None
    if limited.returncode == 0:
        pytest.skip("no limit was found at which training fits, but drawing does not")
    assert "out of memory" in limited.stderr.splitlines()[-1]
    assert "train --resume" in limited.stderr.splitlines()[-1]
    resumed = subprocess.run(
        [sys.executable, "-m", "resnets", "train", "--resume", folder / "r"], env=environment, timeout=120
    )
    assert resumed.returncode == 0
    assert (folder / "r" / "report.html").is_file()
