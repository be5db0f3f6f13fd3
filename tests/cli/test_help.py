"""The help page of `train`: it fits on a screen, and names the commands that list the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command


def test_help_of_train_fits_on_a_screen(command: Command) -> None:
    code, out, _ = command("train", "--help")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) <= 45
    assert 80 < max(map(len, lines)) <= 100  # as wide as the terminal of these tests
    words = " ".join(out.split())
    for text in ("--set mixup=0.2 --set shortcut=B", "`resnets recipes --options`"):
        assert text in words


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("300", 100)])
def test_help_is_as_wide_as_the_terminal_but_readable(
    command: Command, monkeypatch: pytest.MonkeyPatch, columns: str, widest: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert max(map(len, command("train", "--help").out.splitlines())) <= widest


def test_the_examples_of_the_help_page_work(command: Command, images: Path) -> None:
    words = ("--set", "mixup=0.2", "--set", "shortcut=B", "--dry-run", "--json")
    code, out, err = command("train", images, *words)
    assert code == 0, err
    args = json.loads(out)["args"]
    assert (args["mix"]["mixup"], args["network"]["shortcut"]) == (0.2, "B")


def test_a_flag_stands_beside_settings_of_its_group(command: Command, images: Path) -> None:
    words = (
        "--freeze",
        "layer2",
        "--freeze-epochs",
        2,
        "--set",
        "unfreeze_lr=0.003",
        "--set",
        "freeze_random=true",
        "--epochs",
        4,
    )
    code, out, err = command("train", images, *words, "--recipe", "finetune", "--dry-run", "--json")
    assert code == 0, err
    args = json.loads(out)["args"]
    assert [phase["freeze"] for phase in args["phases"]] == ["layer2", "none"]
    assert args["phases"][1]["lr"] == 0.003
