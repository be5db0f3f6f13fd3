"""A run that is killed again and again ends with the same bits as an uninterrupted run."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from resnets import api
from resnets.errors import TrainingError
from resnets.runtime.console import Console
from resnets.train.loop import trainer
from resnets.train.loop.trainer import Trainer
from resnets.train.run import resume
from resnets.train.run_folder.checkpoint import checkpoints, read_checkpoint
from resnets.train.run_folder.checkpointer import Checkpointer
from tests.train.runs import (
    QUIET,
    TINY,
    Recorder,
    kill_at_write,
    killed_after,
    outcome,
    same_outcome,
    start,
    stop_at,
    without_report,
)

__all__ = ["without_report"]

AUGMENT = {"policy": "trivialaugment", "random_erasing": 0.5, "color_jitter": (0.2, 0.2, 0.2, 0.1), "pad": 1}
RUNS: dict[str, dict[str, Any]] = {
    "sgd, ema, all augmentation": {
        "ema": 0.9, "mixup": 0.3, "cutmix": 1.0, "off_epoch": 2, "augment": AUGMENT,
        "model_args": TINY | {"drop_path_rate": 0.3, "drop_rate": 0.2},
    },
    "adamw": {"opt": "adamw", "lr": 0.002, "clip_grad": 1.0, "sched": "onecycle"},
    "muon": {"opt": "muon", "momentum": 0.8, "freeze": "stem", "freeze_epochs": 1, "unfreeze_lr": 0.02},
    "lamb": {"opt": "lamb", "lr": 0.01, "loss": "bce", "cutmix": 1.0, "ema": 0.9, "ema_every": 2},
    "frozen with cached features, then unfrozen": {
        "freeze": "layer2", "freeze_epochs": 3, "epochs": 4, "unfreeze_lr": 0.01, "views": 2, "augment": AUGMENT,
    },
    "unfrozen by stages": {
        "freeze": "layer2", "freeze_epochs": 2, "epochs": 6, "unfreeze": "stages", "views": 1,
        "opt": "adamw", "lr": 0.002,
    },
    "streamed": {"scale": (0.3, 1.0), "workers": 0, "ema": 0.9, "model_args": TINY | {"drop_path_rate": 0.2}},
    "streamed by workers": {"scale": (0.3, 1.0), "workers": 2, "policy": "randaugment"},
    "swa": {"swa_epochs": 2, "freeze": "stem", "cache": "off"},
    "balanced, growing images": {"balanced": True, "train_sizes": ((0, 8), (0.5, 12)), "class_weights": "balanced"},
    "repeats, accumulated gradients": {"repeats": 3, "accumulate": 2, "loss": "focal", "patience": 2},
}  # fmt: skip


def kill_and_resume(images: Path, tmp_path: Path, name: str, kills: int) -> None:
    options = RUNS[name]
    whole = start(images, tmp_path, name="whole", **options)
    killed, rng, times = tmp_path / "killed", random.Random(name), 0
    longest = 1.5 * whole.seconds / kills
    while times < kills:
        wait = rng.uniform(0, longest)
        work = (
            (lambda: resume(killed, console=QUIET))
            if (killed / "args.yaml").exists()
            else (lambda: start(images, tmp_path, name="killed", **options))
        )
        if killed_after(work, wait):
            times += 1
        elif times:
            break
        else:  # it ended before the first kill, as the machine was slower before: begin again, kill earlier
            shutil.rmtree(killed)
            longest /= 2
    else:
        resume(killed, console=QUIET)
    same_outcome(whole.folder, killed)


@pytest.mark.parametrize("name", RUNS)
def test_killed_at_random_moments(images: Path, tmp_path: Path, name: str) -> None:
    kill_and_resume(images, tmp_path, name, 3)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_many_random_moments(images: Path, tmp_path: Path, name: str, attempt: int) -> None:
    kill_and_resume(images, tmp_path, name, 10)


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_write(images: Path, tmp_path: Path, stride: int) -> None:
    """Files are created, renamed and removed in an order such that a run can be resumed after each of them."""
    options = {"epochs": 2, "ema": 0.9}
    whole = start(images, tmp_path, name="whole", **options)
    begun = tmp_path / "begun"
    kill_at_write(lambda: start(images, tmp_path, name="begun", **options), begun / "checkpoints", 8)
    number, killed = 1, tmp_path / "killed"
    while True:
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(begun, killed)
        if not kill_at_write(lambda: resume(killed, console=QUIET), killed, number):
            break
        resume(killed, console=QUIET)
        same_outcome(whole.folder, killed)
        assert not [path.name for path in (killed / "checkpoints").iterdir() if path.suffix == ".tmp"]
        number += stride
    assert number > 30


def test_killed_before_the_first_checkpoint(images: Path, tmp_path: Path) -> None:
    """Initial weights follow from the settings and the images."""
    whole = start(images, tmp_path, name="whole", epochs=1)
    resumed = 0
    for number in range(1, 21):
        killed = tmp_path / f"killed{number}"

        def work(name: str = killed.name) -> None:
            start(images, tmp_path, name=name, epochs=1)

        assert kill_at_write(work, killed, number)
        if not (killed / "args.yaml").exists():
            with pytest.raises(TrainingError, match=r"has no args\.yaml"):
                resume(killed, console=QUIET)
            continue
        if not checkpoints(killed / "checkpoints"):
            resumed += 1
            resume(killed, console=QUIET)
            same_outcome(whole.folder, killed)
    assert resumed


def test_killed_before_the_report(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint is of the last epoch, but the report is missing."""

    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    for options in ({"epochs": 1}, {"epochs": 9, "patience": 1, "lr": 1e-9}):
        name = f"run{options['epochs']}"
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "write_run_report", fail)
            with pytest.raises(KeyboardInterrupt):
                start(images, tmp_path, name=name, **options)
        before = outcome(tmp_path / name)
        monkeypatch.setattr(trainer, "write_run_report", lambda run, *args: run.report.write_text("done"))
        result = resume(tmp_path / name, console=QUIET)
        assert result.evaluation is not None
        assert outcome(tmp_path / name)["results"] == before["results"]
        with pytest.raises(TrainingError, match="only an unfinished run"):
            resume(tmp_path / name, console=QUIET)


