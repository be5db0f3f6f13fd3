"""Fixtures of all tests: one thread, repeatable hypothesis runs, the command in this process."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before importing torch or numpy: several tests run at a time
if not os.environ.get("RESNETS_TEST_CUDA"):  # the tests fork processes, in which CUDA cannot be used
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from tests.images import write_images

settings.register_profile(
    "resnets", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("resnets")


class Result(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("info", "resnet18")` runs the verb in this process."""
    from resnets.cli import main

    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run


def assert_one_line_error(result: Result, message: str, code: int = 1) -> None:
    """Check that a command printed nothing but one line with `message`, or with exit code 2 also its usage."""
    assert (result.code, result.out) == (code, ""), result
    first, *rest = result.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert len(rest) == (2 if code == 2 else 0), result.err


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, which is not part of the project: see its MANIFEST.md."""
    folder = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real data must be there in CI; {folder} is absent; set RESNETS_DATA")
        pytest.skip(f"no real data: {folder} is absent and RESNETS_DATA is not set")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, each with 24 training and 6 validation images of 12x12 pixels."""
    return write_images(tmp_path_factory.mktemp("images") / "colours", {"train": 24, "val": 6})
