"""The table of hostile inputs and faults: it is complete, and its commands do what it says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "scripts"))
    SCRIPT = runpy.run_path(str(ROOT / "scripts" / "withstands.py"), run_name="withstands")
CASES: list[Any] = SCRIPT["CASES"]
QUICK = ("a state_dict that refers to itself", "stdout is closed", "a class folder whose name is not UTF-8")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")


def test_the_page_has_every_case() -> None:
    page = (ROOT / "docs" / "withstands.md").read_text(encoding="utf-8")
    assert [case.what for case in CASES if f"| {case.what} |" not in page] == []
    assert page.count("\n| ") == len(CASES) + len({case.group for case in CASES})
    assert set(QUICK) <= {case.what for case in CASES}


@pytest.mark.parametrize(
    "what", [pytest.param(case.what, marks=() if case.what in QUICK else pytest.mark.slow) for case in CASES]
)
def test_a_case_does_what_the_page_says(what: str) -> None:
    (case,) = [case for case in CASES if case.what == what]
    assert SCRIPT["run"](case).fault == ""
