"""The README and the documentation: code runs, names and numbers are those of the package, links resolve."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.arch.variants import list_models
from resnets.cli.app import VERBS
from resnets.train.config.recipes import list_recipes
from resnets.weights.dialects import DIALECTS
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
WITH_PYTHON = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ("options.md", "cli.md")  # pages that scripts/docs_hooks.py makes


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def page_id(page: Path) -> str:
    """The path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def desk(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `images/` to train on and `photos/` to classify."""
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos" / "noise.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    "page", [page for page in WITH_PYTHON if blocks(page.read_text("utf-8"), "python")], ids=page_id
)
def test_python_examples_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(page.read_text("utf-8"), "python"):
        exec(compile(block, page.name, "exec"), names)
    if page.name == "README.md":
        printed = capsys.readouterr().out
        assert "photos/noise.png" in printed
        assert "Conv2d(64, 64, kernel_size=(1, 1)" in printed


def test_numbers_in_the_readme() -> None:
    golden = [path.name.partition("__")[0] for path in (ROOT / "tests" / "golden").glob("*.npz")]
    for fact in (
        f"{len(DIALECTS)} dialects",
        f"all {len(list_models())} names",
        f"{len(list_recipes())} YAML recipes",
        f"{len(golden)} models from {len(set(golden))} other implementations",
    ):
        assert fact in README
    assert len(README.splitlines()) < 200


def test_networks_are_as_the_command_lists_them(command: Command) -> None:
    section = README.split("## Networks")[1].split("##")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    listed = command("models", "--markdown").out.splitlines()
    assert rows[0] == listed[0]
    assert len(rows) > 8
    assert not [row for row in rows if row not in listed], "take the rows from `resnets models --markdown`"


def test_every_verb_is_in_the_readme() -> None:
    for verb in VERBS:
        assert f"`resnets {verb}" in README, verb


def test_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {name for page in PAGES for name in re.findall(r"(?:^\$ |`)make ([a-z]+)", page.read_text("utf-8"), re.M)}
    assert {"run", "test", "check", "docs", "release"} <= named
    for target in named:
        assert f"\n{target}:" in makefile, target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        generated = page.parent.name == "reference" and target in GENERATED
        assert target.startswith("https://") or generated or (page.parent / target).exists(), target


def test_every_public_name_is_in_the_reference() -> None:
    from resnets import __all__

    text = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    documented = {*re.findall(r"^::: resnets\.(?:api\.)?(\w+)$", text, re.MULTILINE)}
    assert documented - {"errors"} == {*__all__} - {"ResnetsError", "__version__"}
    assert "errors" in documented


def test_options_in_the_docs_exist(command: Command) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    known = set(re.findall(r"--[a-z-]+", "".join(command(verb, "--help").out for verb in ("train", "val", "recipes"))))
    assert set(re.findall(r"`?(--[a-z][a-z-]+)", page)) - {"--flag"} <= known


def test_images_are_small() -> None:
    for image in (ROOT / "docs" / "images").iterdir():
        assert image.stat().st_size < 200_000, image
