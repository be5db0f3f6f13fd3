"""What every test stands on: one thread, repeatable hypothesis runs, the command in process."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch or numpy: tests run several at a time

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


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("info", "resnet18")` runs the verb in this process and answers its exit code and what it printed."""
    from resnets.cli import main

    monkeypatch.setenv("COLUMNS", "100")

    def run(*argv: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in argv])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, which is not part of the project: see its MANIFEST.md."""
    folder = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real data must be there in CI; {folder} is absent; set RESNETS_DATA")
        pytest.skip(f"no real data: {folder} is absent and RESNETS_DATA is not set")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes: 24 training and 6 validation images each, 12x12 pixels."""
    return write_images(tmp_path_factory.mktemp("images") / "colours", {"train": 24, "val": 6})
