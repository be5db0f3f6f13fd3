"""Losses and weights that are not finite: rolled back to the last checkpoint, and never saved."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets.errors import TrainingError
from resnets.train.config.options import LossConfig
from resnets.train.loop.train_step import TrainStep
from resnets.train.loop.trainer import Trainer
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.run import resume
from resnets.train.run_folder.checkpoint import checkpoints, read_checkpoint
from resnets.weights.folder.model_folder import read_bundle
from tests.images import write_images
from tests.train.runs import QUIET, outcome, start, without_report

__all__ = ["without_report"]

STEP = TrainStep.__call__


def poison(kind: str, when: Callable[[int], bool]) -> Callable[..., Any]:
    """Steps of which the `when`-th, counted over all tries from 1, spoil something."""
    tries = 0

    def step(self: TrainStep, x: torch.Tensor, *rest: Any) -> Any:
        nonlocal tries
        tries += 1
        if not when(tries):
            return STEP(self, x, *rest)
        if kind == "loss":
            return STEP(self, x * float("nan"), *rest)
        result = STEP(self, x, *rest)
        with torch.no_grad():
            if kind == "weights":
                self.model.fc.weight[0, 0] = float("inf")  # type: ignore[union-attr, operator]
            elif kind == "statistics":
                self.model.bn1.running_var[0] = float("nan")  # type: ignore[union-attr, operator]
            else:
                self.optimizer.state[self.model.fc.bias]["momentum_buffer"][0] = float("nan")  # type: ignore[union-attr, index]
        return result

    return step


def assert_finite(folder: Path) -> None:
    """Fail if anything on the disk is not a number."""
    for path in checkpoints(folder / "checkpoints"):
        checkpoint = read_checkpoint(path)
        assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values()), path
        assert checkpoint.progress.loss_sum < float("inf")
    for name in ("best", "last"):
        if (folder / name).exists():
            assert all(one.isfinite().all() for one in read_bundle(folder / name).model.state_dict().values()), name


@pytest.mark.parametrize("kind", ["loss", "weights", "statistics", "momentum"])
@pytest.mark.parametrize("step", [1, 4, 5, 6, 15])
def test_a_passing_fault_rolls_back_with_half_the_learning_rate(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int
) -> None:
    """In the first step, within an epoch, in the last step of one, after it, in the last of all."""
    monkeypatch.setattr(TrainStep, "__call__", poison(kind, lambda tries: tries == step))
    folder = start(images, tmp_path, every_steps=1, ema=0.9).folder
    assert_finite(folder)
    progress = read_checkpoint(checkpoints(folder / "checkpoints")[-1]).progress
    assert (progress.step, progress.epoch, progress.rollbacks, progress.lr_scale) == (15, 3, 1, 0.5)
    events = (folder / "events.txt").read_text().splitlines()
    assert ".png" in events[0]
    assert "first images of the batch: " in events[0]
    assert "training diverged" in events[0]
    assert "with 0.5 of the learning rate" in events[1]
    assert [row["epoch"] for row in outcome(folder)["results"]] == [1, 2, 3]


def test_a_rollback_continues_from_the_checkpoint_to_the_bit(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as a run whose learning rate is halved from there by hand."""
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", poison("loss", lambda tries: tries == 8))
        folder = start(images, tmp_path, name="back").folder

    def halved(self: TrainStep, *batch: Any) -> Any:
        self.lr_scale = 1.0 if self.step < 6 else 0.5
        return STEP(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", halved)
        manual = start(images, tmp_path, name="manual").folder
    one, other = outcome(folder), outcome(manual)
    assert one["results"] == other["results"]
    assert all((one[key] == other[key]).all() for key in one if key not in ("results", "progress"))


def test_killed_after_a_rollback_it_resumes_at_the_lower_rate(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Trainer, text: str) -> None:
        if "went back" in text:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", poison("loss", lambda tries: tries == 8))
        whole = start(images, tmp_path, name="whole").folder
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", poison("loss", lambda tries: tries == 8))
        patch.setattr(Trainer, "log_event", stop)
        stopped = start(images, tmp_path, name="stopped")
    assert stopped.stopped == signal.SIGTERM
    progress = read_checkpoint(checkpoints(stopped.folder / "checkpoints")[-1]).progress
    assert (progress.step, progress.rollbacks, progress.lr_scale) == (6, 1, 0.5)
    resume(stopped.folder, console=QUIET)
    one, other = outcome(whole), outcome(stopped.folder)
    assert one["results"] == other["results"]
    assert one["progress"] == other["progress"]
    assert all((one[key] == other[key]).all() for key in one if key not in ("results", "progress"))


@pytest.mark.parametrize("rollbacks", [0, 1, 2])
@pytest.mark.parametrize("kind", ["loss", "weights"])
def test_a_lasting_fault_is_one_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rollbacks: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", poison(kind, lambda tries: tries > 7))
        with pytest.raises(TrainingError, match=r"training diverged; .* of epoch 1 are in") as caught:
            start(images, tmp_path, name="wild", rollbacks=rollbacks)
    assert "\n" not in str(caught.value)
    folder = tmp_path / "wild"
    assert_finite(folder)
    events = (folder / "events.txt").read_text()
    assert events.count("first images of the batch") == rollbacks + 1
    assert events.count("went back") == rollbacks
    assert resume(folder, console=QUIET).evaluation is not None  # it can be resumed once the cause is removed
    assert_finite(folder)


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lamb", "muon"])
def test_a_learning_rate_that_is_far_too_high(images: Path, tmp_path: Path, opt: str) -> None:
    with pytest.raises(TrainingError, match="training diverged") as caught:
        start(images, tmp_path, name="wild", lr=1e38, opt=opt, every_steps=1, warmup_epochs=0)
    assert "\n" not in str(caught.value)
    assert_finite(tmp_path / "wild")


def test_without_validation_no_spoilt_model_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no validation metrics that would show it."""
    root = write_images(tmp_path / "data", {"train": 8})
    monkeypatch.setattr(TrainStep, "__call__", poison("weights", lambda tries: tries == 3))
    folder = start(root, tmp_path, val_fraction=0.0, batch_size=8, every_steps=None).folder
    assert_finite(folder)
    assert "went back" in (folder / "events.txt").read_text()


def test_a_rollback_into_an_earlier_phase(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint at the end of the frozen phase is damaged; the one before it is within that phase."""
    tries = 0
    options = {"freeze": "layer2", "freeze_epochs": 2, "views": 1, "epochs": 3}

    def step(self: TrainStep, x: torch.Tensor, *rest: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries != 11:
            return STEP(self, x, *rest)
        newest = checkpoints(tmp_path / "back" / "checkpoints")[-1]
        assert newest.name == "step-000000010.safetensors"
        newest.write_bytes(b"damaged")
        return STEP(self, x * float("nan"), *rest)

    monkeypatch.setattr(TrainStep, "__call__", step)
    folder = start(images, tmp_path, name="back", **options).folder
    assert_finite(folder)
    assert "went back to step 9 of epoch 2" in (folder / "events.txt").read_text()
    assert [row["epoch"] for row in outcome(folder)["results"]] == [1, 2, 3]
    assert read_checkpoint(checkpoints(folder / "checkpoints")[-1]).progress.step == 15


def test_a_finite_loss_far_above_that_of_uniform_predictions_is_called_divergence(images: Path, tmp_path: Path) -> None:
    folder = start(images, tmp_path, lr=30.0, warmup_epochs=0).folder
    assert "training diverges; the loss of epoch 1 is" in (folder / "events.txt").read_text()
    healthy = start(images, tmp_path, name="healthy").folder / "events.txt"
    assert not healthy.exists() or "diverges" not in healthy.read_text()


@pytest.mark.parametrize("loss", ["ce", "bce", "focal"])
@pytest.mark.parametrize("weights", [None, (0.0, 1.0, 2.0)])
def test_the_loss_of_uniform_predictions(loss: str, weights: tuple[float, ...] | None) -> None:
    module = ClassificationLoss(LossConfig(loss=loss), None if weights is None else torch.tensor(weights))  # type: ignore[arg-type]
    expected = {"ce": log(3), "bce": 3 * log(2), "focal": log(3) * (2 / 3) ** 2}[loss]
    assert module.of_uniform_predictions(3) == pytest.approx(expected, rel=0.1 if weights else 1e-6)
