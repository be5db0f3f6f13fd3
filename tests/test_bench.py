"""The benchmarks run and print their results; speed is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train_step.py"], "our step against plain code, float32"),
        (["train_step_tries.py", "NCHW", "foreach SGD", "zero_grad(set_to_none=False)"], "foreach SGD"),
    ],
)
def test_training_benchmarks_run(arguments: list[str], expected: str) -> None:
    short = ["--batch", "4", "--steps", "1", "--rounds", "1", "--json"]
    done = subprocess.run(
        [sys.executable, str(BENCH / arguments[0]), *arguments[1:], *short], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["machine"]["threads"] >= 1
    assert {"ours", "other", "ratio", "low", "high", "rounds"} == set(result["pairs"][expected])
    assert all(pair["ratio"] > 0 for pair in result["pairs"].values())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ddp.py", "--batch", "4", "--steps", "1", "--rounds", "1", "--json"], "ratio"),
        (["gpu_train.py", "--steps", "1", "--rounds", "1"], "images/s" if torch.cuda.is_available() else "skipped"),
        (["decode.py", "--rounds", "1", "--limit", "4", "--json"], "packed"),
        (
            ["frozen.py", "--images", "8", "--size", "32", "--batch", "4", "--epochs", "2", "--rounds", "1",
             "--model", "resnet18", "--amp", "off", "--workers", "0", "--json"], "layer3",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_other_benchmarks_run(arguments: list[str], expected: str, shared_data: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / arguments[0]), *arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"RESNETS_DATA": str(shared_data)},
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
