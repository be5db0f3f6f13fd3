"""The worked examples of CONTRIBUTING.md: applied to a copy of the package, their own tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = re.findall(
    r"^### (Add .*?)\n(.*?)(?=^##)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)
FENCE = re.compile(r'^```\w+ title="(.*?)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def apply(root: Path, name: str, block: str) -> None:
    """Write a new file; or, for a block with `...`, insert what follows it after the lines that precede it."""
    path = root / name
    before, *after = re.split(r"^ *\.\.\.\n", block, flags=re.MULTILINE)
    if not after:
        assert not (ROOT / name).exists(), f"{name} exists; show where to insert with ..."
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    assert text.count(f"\n{before}") == 1, f"{name} must have these lines once:\n{before}"
    path.write_text(text.replace(f"\n{before}", f"\n{before}{after[0]}"), encoding="utf-8")


def test_every_task_has_an_example() -> None:
    assert [title for title, _ in SECTIONS] == ["Add a network", "Add a dialect", "Add a recipe", "Add a verb"]


@pytest.mark.parametrize(("title", "section"), SECTIONS, ids=[title for title, _ in SECTIONS])
def test_example_passes_its_own_test(title: str, section: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    blocks = FENCE.findall(section)
    tests = [name for name, _ in blocks if name.startswith("tests/")]
    assert tests
    for name, block in blocks:
        apply(tmp_path, name, block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *tests],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(tests)} passed" in done.stdout
