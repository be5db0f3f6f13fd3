"""A trained run for the tests of the verbs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from resnets.runtime.console import Console
from resnets.train.config.train_config import TrainConfig
from resnets.train.run import train

# A network that learns the coloured images in a second, as options of the command and of the library.
TINY = ("--set", "depths=1,1,1", "--set", "widths=8,8,8", "--set", "stem_width=8", "--lr", "0.05", "--amp", "off")
TINY_ARGS = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}


@pytest.fixture(scope="session")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a network that classifies blue, green and red. Tests must not change it: see `own_run`."""
    config = TrainConfig.from_options(
        data=str(images), epochs=3, lr=0.05, model_args=TINY_ARGS, amp="off", warmup_epochs=0.5,
        output=str(tmp_path_factory.mktemp("runs")), name="colours",
    )  # fmt: skip
    return train(config, console=Console(quiet=True)).folder


@pytest.fixture
def own_run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run folder, which a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
