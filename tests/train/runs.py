"""Runs of tiny networks: whole, stopped or killed, and comparisons of their results."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets.evaluate.results import read_results
from resnets.runtime.console import Console
from resnets.train.config.train_config import TrainConfig
from resnets.train.loop import trainer
from resnets.train.loop.metrics import TrainResult
from resnets.train.loop.trainer import Trainer
from resnets.train.run import train
from resnets.train.run_folder.checkpoint import checkpoints, read_checkpoint
from resnets.weights.folder.model_folder import read_bundle

__all__ = [
    "QUIET",
    "TINY",
    "Recorder",
    "kill_at_write",
    "killed_after",
    "outcome",
    "same_outcome",
    "start",
    "stop_at",
    "without_report",
]

TINY = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}
QUIET = Console(silent=True)
UNSTEADY = ("seconds", "images_per_second", "memory_mib")


class Recorder(Console):
    """Records the messages."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = info


@pytest.fixture(autouse=True)
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no report: plots and reports take longer than these runs."""
    monkeypatch.setattr(trainer, "write_run_report", lambda *args: None)


def start(data: Path | str, output: Path, **options: Any) -> TrainResult:
    """A run of three epochs of five steps, with a checkpoint every third step."""
    settings: dict[str, Any] = {
        "epochs": 3, "batch_size": 16, "lr": 0.05, "model_args": TINY, "amp": "off", "warmup_epochs": 0.5,
        "every_steps": 3, "deterministic": True, "freeze_random": True,
    }  # fmt: skip
    options = settings | options
    return train(TrainConfig.from_options(data=str(data), output=str(output), **options), console=QUIET)


def stop_at(images: Path, output: Path, step: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """The folder of a run that is stopped after a step."""
    count = 0

    def advance(self: Trainer, images: int, loss: float) -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "show_progress", advance)
        return start(images, output, name="stopped", **options).folder


def outcome(folder: Path) -> dict[str, Any]:
    """The results of a run without times: tensors by name, rows, progress."""
    checkpoint = read_checkpoint(checkpoints(folder / "checkpoints")[-1])
    found: dict[str, Any] = dict(checkpoint.tensors)
    for name in ("best", "last"):
        tensors = read_bundle(folder / name).model.state_dict()
        found |= {f"{name}.{key}": tensor for key, tensor in tensors.items()}
    found["progress"] = {key: value for key, value in asdict(checkpoint.progress).items() if key != "seconds"}
    found["results"] = [
        {key: value for key, value in row.items() if key not in UNSTEADY}
        for row in read_results(folder / "results.csv")
    ]
    return found


def same_outcome(one: Path, other: Path) -> None:
    """Assert that two runs have the same results to the bit."""
    first, second = outcome(one), outcome(other)
    assert second["progress"] == first["progress"]
    assert second["results"] == first["results"]
    assert set(second) == set(first)
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == second[name].dtype
            assert torch.equal(value, second[name]), name


def killed_after(work: Callable[[], object], seconds: float) -> bool:
    """Run `work` in a process that gets SIGKILL so many seconds after training began; False if it ended before that."""
    reader, writer = os.pipe()

    def work_and_signal() -> None:
        fit = Trainer.fit

        def begin(self: Trainer) -> TrainResult:
            os.write(writer, b"!")
            return fit(self)

        Trainer.fit = begin  # type: ignore[method-assign]
        work()

    child = _fork(work_and_signal)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"!", "the run did not start"
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        return _wait(child)
    finally:
        os.close(reader)


def kill_at_write(work: Callable[[], object], folder: Path, number: int) -> bool:
    """Run `work` in a process that gets SIGKILL just before its `number`-th change to `folder`; False if it ended."""

    def counted() -> None:
        left = number

        def watch(event: str, args: tuple[Any, ...]) -> None:
            nonlocal left
            opened = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wxa+")
            changed = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod") or opened
            if changed and str(args[0]).startswith(str(folder)):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)  # stays, in a process that does nothing else
        work()

    return _wait(_fork(counted))


def _fork(work: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there were threads
        child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _wait(child: int) -> bool:
    """Whether it was killed; its workers go too."""
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    assert status == signal.SIGKILL or os.waitstatus_to_exitcode(status) == 0, "the run failed"
    return os.WIFSIGNALED(status)
