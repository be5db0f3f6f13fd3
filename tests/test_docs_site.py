"""Scripts of the documentation site: links of root files, docstrings with combined parameters."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def hooks() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "docs_hooks.py"))


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](docs/training.md#data)", "[a](training.md#data)"),
        ("![a](docs/images/digits.png)", "![a](images/digits.png)"),
        ("[a](CONTRIBUTING.md#set-up)", "[a](contributing.md#set-up)"),
        ("[a](LICENSE)", "[a](LICENSE.txt)"),
        ("[a](https://pytorch.org/docs/)", "[a](https://pytorch.org/docs/)"),
    ],
)
def test_links_of_root_files_point_into_the_site(hooks: dict[str, Any], link: str, expected: str) -> None:
    assert hooks["root_page"](link) == expected


def test_links_to_root_files_point_into_the_site(hooks: dict[str, Any]) -> None:
    assert hooks["on_page_markdown"]("see [a](../CONTRIBUTING.md)") == "see [a](contributing.md)"


def test_a_page_that_loads_from_another_host_fails_the_build(hooks: dict[str, Any], tmp_path: Path) -> None:
    class Config:
        site_dir = str(tmp_path)

    page = tmp_path / "index.html"
    page.write_text('<a href="https://example.org">a link is fine</a>')
    hooks["on_post_build"](Config())
    page.write_text('<script src="https://example.org/a.js"></script>')
    with pytest.raises(RuntimeError, match=r"example\.org/a\.js"):
        hooks["on_post_build"](Config())


def test_every_option_and_verb_is_on_the_generated_pages(hooks: dict[str, Any]) -> None:
    from resnets.cli.app import VERBS

    assert "| `label_smoothing` | `0.1` |" in hooks["options_page"]()
    assert all(f"Usage: resnets {verb} " in hooks["cli_page"]() for verb in VERBS)


def test_parameters_that_are_documented_together_get_an_entry_each() -> None:
    pytest.importorskip("griffe")
    split = runpy.run_path(str(SCRIPTS / "docs_griffe.py"))["split"]
    text = "One line.\n\nArgs:\n    size: pixels.\n    mean, std: a channel,\n        in [0, 1].\n\nNote, well: kept.\n"
    expected = (
        "One line.\n\nArgs:\n    size: pixels.\n    mean: a channel,\n        in [0, 1].\n"
        "    std: a channel,\n        in [0, 1].\n\nNote, well: kept.\n"
    )
    assert split(text) == expected
