"""Tests of shell completion, with a real bash and its script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnets.cli import main

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def complete(*words: str) -> list[str]:
    """What bash offers for the last of `words` when the tab key is pressed."""
    script = """
eval "$(resnets --show-completion)"
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
_resnets_completion resnets
printf '%s\\n' "${COMPREPLY[@]}"
"""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-c", script, "bash", "resnets", *words],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tra"], ["train"]),
        (["data", ""], ["pack", "check"]),
        (["train", "x", "--pretr"], ["--pretrained"]),
        (["train", "--opt", "s"], ["sgd"]),
        (["train", "--set", "mix"], ["mixup="]),
        (["train", "--recipe", "n"], ["none"]),
        (["recipes", "n"], []),
        (["predict", "x.jpg", "--model", "st"], ["starter"]),
        (["predict", "x.jpg", "--model", "runs/"], []),  # bash completes the file name
        (["val", "x", "--amp", "b"], ["bf16"]),
    ],
)
def test_bash_completes_verbs_options_and_values(words: list[str], expected: list[str]) -> None:
    assert complete(*words) == expected


def test_names_of_networks_and_published_weights_are_completed() -> None:
    assert {"resnet50", "resnet50d", "resnet50.tv_in1k"} <= set(complete("info", "resnet50"))
    assert all("." in name for name in complete("train", "x", "--pretrained", "resnet50"))


@pytest.mark.parametrize("line", ["resnets tr", "resnets predict 'an open quo"])
def test_other_shells_pass_the_line_in_a_variable(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_RESNETS_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    assert main([]) == 0
    assert ("train" in capsys.readouterr().out) == line.endswith("tr")
