"""The pages on architecture and dialects: examples print what the page shows, named fields and files exist."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from resnets.arch.config import ResNetConfig
from resnets.arch.describe import describe

DOCS = Path(__file__).parents[2] / "docs"


def test_examples_print_what_the_page_shows() -> None:
    pairs = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", (DOCS / "architecture.md").read_text(), re.DOTALL)
    assert len(pairs) == 3
    scope: dict[str, Any] = {}
    for code, expected in pairs:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, scope)
        assert out.getvalue() == expected


def test_fields_on_the_page_of_dialects_exist() -> None:
    text = (DOCS / "dialects.md").read_text()
    headings = re.findall(r"^\*\*[^*]+\*\* \(([^)]*)\)\.", text, re.MULTILINE)
    named = {field for heading in headings for field in re.findall(r"`(\w+)`", heading)}
    assert len(named) > 15
    assert named <= set(vars(ResNetConfig()))


def test_every_dialect_is_in_the_table() -> None:
    from resnets.weights.dialects import DIALECTS

    text = (DOCS / "dialects.md").read_text().partition("## ONNX")[0]
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {*DIALECTS}


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_files_that_a_page_names_exist(path: Path) -> None:
    for name in re.findall(r"`((?:tests|arch|nn|resnets)/[\w/]+(?:\.py)?)`", path.read_text()):
        source = DOCS.parent / "src"
        places = (DOCS.parent / name, source / name, source / "resnets" / name)
        assert any(place.exists() for place in places), name


@pytest.mark.parametrize(("name", "expected"), [("resnet50_v1", 3.86), ("keras_resnet50", 3.86), ("resnet50", 4.09)])
def test_macs_on_the_page(name: str, expected: float) -> None:
    assert round(describe(name).macs / 1e9, 2) == expected
