"""Whole runs of tiny networks, runs that are killed, and what they come to."""

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

import torch

from resnets.evaluate.results import read_results
from resnets.runtime.console import Console
from resnets.train.config.train_config import TrainConfig
from resnets.train.loop.trainer import Trainer, TrainResult
from resnets.train.run import train
from resnets.train.run_folder.checkpoint import read_state, states
from resnets.weights.folder.model_folder import read_bundle

__all__ = ["QUIET", "TINY", "kill_at_write", "killed_after", "outcome", "same_outcome", "start"]

TINY = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}
QUIET = Console(quiet=True, silent=True)
UNSTEADY = ("seconds", "images_per_second", "memory_mib")


def start(data: Path | str, output: Path, **options: Any) -> TrainResult:
    """A run of three epochs of five steps, with a state every third step."""
    settings: dict[str, Any] = {
        "epochs": 3, "batch_size": 16, "lr": 0.05, "model_args": TINY, "amp": "off", "warmup_epochs": 0.5,
        "every_steps": 3,
    }  # fmt: skip
    options = settings | options
    return train(TrainConfig.from_options(data=str(data), output=str(output), **options), console=QUIET)


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a run came to, but for times: tensors by name, results, progress."""
    state = read_state(states(folder / "state")[-1])
    found: dict[str, Any] = dict(state.tensors)
    for name in ("best", "last"):
        tensors = read_bundle(folder / name).model.state_dict()
        found |= {f"{name}.{key}": tensor for key, tensor in tensors.items()}
    found["progress"] = {key: value for key, value in asdict(state.progress).items() if key != "seconds"}
    found["results"] = [
        {key: value for key, value in row.items() if key not in UNSTEADY}
        for row in read_results(folder / "results.csv")
    ]
    return found


def same_outcome(one: Path, other: Path) -> None:
    """Fail unless two runs came to the same, to the last bit."""
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

    def announced() -> None:
        go = Trainer.go

        def begin(self: Trainer) -> TrainResult:
            os.write(writer, b"!")
            return go(self)

        Trainer.go = begin  # type: ignore[method-assign]
        work()

    child = _fork(announced)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"!", "the run did not even begin"
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
