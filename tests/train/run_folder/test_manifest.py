"""A run is resumed with its own images, and by one process at a time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resnets import api
from resnets.errors import ConfigError, TrainingError
from resnets.runtime.processes import Processes
from resnets.train.config.resolve import resolve_config
from resnets.train.config.train_config import read_args
from resnets.train.loop import trainer
from resnets.train.run import resume
from resnets.train.run_folder.manifest import check_data, open_data, read_left_out
from resnets.train.run_folder.paths import RunFolder, lock_run_folder
from tests.conftest import Command
from tests.images import write_images
from tests.train.runs import QUIET, TINY, start


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data", {"train": 8, "val": 2})


@pytest.fixture
def stopped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that lacks only its report."""
    return stop(data, tmp_path, monkeypatch)


def stop(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "write_run_report", fail)
        with pytest.raises(KeyboardInterrupt):
            start(data, tmp_path, name="run", epochs=1, batch_size=8, **options)
    return tmp_path / "run"


def add(data: Path) -> None:
    shutil.copy(data / "train" / "red" / "000.png", data / "train" / "red" / "0000.png")


def remove(data: Path) -> None:
    (data / "train" / "blue" / "003.png").unlink()


def rename_class(data: Path) -> None:
    for split in ("train", "val"):
        (data / split / "blue").rename(data / split / "zinc")


def relabel(data: Path) -> None:
    one, other = data / "train" / "red", data / "train" / "blue"
    (one / "001.png").rename(other / "0010.png")
    (other / "001.png").rename(one / "0010.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [(add, "and had"), (remove, "and had"), (rename_class, "has the classes"), (relabel, "but other names")],
)
def test_a_run_is_not_resumed_with_other_images(
    change: Any, words: str, data: Path, stopped: Path, command: Command
) -> None:
    change(data)
    with pytest.raises(TrainingError, match="must be resumed with its own images") as caught:
        resume(stopped, console=QUIET)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="must be resumed with its own images"):
        api.verify(stopped, quiet=True)
    if change is not rename_class:
        code, _, err = command("val", stopped)
        assert code == 0
        assert "note: data has" in err
        assert "may have been trained on" in err


def test_the_folder_of_images_may_be_moved(data: Path, stopped: Path, tmp_path: Path, command: Command) -> None:
    moved = data.rename(tmp_path / "elsewhere")
    args = (stopped / "args.yaml").read_text().replace(str(data), str(moved))
    (stopped / "args.yaml").write_text(args)
    code, _, err = command("val", stopped)
    assert code == 0
    assert "note" not in err
    assert resume(stopped, console=QUIET).evaluation is not None


