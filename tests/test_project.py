"""Project files: release checks, CI, pre-commit hooks, packaging metadata."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from resnets.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
problems: Callable[..., list[str]] = runpy.run_path(str(ROOT / "scripts" / "check_release.py"))["problems"]

READY = {
    "version": "1.2.3",
    "changelog": "# Changelog\n\n## [1.2.3] - 2030-01-31\n\n## [1.2.2] - 2029-01-31\n",
    "citation": "version: 1.2.3\ndate-released: 2030-01-31\n",
    "uncommitted": "",
    "tags": "v1.2.1\nv1.2.2\n",
}


def test_a_release_that_is_ready_has_no_problems() -> None:
    assert problems(**READY) == []


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"changelog": "## [Unreleased]\n\n" + READY["changelog"]}, "Unreleased"),
        ({"changelog": "## [1.2.2] - 2029-01-31\n"}, "[1.2.2]"),
        ({"citation": "version: 1.2.2\ndate-released: 2030-01-31\n"}, "CITATION.cff"),
        ({"citation": "version: 1.2.3\ndate-released: 2030-01-30\n"}, "2030-01-31"),
        ({"version": "1.2.3.dev0"}, "1.2.3.dev0"),
        ({"uncommitted": " M README.md\n"}, "README.md"),
        ({"tags": "v1.2.3\n"}, "v1.2.3"),
    ],
)
def test_what_a_release_lacks_is_named(change: dict[str, str], fact: str) -> None:
    found = problems(**{**READY, **change})
    assert any(fact in problem for problem in found), found


def test_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]


def test_ci_runs_the_ci_script_on_every_supported_version() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]
    job = jobs["check-and-test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.fullmatch(r".*Python :: 3\.\d+", c)]
    assert job["strategy"]["matrix"]["python"] == named
    oldest = next(d for d in PROJECT["dependencies"] if d.startswith("torch")).removeprefix("torch>=")
    assert job["strategy"]["matrix"]["torch"] == [f"torch=={oldest}.*", "torch"]


def test_the_ci_script_runs_check_and_test() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("make")] == ["make check", "make test"]


def test_hooks_run_the_tools_of_the_environment() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    hooks = {hook["id"]: hook["entry"] for repo in repos for hook in repo["hooks"]}
    assert {*hooks} == {"ruff-format", "ruff", "mypy"}
    assert all(entry.startswith(".venv/bin/") for entry in hooks.values())
    development = PROJECT["optional-dependencies"]["dev"]
    assert {re.sub("==.*", "", d) for d in development if "==" in d} == {"ruff", "mypy"}


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.stem)
def test_github_files_are_valid_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)
