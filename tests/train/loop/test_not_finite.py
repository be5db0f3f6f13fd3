"""A loss or a weight that is no number: back to the last good state, and never onto the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets.errors import TrainingError
from resnets.train.loop.train_step import TrainStep
from resnets.train.loop.trainer import Trainer
from resnets.train.run import resume
from resnets.train.run_folder.checkpoint import read_state, states
from resnets.weights.folder.model_folder import read_bundle
from tests.images import write_images
from tests.train.run_folder.test_resume import _no_report
from tests.train.runs import QUIET, outcome, start

__all__ = ["_no_report"]

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
        answer = STEP(self, x, *rest)
        with torch.no_grad():
            if kind == "weights":
                self.model.fc.weight[0, 0] = float("inf")  # type: ignore[union-attr, index, operator]
            elif kind == "statistics":
                self.model.bn1.running_var[0] = float("nan")  # type: ignore[union-attr, index, operator]
            else:
                self.optimizer.state[self.model.fc.bias]["momentum_buffer"][0] = float("nan")  # type: ignore[index]
        return answer

    return step


def sound(folder: Path) -> None:
    """Fail if anything on the disk is not a number."""
    for path in states(folder / "state"):
        state = read_state(path)
        assert all(tensor.isfinite().all() for tensor in state.tensors.values()), path
        assert state.progress.loss_sum < float("inf")
    for name in ("best", "last"):
        if (folder / name).exists():
            assert all(one.isfinite().all() for one in read_bundle(folder / name).model.state_dict().values()), name


@pytest.mark.parametrize("kind", ["loss", "weights", "statistics", "momentum"])
@pytest.mark.parametrize("step", [1, 4, 5, 6, 15])
def test_a_passing_fault_goes_back_with_half_the_rate(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int
) -> None:
    """In the first step, within an epoch, in the last step of one, after it, in the last of all."""
    monkeypatch.setattr(TrainStep, "__call__", poison(kind, lambda tries: tries == step))
    folder = start(images, tmp_path, every_steps=1, ema=0.9).folder
    sound(folder)
    progress = read_state(states(folder / "state")[-1]).progress
    assert (progress.step, progress.epoch, progress.rollbacks, progress.lr_scale) == (15, 3, 1, 0.5)
    events = (folder / "events.txt").read_text().splitlines()
    assert ".png" in events[0]
    assert "first images of the batch: " in events[0]
    assert "must stay finite" in events[0]
    assert "with 0.5 of the learning rate" in events[1]
    assert [row["epoch"] for row in outcome(folder)["results"]] == [1, 2, 3]


def test_it_goes_on_as_from_that_state_at_that_rate(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as a run whose rate was halved from there by hand."""
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


def test_killed_after_going_back_it_goes_on_at_the_lower_rate(
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
        patch.setattr(Trainer, "_event", stop)
        stopped = start(images, tmp_path, name="stopped")
    assert stopped.stopped == signal.SIGTERM
    progress = read_state(states(stopped.folder / "state")[-1]).progress
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
        with pytest.raises(TrainingError, match=r"must stay finite; .* after epoch 1 stay in") as caught:
            start(images, tmp_path, name="wild", rollbacks=rollbacks)
    assert "\n" not in str(caught.value)
    folder = tmp_path / "wild"
    sound(folder)
    events = (folder / "events.txt").read_text()
    assert events.count("first images of the batch") == rollbacks + 1
    assert events.count("went back") == rollbacks
    assert resume(folder, console=QUIET).evaluation is not None  # whoever mends it goes on
    sound(folder)


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lamb", "muon"])
def test_a_rate_that_is_far_too_high(images: Path, tmp_path: Path, opt: str) -> None:
    with pytest.raises(TrainingError, match="must stay finite") as caught:
        start(images, tmp_path, name="wild", lr=1e38, opt=opt, every_steps=1, warmup_epochs=0)
    assert "\n" not in str(caught.value)
    sound(tmp_path / "wild")


def test_without_validation_nothing_spoilt_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no validation figures that would show it."""
    root = write_images(tmp_path / "data", {"train": 8})
    monkeypatch.setattr(TrainStep, "__call__", poison("weights", lambda tries: tries == 3))
    folder = start(root, tmp_path, val_fraction=0.0, batch_size=8, every_steps=None).folder
    sound(folder)
    assert "went back" in (folder / "events.txt").read_text()


def test_in_a_later_phase_it_goes_back_into_the_earlier_one(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state at the end of the frozen phase is damaged, so that the one before it is within that phase."""
    tries = 0
    options = {"freeze": "layer2", "freeze_epochs": 2, "views": 1, "epochs": 3}

    def step(self: TrainStep, x: torch.Tensor, *rest: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries != 11:
            return STEP(self, x, *rest)
        newest = states(tmp_path / "back" / "state")[-1]
        assert newest.name == "step-000000010.safetensors"
        newest.write_bytes(b"damaged")
        return STEP(self, x * float("nan"), *rest)

    monkeypatch.setattr(TrainStep, "__call__", step)
    folder = start(images, tmp_path, name="back", **options).folder
    sound(folder)
    assert "went back to step 9 of epoch 2" in (folder / "events.txt").read_text()
    assert [row["epoch"] for row in outcome(folder)["results"]] == [1, 2, 3]
    assert read_state(states(folder / "state")[-1]).progress.step == 15
