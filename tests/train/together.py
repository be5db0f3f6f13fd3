"""What several processes run, for `tests/runtime/test_processes.py`; started by TorchElastic, as by `torchrun`.

`python -m tests.train.together NAME SIZE FOLDER` runs the function NAME in SIZE processes forked from one that has
imported everything, and each leaves `FOLDER/RANK.pt`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from resnets import api
from resnets.cli import main
from resnets.errors import ImageError, ResnetsError, UnknownNameError
from resnets.runtime.console import Console
from resnets.runtime.processes import Processes, join_processes
from resnets.train.config.train_config import TrainConfig
from resnets.train.loop.metrics import TrainResult
from resnets.train.loop.train_step import TrainStep
from resnets.train.run import resume, train
from resnets.weights.folder.model_folder import read_bundle

__all__ = ["RUNS", "run_one", "weights"]

GROUP = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8, "norm": "group", "norm_groups": 4}
BATCH = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}
# Without batch statistics, which depend on the local batch, results are equal for any number of processes.
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"model_args": GROUP, "epochs": 2},
    "phases": {
        "model_args": GROUP,
        "epochs": 3,
        "freeze_random": True,
        "freeze": "layer1",
        "freeze_epochs": 1,
        "accumulate": 2,
        "ema": 0.9,
    },
    "weighted": {"model_args": GROUP, "epochs": 1, "class_weights": "balanced", "clip_grad": 1.0},
    "frozen statistics": {"model_args": BATCH, "epochs": 2, "bn_stats": "frozen", "opt": "adamw", "lr": 0.003},
    "statistics": {"model_args": BATCH, "epochs": 3, "ema": 0.9, "mixup": 0.2},
    "averaged epochs": {"model_args": BATCH, "epochs": 2, "swa_epochs": 2},
}


def run_one(kind: str, folder: Path, **options: Any) -> TrainResult:
    """A run of the `RUNS`, called so unless options name it; on the images beside `folder`."""
    settings = {"lr": 0.05, "amp": "off", "warmup_epochs": 0.5, "batch_size": 8, "cache": "off", "device": "cpu"}
    settings |= {"data": str(folder.parent / "images"), "output": str(folder), "name": kind, "workers": 0}
    # Plots take long and are not tested here; with small batches, every process validates some.
    with (
        mock.patch("resnets.train.loop.trainer.write_run_report", return_value=None),
        mock.patch("resnets.train.loop.trainer.VALIDATION_BATCH", 8),
    ):
        return train(TrainConfig.from_options(settings | RUNS[kind] | options), console=Console(quiet=True))


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model folder."""
    return dict(read_bundle(folder).model.state_dict())


def everything(processes: Processes, folder: Path) -> dict[str, Any]:
    """Runs, measurements and errors in one group of processes."""
    left: dict[str, Any] = {}
    moved: list[TrainStep] = []
    with mock.patch.object(TrainStep, "__init__", _remembering(moved)):
        for name in RUNS:
            result = run_one(name, folder)
            left[name] = moved[-1].model.state_dict()
            left[f"{name}, average"] = moved[-1].average.tensors if moved[-1].average else {}
            left[f"{name}, measured"] = result.evaluation.logits if result.evaluation else None
    for size in (8, 16, 37):
        measured = api.evaluate(folder / "plain", batch_size=size, device="cpu", workers=0, quiet=True)
        left[f"logits by {size}"] = measured.labels, measured.logits, measured.indices
    left["errors"] = [_caught(partial(processes.run_on_main, _raising(error))) for error in ERRORS]
    processes.discard_pending()
    left["nonblocking"] = [processes.any_nonblocking(processes.rank == 1 and number == 2, False) for number in range(5)]
    left["no room"] = _no_room(folder)
    left["stopped"] = _stopped_by_one(processes, folder)
    return left


ERRORS = (
    ImageError("cat.png", "cut short"),
    UnknownNameError("model", "resnet19", ["resnet18"]),
    OSError(28, "No space left on device", "results.csv"),
)


def _raising(error: Exception) -> Callable[[], None]:
    def make() -> None:
        raise error

    return make


def _caught(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (ResnetsError, OSError) as error:
        return type(error).__name__, str(error), getattr(error, "where", None)


def _remembering(moved: list[TrainStep]) -> Callable[..., None]:
    original = TrainStep.__init__

    def init(self: TrainStep, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        moved.append(self)

    return init


def _no_room(folder: Path) -> Any:
    """The main process cannot write the models of an epoch."""
    full = OSError(28, "No space left on device", "results.csv")
    with mock.patch("resnets.train.loop.trainer.add_result", side_effect=full):
        return _caught(lambda: run_one("plain", folder, name="full"))


def _stopped_by_one(processes: Processes, folder: Path) -> Any:
    """The last process gets SIGTERM in the middle of the second epoch; all stop there, and resume."""
    step = TrainStep.__call__

    def terminating(self: TrainStep, *args: Any) -> tuple[Tensor, Tensor]:
        if self.step == 7 and processes.rank == processes.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    with mock.patch.object(TrainStep, "__call__", terminating):
        half = run_one("plain", folder, name="stopped")
    processes.run_on_main(lambda: (shutil.copytree(half.folder, folder / "half"), None)[1])
    return half.stopped, len(half.results), resume(half.folder, console=Console(quiet=True)).best_epoch


def again(processes: Processes, folder: Path) -> dict[str, Any]:
    """A run that other processes have begun."""
    result = resume(folder / "half", console=Console(quiet=True))
    return {"epochs": [row["epoch"] for row in result.results]}


def alone(processes: Processes, folder: Path) -> dict[str, Any]:
    """One process fails on its own, in the middle of an epoch."""
    step = TrainStep.__call__

    def failing(self: TrainStep, *args: Any) -> tuple[Tensor, Tensor]:
        if self.step == 3 and processes.rank == 1:
            raise ImageError("cat.png", "cut short")
        return step(self, *args)

    with mock.patch.object(TrainStep, "__call__", failing):
        run_one("plain", folder, name="alone")
    return {}


def work(name: str, folder: Path) -> None:
    """What each process does."""
    with join_processes("cpu") as processes:
        left = globals()[name](processes, folder)
        torch.save(left, folder / f"{processes.rank}.pt")
    threads = Path("/proc/self/task")
    if threads.exists():  # on Linux
        names = [(thread / "comm").read_text(encoding="utf-8").strip() for thread in threads.iterdir()]
        (folder / f"{processes.rank}.threads").write_text("\n".join(names), encoding="utf-8")


def command(name: str, folder: Path) -> None:
    """The same for `alone`, called by `resnets train`, which prints the error."""
    if name != "alone":
        work(name, folder)
        return
    with mock.patch("resnets.api.train", side_effect=lambda *args, **options: work(name, folder)):
        sys.exit(main(["train", "digits"]))


def launch_id(name: str, size: int, folder: Path) -> None:
    """Start the processes and wait for them."""
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=size, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        start_method="fork", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    elastic_launch(config, command)(name, folder)


if __name__ == "__main__":
    launch_id(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
