"""Tables: wide letters are aligned, and no table is wider than a terminal of 80 columns where texts can wrap."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from resnets.cli.output import Column, print_table


def test_columns_of_wide_letters_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Column("class"), Column("images", right=True)], [["蚂蚁", "6"], ["🐝 bees", "16"], ["été", "1"]])
    assert capsys.readouterr().out.splitlines() == [
        "class    images",
        "---------------",
        "蚂蚁          6",  # two columns for each letter
        "🐝 bees      16",
        "été           1",
    ]


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="no pseudo-terminals")
@pytest.mark.parametrize("verb", ["models", "models --pretrained", "recipes", "recipes --options", "info resnet50"])
def test_tables_fit_a_terminal_of_80_columns(verb: str) -> None:
    main, side = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "LINES": "25", "TERM": "xterm", "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "resnets", *verb.split()]
    with subprocess.Popen(argv, stdout=side, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(side)
        parts = []
        try:
            while part := os.read(main, 65536):
                parts.append(part)
        except OSError:  # Linux raises EIO at the end
            pass
    os.close(main)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(parts).decode())
    text = text.replace("\r", "").partition("\n\n")[2] if verb.startswith("info") else text  # below lines of text
    table = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, table)) <= 80
