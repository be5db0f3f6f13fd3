"""The benchmarks still run and answer; how fast is not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train_step.py"], "our step against the plain way, float32"),
        (["train_step_tries.py", "NCHW", "foreach SGD", "zero_grad(set_to_none=False)"], "foreach SGD"),
    ],
)
def test_training_benchmarks_answer(words: list[str], expected: str) -> None:
    short = ["--batch", "4", "--steps", "1", "--rounds", "1", "--json"]
    done = subprocess.run(
        [sys.executable, str(BENCH / words[0]), *words[1:], *short], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["machine"]["threads"] >= 1
    assert {"ours", "other", "ratio", "low", "high", "rounds"} == set(answer["pairs"][expected])
    assert all(pair["ratio"] > 0 for pair in answer["pairs"].values())
