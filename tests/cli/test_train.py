from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from resnets.train.config.train_config import read_args
from tests.cli.conftest import TINY
from tests.conftest import Command, assert_one_line_error
from tests.images import write_images


def test_results_go_to_stdout_and_progress_to_stderr(command: Command, images: Path, tmp_path: Path) -> None:
    code, out, err = command("train", images, "--epochs", 2, "--output", tmp_path, "--name", "r", *TINY)
    run = tmp_path / "r"
    assert code == 0
    first, *rest = out.splitlines()
    assert first.startswith("best: epoch ")
    assert re.search(r"validation top-1 \d+\.\d\d % \(\d+/18\), 95 % interval", first)
    assert [line.split(maxsplit=1) for line in rest] == [
        ["run", f"folder  {run}"],
        ["model", f"{run}/best"],
        ["report", f"{run}/report.html"],
        ["next", f"resnets predict IMAGE --model {run}"],
    ]
    lines = err.splitlines()
    assert lines[0] == "resnet20_cifar on colours: 3 classes, 72 train, 18 val; 12x12 pixels"
    assert lines[1].startswith("2 epochs, batch 8, peak learning rate 0.05, float32 on cpu; run folder")
    assert [line.split("  ")[0] for line in lines[2:]] == ["epoch 1/2", "epoch 2/2"]
    assert "images/s" in lines[2]
    assert "\x1b" not in err  # no bar outside a terminal


def test_json_is_the_only_output_on_stdout(command: Command, images: Path, tmp_path: Path) -> None:
    code, out, _ = command("train", images, "--epochs", 1, "--output", tmp_path, "--json", *TINY)
    result = json.loads(out)
    assert code == 0
    assert set(result) == {"folder", "best_epoch", "epochs", "seconds", "stopped", "val"}
    assert (result["best_epoch"], result["epochs"], result["stopped"]) == (1, 1, None)
    assert result["val"]["images"] == 18
    assert (Path(result["folder"]) / "best" / "config.json").is_file()


def test_options_reach_the_run(command: Command, images: Path, tmp_path: Path) -> None:
    options = ("--model", "plain20_cifar", "--epochs", 1, "--batch-size", 16, "--seed", 7, "--img-size", "16x12")
    more = ("--no-hflip", "--pad", 0, "--cutout", 3, "--sched", "constant", "--label-smoothing", 0, "--momentum", 0.8)
    code, _, err = command("train", images, "--output", tmp_path, "--name", "r", *options, *more, *TINY)
    assert code == 0, err
    args = read_args(tmp_path / "r" / "args.yaml")
    assert (args.model, args.batch_size, args.seed, args.size, args.augment["hflip"]) == (
        "plain20_cifar",
        16,
        7,
        (16, 12),
        False,
    )
    assert (
        args.augment["pad"],
        args.augment["cutout"],
        args.schedule.sched,
        args.loss.label_smoothing,
        args.optim.momentum,
    ) == (0, 3, "constant", 0.0, 0.8)
    assert args.model_args["widths"] == [8, 8, 8] or args.model_args["widths"] == (8, 8, 8)
    assert args.data == str(images.resolve())  # the run can be validated and resumed from anywhere


def test_training_can_start_from_another_model(command: Command, trained: Path, images: Path, tmp_path: Path) -> None:
    code, out, err = command(
        "train", images, "--pretrained", trained, "--epochs", 1, "--lr", "1e-6", "--output", tmp_path, "--name", "r"
    )
    assert code == 0, err
    assert "100.00 % (18/18)" in out  # nothing was forgotten
    assert f"starting from {trained}" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "invalid value for DATA: pass a folder of images, digits, or --resume RUN"),
        (["digits", "--epoch", "3"], 2, "--epochs"),
        (["digits", "--epochs", "many"], 2, "'many' is not a valid int"),
        (["digits", "--epochs", "0"], 1, "epochs must be a whole number of at least 1; got 0"),
        (["digits", "--model", "resnt50"], 1, "unknown model; got 'resnt50'; did you mean resnet50"),
        (["digits", "--model", "resnet21_cifar"], 1, "21"),
        (["digits", "--set", "shortcuts=B"], 1, "unknown training option; got 'shortcuts'; did you mean shortcut"),
        (["digits", "--set", "shortcut"], 1, "KEY=VALUE; got 'shortcut'"),
        (["digits", "--img-size", "big"], 1, "img_size must be a size"),
        (["digits", "--sched", "step"], 1, "sched=step and milestones"),
        (["digits", "--device", "tpu"], 1, "got 'tpu'"),
        (["digits", "--pretrained", "nowhere.pth"], 1, "nowhere.pth does not exist"),
        (["digits", "--model", "resnet18", "--pretrained", "starter"], 1, "depths"),
        (["digits", "--model", "resnet18", "--pretrained", "starter", "--dry-run"], 1, "depths"),
        (["digits", "--pretrained", "resnet50"], 1, "resnet50 is a network without any"),
        (["digits", "--model", "resnet50.tv_in1k"], 1, "pass --pretrained resnet50.tv_in1k"),
        (["digitss"], 1, "digitss does not exist; did you mean digits?"),
        (["--resume", "nowhere"], 1, "--resume needs a run folder; nowhere has no args.yaml"),
        (["digits", "--resume", "nowhere"], 1, "a resumed run keeps its data and options; got data"),
        (["--resume", "nowhere", "--epochs", "9"], 1, "a resumed run keeps its data and options; got epochs"),
    ],
)
def test_mistakes_are_errors_of_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", *words)
    assert (result.code, result.out) == (code, "")
    line, *hints = result.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert len(hints) == (2 if code == 2 else 0)
    assert not list(tmp_path.iterdir())  # nothing was begun