def test_left_out_images_stay_left_out(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = data / "train" / "red" / "003.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:60])
    folder = stop(data, tmp_path, monkeypatch, skip_bad=True)
    listed = (folder / "quarantine.txt").read_text()
    bad.write_bytes(whole)
    (data / "train" / "blue" / "002.png").write_bytes(b"worse")  # an error when it is needed, not silently left out
    run = RunFolder(folder)
    dataset = open_data(read_args(run.args))
    problems = read_left_out(run, dataset)
    assert problems is not None
    assert [Path(problem.where).name for problem in problems] == ["003.png"]
    assert len(dataset.without_undecodable(problems).splits["train"]) == len(dataset.splits["train"]) - 1
    with pytest.raises(Exception, match=r"002\.png"):
        resume(folder, console=QUIET)
    assert (folder / "quarantine.txt").read_text() == listed


def test_a_run_without_a_manifest_checks_its_images_again(stopped: Path) -> None:
    """It was killed before it wrote one, and so before its first checkpoint."""
    (stopped / "manifest.json").unlink()
    with pytest.raises(TrainingError, match=r"needs its manifest of images; .*No such file"):
        resume(stopped, console=QUIET)
    for path in (stopped / "checkpoints").glob("step-*"):
        path.unlink()
    (stopped / "results.csv").unlink(missing_ok=True)
    for name in ("best", "last"):
        shutil.rmtree(stopped / name, ignore_errors=True)
    assert resume(stopped, console=QUIET).evaluation is not None


@pytest.mark.parametrize(
    "damage",
    [
        "{", "[]", "null", "{}", '"left_out": "x"', '"left_out": {"train": [99999]}', '"left_out": {"train": [1.5]}',
        '"left_out": {"train": [-1]}', '"left_out": {"other": [0]}',
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_an_error(stopped: Path, damage: str) -> None:
    path = stopped / "manifest.json"
    edited = json.loads(path.read_text()) | json.loads(f"{{{damage}}}") if damage.startswith('"') else None
    path.write_text(damage if edited is None else json.dumps(edited))
    with pytest.raises(TrainingError, match=r"manifest\.json"):
        resume(stopped, console=QUIET)


def test_processes_share_the_check_of_the_images(data: Path) -> None:
    """Each decodes its share and returns all bad images; the test split is not checked."""
    for name in ("red/001.png", "red/002.png", "blue/005.png"):
        (data / "train" / name).write_bytes(b"no image")
    write_images(data, {"test": 1})
    (data / "test" / "red" / "000.png").write_bytes(b"no image")
    config = read_config(data)
    dataset = open_data(config)
    parts: list[Any] = []

    class One(Processes):
        def all_gather(self, item: Any) -> Any:
            parts.append(item)
            return [item]

    class Last(Processes):
        def all_gather(self, item: Any) -> Any:
            return [*parts, item]

    settings = resolve_config(config, dataset)
    first = check_data(dataset, settings, QUIET, One(0, 2))
    found = check_data(dataset, settings, QUIET, Last(1, 2))
    assert 0 < len(first) < 3
    assert [Path(problem.where).name for problem in found] == ["005.png", "001.png", "002.png"]


def read_config(data: Path) -> Any:
    from resnets.train.config.train_config import TrainConfig

    return TrainConfig.from_options(data=str(data), skip_bad=True, model_args=TINY, val_fraction=0.0)


HOLD = """
import sys, time
from pathlib import Path
from resnets.train.run_folder.paths import RunFolder, lock_run_folder
with lock_run_folder(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_one_process_at_a_time_trains_in_a_run_folder(stopped: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(stopped)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="only one process may train in a run folder"):
            resume(stopped, console=QUIET)
    finally:
        other.kill()
        other.communicate()
    assert resume(stopped, console=QUIET).evaluation is not None
    with lock_run_folder(RunFolder(stopped)):
        pass


def test_an_interrupted_run_with_a_report_is_unfinished(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted with a report, resumed, and killed before the next report."""

    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "validate", fail)
        with pytest.raises(KeyboardInterrupt):
            start(data, tmp_path, name="run", epochs=1, batch_size=4)
    (folder / "report.html").write_text("of the stop")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "write_run_report", fail)
        with pytest.raises(KeyboardInterrupt):
            resume(folder, console=QUIET)
    assert not (folder / "report.html").exists()
    resume(folder, console=QUIET)
    assert "of the stop" not in (folder / "report.html").read_text()


def test_dry_run_and_verify_exclude_other_options(stopped: Path, data: Path, command: Command) -> None:
    for words, message in (
        (("--resume", stopped, "--dry-run"), "before it starts"),
        (("--dry-run",), "pass a folder"),
        (("--resume", stopped, "--verify", 3, "--lr", 0.1), "pass --resume RUN alone"),
        ((data, "--resume", stopped, "--verify", 3), "pass --resume RUN alone"),
    ):
        code, out, err = command("train", *words)
        assert (code, out) == (2, "")
        assert message in err
    code, out, err = command("train", "--resume", stopped, "--verify", 0)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: .*got 0; .*100\n", err)
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        api.verify(stopped, steps=0)
