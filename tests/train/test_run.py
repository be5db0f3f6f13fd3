"""Whole runs on images that are learnt in seconds: training, resuming, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets.data.open import open_dataset
from resnets.errors import DataError, TrainingError, UnknownNameError
from resnets.evaluate.results import read_results
from resnets.runtime.console import Console
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import read_resolved
from resnets.train.config.train_config import TrainConfig, read_args
from resnets.train.loop.metrics import EpochResult, TrainResult
from resnets.train.loop.trainer import Trainer
from resnets.train.run import resume, train
from resnets.train.run_folder.checkpoint import RunProgress
from resnets.train.run_folder.paths import RunFolder
from resnets.weights.folder.model_folder import read_bundle
from tests.images import write_images

SMALL = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}
QUIET = Console(quiet=True)
UNSTEADY = ("seconds", "images_per_second", "memory_mib")


def run(data: Path | str, output: Path, **options: object) -> TrainResult:
    settings = {"epochs": 3, "lr": 0.05, "model_args": SMALL, "amp": "off", "warmup_epochs": 0.5} | options
    return train(TrainConfig.from_options(data=str(data), output=str(output), **settings), console=QUIET)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_bundle(folder).model.state_dict()


def test_a_run_learns_and_writes_its_folder(images: Path, tmp_path: Path) -> None:
    result = run(images, tmp_path / "runs")
    assert result.evaluation is not None
    assert result.evaluation.top1 > 0.9
    assert result.stopped is None
    folder = result.folder
    assert folder == tmp_path / "runs" / "colours-resnet20_cifar"
    assert {entry.name for entry in folder.iterdir()} == {
        "args.yaml", "resolved.yaml", "results.csv", "best", "last", "checkpoints", "plots", "report.html",
        "manifest.json",
    }  # fmt: skip
    assert {entry.name for entry in (folder / "plots").iterdir()} == {"curves.png", "rates.png", "confusion.png"}
    assert [row["epoch"] for row in read_results(folder / "results.csv")] == [1, 2, 3]
    bundle = read_bundle(result.best)
    assert bundle.classes == ("blue", "green", "red")
    assert bundle.provenance["metrics"]["val_top1"] == result.evaluation.top1
    assert read_args(folder / "args.yaml").batch_size is None
    assert read_resolved(folder / "resolved.yaml").batch_size == 8
    assert run(images, tmp_path / "runs", epochs=1).folder.name == "colours-resnet20_cifar-2"


def test_gradient_checkpointing_changes_no_result(images: Path, tmp_path: Path) -> None:
    options = {"epochs": 1, "model_args": SMALL | {"drop_path_rate": 0.2}}
    one, other = (
        run(images, tmp_path, name=str(enable), grad_checkpointing=enable, **options).folder for enable in (False, True)
    )
    for name, tensor in tensors(one / "last").items():
        assert torch.equal(tensors(other / "last")[name], tensor), name


def test_a_resumed_run_equals_a_whole_one(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(images, tmp_path, name="whole")

    def stop_after_first(self: Console, text: str) -> None:
        if text.startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Console, "info", stop_after_first)
        half = run(images, tmp_path, name="parts")
    assert half.stopped == signal.SIGTERM
    assert [row["epoch"] for row in half.results] == [1]
    assert read_bundle(half.best).provenance["metrics"]["epochs_done"] == 1
    rest = resume(half.folder, console=QUIET)
    for name, tensor in tensors(whole.folder / "last").items():
        assert torch.equal(tensor, tensors(rest.folder / "last")[name]), name
    timeless = [{k: v for k, v in row.items() if k not in UNSTEADY} for row in whole.results]
    again = [{k: v for k, v in row.items() if k not in UNSTEADY} for row in rest.results]
    assert again == timeless
    with pytest.raises(TrainingError, match="only an unfinished run"):
        resume(rest.folder, console=QUIET)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_leaves_a_model(images: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [
        sys.executable, "-m", "resnets", "train", str(images), "--epochs", "500", "--output", str(tmp_path),
        "--name", "killed", "--amp", "off", "--set", "depths=1,1,1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    results = tmp_path / "killed" / "results.csv"
    deadline = time.monotonic() + 60
    while not results.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert process.returncode == expected[number], err
    if number != signal.SIGKILL:
        assert f"--resume {tmp_path}/killed" in out
    assert read_bundle(tmp_path / "killed" / "best").classes == ("blue", "green", "red")
    assert not [path for path in (tmp_path / "killed").rglob("*.tmp") if number != signal.SIGKILL]


def test_nan_is_an_error_and_models_remain(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"training diverged; .*; no epoch was finished$"):
        run(images, tmp_path, lr=1e30, name="wild")

    def poison(self: Trainer, epoch: int, *rest: Any) -> EpochResult | None:
        if epoch:
            with torch.no_grad():
                self.model.fc.weight.fill_(float("nan"))  # type: ignore[operator, union-attr]
        return train_epoch(self, epoch, *rest)

    train_epoch = Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", poison)
    with pytest.raises(TrainingError, match=rf"checkpoint of epoch 1 are in {tmp_path}/later$"):
        run(images, tmp_path, name="later")
    for folder in ("best", "last"):
        assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "later" / folder).values())
    monkeypatch.undo()
    assert resume(tmp_path / "later", console=QUIET).evaluation is not None


def test_bad_images_stop_before_training_or_are_listed(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 6, "val": 2})
    (root / "train" / "red" / "bad.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(DataError, match=r"bad\.png"):
        run(root, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()  # a run that never began leaves nothing
    result = run(root, tmp_path / "runs", skip_bad=True, epochs=1)
    assert "bad.png" in (result.folder / "quarantine.txt").read_text()


def test_batches_of_one_and_data_without_validation(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 2})
    result = run(root, tmp_path / "runs", batch_size=1, val_fraction=0.0, epochs=1)
    assert result.evaluation is None
    assert read_bundle(result.best).classes


def test_mistakes_are_found_before_anything_is_written(images: Path, tmp_path: Path) -> None:
    for options, error in (
        ({"model": "resnet19_cifar"}, "6n"),
        ({"model": "resnt50"}, "resnet50"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"pretrained": "nowhere.pth"}, "nowhere"),
        ({"model_args": {"shortcuts": "B"}}, "shortcut"),
    ):
        with pytest.raises((UnknownNameError, TrainingError, Exception), match=error):
            run(images, tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_the_name_of_a_run_is_unique(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path, name="one", epochs=1)
    with pytest.raises(TrainingError, match="--resume"):
        run(images, tmp_path, name="one")


@pytest.mark.parametrize(
    ("limit", "network", "message", "kept"),
    [
        (60_000, [], "cannot write a checkpoint", set()),
        (500_000, [], "cannot write a checkpoint", {"best", "last"}),
        (60_000, ["--set", "widths=8,8,8", "--set", "stem_width=8"], "File too large", {"best", "last"}),
    ],
)
def test_a_full_disk_is_one_line_and_earlier_files_remain(
    images: Path, tmp_path: Path, limit: int, network: list[str], message: str, kept: set[str]
) -> None:
    """A limit on the size of files fails writes as a full disk does: of model, checkpoint, and plots."""
    program = (
        "import resource, signal, sys; from resnets.cli import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable, "-c", program, "train", str(images), "--set", "depths=1,1,1",
        "--epochs", "1", "--output", str(tmp_path), "--name", "full", *network,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert str(tmp_path / "full") in last
    assert not list((tmp_path / "full").rglob("*.tmp"))
    assert {name for name in ("best", "last") if (tmp_path / "full" / name).exists()} == kept


def test_a_run_folder_that_cannot_be_created(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot create the run folder"):
        run(images, tmp_path / "file" / "runs")


def test_resuming_a_run_that_started_from_a_model(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its first epoch it starts again from the model; later it no longer needs it."""
    base = run(images, tmp_path, name="base", img_size=(16, 12), epochs=1).folder
    options = {"pretrained": str(base), "model_args": {}, "epochs": 2}
    whole = run(images, tmp_path, name="whole", **options)

    def stop(self: Console, text: str, *rest: object, initial: int = 0) -> None:
        if text.startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGTERM)

    for moment, epochs in (("start", 0), ("info", 1)):  # before the first step; after the first epoch
        with monkeypatch.context() as patch:
            patch.setattr(Console, moment, stop)
            half = run(images, tmp_path, name=moment, **options)
        assert half.stopped == signal.SIGTERM
        assert len(half.results) == epochs
        if epochs:
            base.rename(tmp_path / "gone")
        rest = resume(half.folder, console=QUIET)
        assert read_bundle(rest.best).preprocessing.size == (16, 12)
        for name, tensor in tensors(whole.folder / "last").items():
            assert torch.equal(tensor, tensors(rest.folder / "last")[name]), name


@pytest.mark.parametrize(
    ("done", "best", "ends"),
    [(2, 1, False), (3, 1, True), (4, 1, False), (5, 1, False), (6, 1, True), (6, 5, False), (9, 5, False)],
)
def test_patience_is_counted_anew_in_each_phase(images: Path, tmp_path: Path, done: int, best: int, ends: bool) -> None:
    """Phases of 4 and 5 epochs; `done` of them are done, and number `best` was the best."""
    options = {"patience": 2, "freeze_random": True, "phases": [{"epochs": 4, "freeze": "layer1"}, {"epochs": 5}]}
    config = TrainConfig.from_options(data=str(images), model_args=SMALL, **options)
    dataset = open_dataset(images)
    trainer = Trainer(RunFolder(tmp_path), resolve_config(config, dataset), dataset, QUIET)
    trainer.progress = RunProgress(epoch=done, best_epoch=best)
    assert trainer.is_out_of_patience() is ends