@pytest.mark.parametrize("step", [1, 4, 5, 8])
@pytest.mark.parametrize("name", ["sgd, ema, all augmentation", "frozen with cached features, then unfrozen"])
def test_ctrl_c_writes_a_checkpoint_of_the_step(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, name: str
) -> None:
    whole = start(images, tmp_path, name="whole", **RUNS[name])
    seen = 0

    def advance(self: Trainer, count: int, loss: float) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "show_progress", advance)
        stopped = start(images, tmp_path, name="stopped", **RUNS[name])
    assert stopped.stopped == signal.SIGINT
    progress = read_checkpoint(checkpoints(stopped.folder / "checkpoints")[-1]).progress
    assert (progress.step, progress.epoch, progress.batch) == (step, step // 5, step % 5)
    assert (stopped.folder / "best" / "model.safetensors").exists()
    resume(stopped.folder, console=QUIET)
    after, before = outcome(stopped.folder), outcome(whole.folder)
    before.pop("trace"), after.pop("trace")  # since the previous checkpoint, which differs
    assert after["results"] == before["results"]
    assert all((after[key] == before[key]).all() for key in before if key not in ("results", "progress"))


def test_ctrl_c_while_features_are_cached_makes_no_step_without_them(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second phase with a cache: a step through the whole network would differ."""
    options = RUNS["unfrozen by stages"] | {"freeze_epochs": 2, "epochs": 8}
    whole = start(images, tmp_path, name="whole", **options)
    fills = 0

    def begin(self: Console, text: str, total: int, *, initial: int = 0) -> None:
        nonlocal fills
        fills += text == "caching features"
        if fills == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Console, "start", begin)
        stopped = start(images, tmp_path, name="stopped", **options)
    assert fills == 2
    assert stopped.stopped == signal.SIGINT
    assert read_checkpoint(checkpoints(stopped.folder / "checkpoints")[-1]).progress.step == 10
    resume(stopped.folder, console=QUIET)
    same_outcome(whole.folder, stopped.folder)


@pytest.mark.parametrize("damage", ["half", "empty", "noise"])
def test_a_damaged_checkpoint_falls_back_to_the_previous_one(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    whole = start(images, tmp_path, name="whole")
    folder = stop_at(images, tmp_path, 8, monkeypatch)
    _, newest = checkpoints(folder / "checkpoints")
    content = newest.read_bytes()
    newest.write_bytes({"half": content[: len(content) // 2], "empty": b"", "noise": os.urandom(5000)}[damage])
    console = Recorder()
    resume(folder, console=console)
    assert [line for line in console.lines if "undamaged checkpoint" in line and "\n" not in line]
    same_outcome(whole.folder, folder)
    for path in checkpoints(folder / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="undamaged checkpoint"):
        resume(folder, console=QUIET)


def test_checkpoints_of_later_steps_are_removed(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a damaged one would outlive the good ones, which are older."""
    folder = stop_at(images, tmp_path, 4, monkeypatch, keep=1)
    (folder / "checkpoints" / "step-000000009.safetensors").write_bytes(b"damaged")
    count = 0

    def advance(self: Trainer, images: int, loss: float) -> None:
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "show_progress", advance)
        resume(folder, console=QUIET)
    assert [path.name for path in checkpoints(folder / "checkpoints")] == ["step-000000007.safetensors"]


@pytest.mark.parametrize("required", [False, True])
def test_a_full_disk(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    """Within an epoch it is a warning, at its end an error after which the run can be resumed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    plain, console, saved = Checkpointer.save, Recorder(), 0

    def save(self: Checkpointer, *args: Any, **options: Any) -> Any:
        nonlocal saved
        saved += 1
        full = options.get("required", True) is required and saved > 1
        self.console = console
        if full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        try:
            return plain(self, *args, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    whole = start(images, tmp_path, name="whole")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "save", save)
        if not required:
            full = start(images, tmp_path, name="full")
            warnings = [line for line in console.lines if line.startswith("warning: cannot write a checkpoint")]
            assert len(warnings) == 4  # within an epoch, after steps 3, 6, 9 and 12
            assert all("training continues" in line and "\n" not in line for line in warnings)
        else:
            with pytest.raises(
                TrainingError, match=r"cannot write a checkpoint; .* free disk space; then continue"
            ) as caught:
                start(images, tmp_path, name="full")
            assert "\n" not in str(caught.value)
    folder = tmp_path / "full"
    assert not list((folder / "checkpoints").glob(".*"))
    if required:
        resume(folder, console=QUIET)
    else:
        assert full.folder == folder
    after, before = outcome(folder), outcome(whole.folder)
    trace = after.pop("trace"), before.pop("trace")  # since the last checkpoint that could be written
    assert trace[0][-len(trace[1]) :].equal(trace[1])
    assert after["results"] == before["results"]
    assert all((after[key] == before[key]).all() for key in before if key not in ("results", "progress"))


def test_the_args_of_a_run_reproduce_it(images: Path, tmp_path: Path) -> None:
    """Used as a recipe, with another name and folder."""
    for name, options in RUNS.items():
        if name in ("streamed by workers", "unfrozen by stages"):
            continue
        whole = start(images, tmp_path / name, **options).folder
        again = api.train(images, recipe=whole / "args.yaml", output=str(tmp_path / name), name="again", quiet=True)
        same_outcome(whole, again.folder)


def test_a_finished_run_without_checkpoints_is_not_trained_anew(images: Path, tmp_path: Path) -> None:
    folder = start(images, tmp_path, name="a run").folder
    before = (folder / "results.csv").read_bytes()
    for path in checkpoints(folder / "checkpoints"):
        path.unlink()
    with pytest.raises(TrainingError, match="resumed from a checkpoint") as caught:
        resume(folder, console=QUIET)
    assert f"--pretrained '{folder / 'last'}'" in str(caught.value)
    assert (folder / "results.csv").read_bytes() == before
    (folder / "results.csv").unlink()
    with pytest.raises(TrainingError, match="resumed from a checkpoint"):
        resume(folder, console=QUIET)


@pytest.mark.parametrize("damage", ["config", "tensors", "missing"])
def test_a_damaged_best_model_is_found_before_training_goes_on(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder = stop_at(images, tmp_path, 7, monkeypatch)
    if damage == "config":
        (folder / "best" / "config.json").write_text("{")
    elif damage == "tensors":
        with (folder / "best" / "model.safetensors").open("r+b") as file:
            file.truncate(200)
    else:
        shutil.rmtree(folder / "best")
    before = (folder / "results.csv").read_bytes()
    with pytest.raises(TrainingError, match="with its best model, of epoch 1") as caught:
        resume(folder, console=QUIET)
    assert "\n" not in str(caught.value)
    assert (folder / "results.csv").read_bytes() == before


def test_leftovers_of_killed_saves_are_deleted_when_a_run_is_resumed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stop_at(images, tmp_path, 7, monkeypatch)
    for name in (".best.abc123.tmp", ".last.abc123.tmp"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes(b"half")
    (folder / ".best.abc123.kept").mkdir()
    resume(folder, console=QUIET)
    assert [path.name for path in folder.glob(".*")] == [".best.abc123.kept"]


def test_missing_results_are_a_warning(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stop_at(images, tmp_path, 7, monkeypatch)
    (folder / "results.csv").unlink()
    console = Recorder()
    result = resume(folder, console=console)
    assert any("results.csv is missing; it begins again after epoch 1" in line for line in console.lines)
    assert [row["epoch"] for row in result.results] == [2, 3]


def test_a_closed_terminal_writes_a_checkpoint_and_nohup_goes_on(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def advance(self: Trainer, count: int, loss: float) -> None:
        if self.train_step.step == 7:
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(Trainer, "show_progress", advance)
    stopped = start(images, tmp_path, name="stopped")
    assert stopped.stopped == signal.SIGHUP
    assert read_checkpoint(checkpoints(stopped.folder / "checkpoints")[-1]).progress.step == 7
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert start(images, tmp_path, name="whole").stopped is None
    finally:
        signal.signal(signal.SIGHUP, before)
