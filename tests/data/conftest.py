"""Fixtures of the data tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[[dict[str, int]], Path]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, which is not part of the project: see its MANIFEST.md."""
    folder = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real data must be there in CI; {folder} is absent; set RESNETS_DATA")
        pytest.skip(f"no real data: {folder} is absent and RESNETS_DATA is not set")
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Makes a data folder: {"train/cat": 3} puts three 12 x 10 pictures there. Every picture is different."""

    def make(counts: dict[str, int]) -> Path:
        root, generator = tmp_path / "pets", np.random.default_rng(0)
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{number}.png")
        return root

    return make
