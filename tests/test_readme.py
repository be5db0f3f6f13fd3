"""What the README and the docs say is run: Python, cheap commands, tables, links."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.cli.app import VERBS
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def desk(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with `images/` to train on and `photos/` to look at."""
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos" / "noise.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("desk")
def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks(README, "python")
    assert code
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "photos/noise.png" in printed
    assert "Conv2d(64, 64, kernel_size=(1, 1)" in printed


def test_the_info_that_is_shown_is_what_the_command_says(command: Command) -> None:
    shown = re.search(r"^\$ resnets (info .*?)\n```\n\n```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert shown is not None
    answer = command(*shown[1].split())
    assert answer.code == 0
    printed = [line.rstrip() for line in answer.out.splitlines()]
    for line in shown[2].splitlines():
        assert line.rstrip() in [*printed, "..."], "run the command and paste what it prints now"


def test_the_networks_are_as_the_command_lists_them(command: Command) -> None:
    section = README.split("## Networks")[1].split("##")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    listed = command("models", "--markdown").out.splitlines()
    assert rows[0] == listed[0]
    assert len(rows) > 8
    assert not [row for row in rows if row not in listed], "take the rows from `resnets models --markdown`"


def test_every_verb_is_in_the_readme() -> None:
    for verb in VERBS:
        assert f"`resnets {verb}" in README, verb


def test_what_the_readme_names_exists() -> None:
    for target in ("run", "test", "check"):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    tree = README.split("## How it is laid out")[1]
    for name in re.findall(r"^      (\S+)", tree, re.MULTILINE):
        assert (ROOT / "src" / "resnets" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_options_in_the_docs_exist(command: Command) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    known = set(re.findall(r"--[a-z-]+", "".join(command(verb, "--help").out for verb in ("train", "val", "recipes"))))
    assert set(re.findall(r"`?(--[a-z][a-z-]+)", page)) - {"--flag"} <= known


def test_images_are_small() -> None:
    for image in (ROOT / "docs" / "images").iterdir():
        assert image.stat().st_size < 200_000, image