def _one_class(root: Path) -> None:
    shutil.rmtree(root / "train" / "red")
    shutil.rmtree(root / "train" / "green")


def _no_class(root: Path) -> None:
    for name in ("blue", "green", "red"):
        shutil.rmtree(root / "train" / name)


def _empty_class(root: Path) -> None:
    shutil.rmtree(root / "train" / "red")
    (root / "train" / "red").mkdir()
    write_images(root / "spare", {"val": 2})
    (root / "spare" / "val").rename(root / "val")
    shutil.rmtree(root / "spare")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_one_class, "has only 'blue'; add another class"),
        (_no_class, "is empty"),
        (_empty_class, "class 'red' has no image in this split; repair the data"),
    ],
)
def test_data_that_cannot_be_trained_on(command: Command, tmp_path: Path, change: object, message: str) -> None:
    root = write_images(tmp_path / "data", {"train": 2})
    change(root)  # type: ignore[operator]
    code, out, err = command("train", root, "--output", tmp_path / "runs")
    assert (code, out) == (1, "")
    assert message in err
    assert str(root.name) in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_an_empty_folder_and_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not images")
    for name, message in (("empty", "is empty"), ("notes.txt", "is a file")):
        code, out, err = command("train", tmp_path / name, "--output", tmp_path / "runs")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert message in err
        assert name in err


def test_a_class_without_validation_images_is_a_note(command: Command, tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 4, "val": 2})
    shutil.rmtree(root / "val" / "green")
    code, _, err = command("train", root, "--epochs", 1, "--output", tmp_path / "runs", "--json", *TINY)
    assert code == 0
    assert "note: data/val: class 'green' has no image in this split" in err


def test_a_batch_of_one(command: Command, tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 2, "val": 1})
    code, _, err = command("train", root, "--epochs", 1, "--batch-size", 1, "--output", tmp_path / "runs", *TINY)
    assert code == 0, err


def test_broken_images_are_an_error_or_skipped(command: Command, shared_data: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 6, "val": 2})
    broken = sorted(path for path in (shared_data / "pillow_bad").iterdir())
    for path in broken:
        shutil.copy(path, root / "train" / "red" / path.name)
    code, out, err = command("train", root, "--output", tmp_path / "runs")
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert "more; pass --skip-bad" in err
    assert str(root / "train" / "red" / broken[0].name) in err
    assert not (tmp_path / "runs").exists()

    code, out, err = command(
        "train", root, "--skip-bad", "--epochs", 1, "--output", tmp_path / "runs", "--name", "r", *TINY
    )
    assert code == 0, err
    listed = (tmp_path / "runs" / "r" / "quarantine.txt").read_text().splitlines()
    assert sorted(Path(line.split("\t")[0]).name for line in listed) == [path.name for path in broken]
    for path in broken:
        assert f"left out: {root / 'train' / 'red' / path.name}: " in err
    # The run remembers: its own data is measured without them.
    code, _, err = command("val", tmp_path / "runs" / "r", "--split", "train")
    assert code == 0, err


def test_images_of_unusual_formats_are_trained_on(command: Command, shared_data: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 2, "val": 1})
    for path in (shared_data / "pillow_odd").iterdir():
        shutil.copy(path, root / "train" / "blue" / path.name)
    code, _, err = command(
        "train", root, "--img-size", 16, "--model", "resnet20_cifar", "--epochs", 1, "--output", tmp_path, *TINY
    )
    assert code == 0, err
    assert "left out" not in err


def test_an_unusable_output_folder(command: Command, images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = command("train", images, "--output", tmp_path / "file" / "runs")
    assert (code, out) == (1, "")
    assert "cannot create the run folder" in err
    assert "choose another --output" in err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_to_write(command: Command, images: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    code, out, err = command("train", images, "--output", tmp_path / "locked" / "runs")
    assert (code, out) == (1, "")
    assert "Permission denied; choose another --output" in err


def test_a_finished_run_and_an_existing_name(command: Command, trained: Path, images: Path) -> None:
    code, out, err = command("train", "--resume", trained)
    assert (code, out) == (1, "")
    assert "has done its 3 epochs" in err
    code, out, err = command("train", images, "--output", trained.parent, "--name", trained.name)
    assert (code, out) == (1, "")
    assert f"--resume {trained}" in err


def test_a_damaged_run_cannot_be_resumed(command: Command, own_run: Path) -> None:
    for state in (own_run / "checkpoints").glob("step-*.safetensors"):
        state.write_bytes(state.read_bytes()[:1000])
    code, out, err = command("train", "--resume", own_run)
    assert (code, out) == (1, "")
    assert "resuming needs an undamaged checkpoint" in err
    (own_run / "args.yaml").write_text("epochs: many\n")
    code, out, err = command("train", "--resume", own_run)
    assert (code, out) == (1, "")
    assert "args.yaml" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--mixup", "0.2"], "--mixup has no flag of its own; use --set mixup=0.2"),
        (["--color-jitter=[0.4, 0, 0, 0]"], "use --set 'color_jitter=[0.4, 0, 0, 0]'"),
        (["--ema"], "use --set ema=VALUE"),
        (["--ema", "--epochs", "3"], "use --set ema=VALUE"),
        (["--mixupp", "0.2"], "no such option: --mixupp"),
    ],
)
def test_unknown_flags_that_are_settings_say_so(command: Command, words: list[str], remedy: str) -> None:
    assert_one_line_error(command("train", "digits", *words), remedy, code=2)
