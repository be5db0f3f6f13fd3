"""What the data layer may import."""

from __future__ import annotations

import re
from pathlib import Path

import resnets.data

ALLOWED = ("resnets.errors", "resnets.atomic", "resnets.arch", "resnets.data")


def test_only_layers_above_are_imported() -> None:
    folder = Path(resnets.data.__path__[0])
    files = sorted(folder.glob("*.py"))
    assert len(files) > 10
    for path in files:
        for name in re.findall(r"^\s*(?:from|import) (resnets[\w.]*)", path.read_text(), re.MULTILINE):
            assert name.startswith(ALLOWED), f"{path.name} imports {name}"
