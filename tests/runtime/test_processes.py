"""Several processes: the same weights and metrics as one, and no work lost when one of them ends."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets import api
from resnets.data.sampler import batch_bounds
from resnets.data.workers import available_cores
from resnets.errors import ConfigError, TrainingError
from resnets.evaluate.results import read_results
from resnets.runtime.processes import Processes, join_processes, require_own_gpu, should_report_error
from resnets.runtime.shard import Shard
from resnets.train.run_folder.checkpoint import checkpoints, read_checkpoint
from tests.images import write_images
from tests.train.together import RUNS, run_one, weights

EXACT = ("plain", "phases", "weighted", "frozen statistics")
SIZES = (2, 3)


def environment() -> dict[str, str]:
    quiet = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "default"}
    return os.environ | quiet | {"PYTHONPATH": str(Path(__file__).parents[2])}


def together(name: str, size: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a function of `together.py` in so many processes."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.train.together", name, str(size), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 training and 37 validation images, which neither batches nor processes divide."""
    root = tmp_path_factory.mktemp("together")
    images = write_images(root / "images", {"train": 12, "val": 12})
    for split in ("train", "val"):
        shutil.copy(images / split / "red" / "000.png", images / split / "red" / "more.png")
    return root


@pytest.fixture(scope="module")
def one(place: Path) -> dict[str, Any]:
    """What one process makes of the runs."""
    (place / "one").mkdir()
    return {name: run_one(name, place / "one") for name in RUNS}


@pytest.fixture(scope="module", params=SIZES)
def several(request: pytest.FixtureRequest, place: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of several processes, and what each of them left."""
    folder = place / f"by {request.param}"
    done = together("everything", request.param, folder)
    assert done.returncode == 0, done.stderr
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(request.param)]


def test_all_processes_have_the_same_weights(several: tuple[Path, list[dict[str, Any]]]) -> None:
    _, (first, *others) = several
    for name in RUNS:
        for other in others:
            for key, tensor in first[name].items():
                assert torch.equal(tensor, other[name][key]), (name, key)
            for key, tensor in first[f"{name}, average"].items():
                if "running" not in key:  # the first process's statistics are taken
                    assert torch.equal(tensor, other[f"{name}, average"][key]), (name, key)
            assert (first[f"{name}, measured"] == other[f"{name}, measured"]).all(), name


def test_no_thread_of_the_process_group_is_left(several: tuple[Path, list[dict[str, Any]]]) -> None:
    """One that drops a tensor while Python ends would abort the process, after a run that succeeded."""
    folder, left = several
    for rank in range(len(left)):
        if (file := folder / f"{rank}.threads").exists():
            names = file.read_text(encoding="utf-8").split()
            assert names
            assert not [name for name in names if "gloo" in name]


@pytest.mark.parametrize("name", EXACT)
def test_several_processes_train_as_one(
    name: str, several: tuple[Path, list[dict[str, Any]]], one: dict[str, Any]
) -> None:
    folder, _ = several
    alone = weights(one[name].folder / "last")
    for key, tensor in weights(folder / name / "last").items():
        torch.testing.assert_close(tensor, alone[key], rtol=1e-3, atol=2e-5, msg=key)
    for row, expected in zip(read_results(folder / name / "results.csv"), one[name].results, strict=True):
        if name != "weighted":  # there the metric is an image-weighted mean of each process's weighted mean
            assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
        assert row["train_top1"] == expected["train_top1"]


def test_an_evaluation_is_the_same_to_the_bit(
    several: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, left = several
    for size in (8, 16, 37):  # of 37: the last makes one batch, and a process has none
        expected = api.evaluate(folder / "plain", batch_size=size, device="cpu", workers=0, quiet=True)
        for process in left:
            labels, logits, indices = process[f"logits by {size}"]
            assert (indices == expected.indices).all()
            assert (labels == expected.labels).all()
            assert (logits == expected.logits).all()


@pytest.mark.parametrize("name", ["plain", "statistics", "averaged epochs"])
def test_the_saved_model_is_the_one_that_was_validated(name: str, several: tuple[Path, list[dict[str, Any]]]) -> None:
    """By every process: with averages, too, all have the first one's statistics."""
    folder, _ = several
    kept = api.evaluate(folder / name / "last", batch_size=8, device="cpu", workers=0, quiet=True)
    row = read_results(folder / name / "results.csv")[-1]
    assert row["val_loss"] == pytest.approx(kept.loss, rel=1e-6)


def test_an_error_of_the_main_process_is_raised_in_all(several: tuple[Path, list[dict[str, Any]]]) -> None:
    _, left = several
    for process in left:
        image, unknown, system = process["errors"]
        assert image[0] == "ImageError"
        assert image[1].startswith("cannot decode image; cat.png: cut short")
        assert image[2] == "cat.png"
        assert unknown[:2] == ("UnknownNameError", "unknown model; got 'resnet19'; did you mean resnet18?")
        assert system[:2] == ("OSError", "[Errno 28] No space left on device: 'results.csv'")
        kind, message, _ = process["no room"]
        assert kind == "TrainingError"
        assert message == "No space left on device: results.csv; no epoch was finished"


def test_nonblocking_flags_arrive_one_call_later(several: tuple[Path, list[dict[str, Any]]]) -> None:
    for process in several[1]:
        assert process["nonblocking"] == [[False, False]] * 3 + [[True, False], [False, False]]


def test_a_signal_to_one_process_stops_all(several: tuple[Path, list[dict[str, Any]]], one: dict[str, Any]) -> None:
    folder, left = several
    for process in left:
        assert process["stopped"] == (signal.SIGTERM, 1, left[0]["stopped"][2])
    whole = weights(folder / "plain" / "last")
    for key, tensor in weights(folder / "stopped" / "last").items():
        if len(left) == 2:
            assert torch.equal(tensor, whole[key]), key
        else:  # after a start, gradients lie in another order for a step, and a sum of three depends on it
            torch.testing.assert_close(tensor, whole[key], rtol=1e-3, atol=2e-5)


def test_another_number_of_processes_resumes(several: tuple[Path, list[dict[str, Any]]], place: Path) -> None:
    folder, left = several
    other = 5 - len(left)
    done = together("again", other, folder)
    assert done.returncode == 0, done.stderr
    for rank in range(other):
        assert torch.load(folder / f"{rank}.pt", weights_only=False) == {"epochs": [1, 2]}
    whole = weights(folder / "plain" / "last")
    for key, tensor in weights(folder / "half" / "last").items():
        torch.testing.assert_close(tensor, whole[key], rtol=1e-3, atol=2e-5)


def test_a_process_that_fails_alone_ends_all_with_one_error(place: Path) -> None:
    started = time.monotonic()
    done = together("alone", 2, place / "alone")
    assert done.returncode != 0
    assert time.monotonic() - started < 90  # and not the minutes that a lost message would take
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: cannot decode image; cat.png: cut short")


TINY = (
    "--amp", "off", "--batch-size", "8", "--workers", "0", "--warmup-epochs", "0.5", "--device", "cpu",
    "--set", "depths=1,1,1", "--set", "widths=8,8,8", "--set", "stem_width=8",
)  # fmt: skip


def torchrun(place: Path, *words: str, restarts: int = 0) -> subprocess.Popen[str]:
    """`torchrun` with two processes of the command."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "--max-restarts", str(restarts), "--monitor-interval", "0.1", "-m", "resnets", *words,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def children(process: int) -> list[int]:
    """The processes that `process` started."""
    words = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    return [int(word) for word in words]


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]
    assert condition()


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@pytest.mark.slow
@linux
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_whose_process_is_killed_equals_one_that_was_not(place: Path, victim: int) -> None:
    words = ("train", "images", "--epochs", "12", "--set", "every_steps=2", "--set", "keep=200", *TINY)
    whole = torchrun(place, *words, "--output", f"kept {victim}", "--name", "run")
    _, err = whole.communicate(timeout=240)
    assert whole.returncode == 0, err
    killed = torchrun(place, *words, "--output", f"killed {victim}", "--name", "run", restarts=3)
    run = place / f"killed {victim}" / "run"
    wait_for(lambda: len(checkpoints(run / "checkpoints")) > 8, killed)
    os.kill(children(killed.pid)[victim], signal.SIGKILL)
    out, err = killed.communicate(timeout=240)
    assert killed.returncode == 0, err
    assert "resuming after" in err
    assert "Traceback" not in err
    assert [entry.name for entry in run.parent.iterdir()] == ["run"]
    assert out.count("run folder") == 1
    assert [row["epoch"] for row in read_results(run / "results.csv")] == list(range(1, 13))
    expected = read_checkpoint(checkpoints(place / f"kept {victim}" / "run" / "checkpoints")[-1])
    last = read_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert last.progress.step == expected.progress.step == 12 * 5
    for key, tensor in expected.tensors.items():
        if key != "trace":
            assert torch.equal(tensor, last.tensors[key]), key
    for row, other in zip(
        read_results(run / "results.csv"),
        read_results(place / f"kept {victim}" / "run" / "results.csv"),
        strict=True,
    ):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-12)  # every image, once
        assert row["train_top1"] == other["train_top1"]
        assert row["val_loss"] == other["val_loss"]


@pytest.mark.slow
@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_torchrun_leaves_a_checkpoint_and_no_process(place: Path, number: signal.Signals) -> None:
    output = f"stopped by {number.name}"
    process = torchrun(place, "train", "images", "--epochs", "400", *TINY, "--output", output, "--name", "run")
    run = place / output / "run"
    wait_for(lambda: (run / "results.csv").exists(), process)
    workers = children(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "resnets/" not in err.replace(str(place), ""), err  # no line of ours in a traceback
    assert f"--resume {shlex.quote(f'{output}/run')}" in out
    assert out.count("--resume") == 1
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    before = read_checkpoint(checkpoints(run / "checkpoints")[-1]).progress
    assert before.step >= 5  # the signal may come right after the first epoch
    args = (run / "args.yaml").read_text(encoding="utf-8")
    assert "epochs: 400" in args


@pytest.mark.slow
def test_an_error_of_all_processes_is_printed_once(place: Path) -> None:
    process = torchrun(place, "train", "nowhere", *TINY)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert [line for line in err.splitlines() if line.startswith("error:")] == [
        line for line in err.splitlines() if line.startswith("error: data must be a folder")
    ][:1]


@pytest.mark.slow
def test_val_under_torchrun_prints_what_it_prints_alone(
    place: Path, one: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    from resnets.cli import main

    words = ("val", str(one["plain"].folder), "--batch-size", "8", "--device", "cpu", "--workers", "0", "--json")
    capfd.readouterr()
    assert main(words) == 0
    alone = capfd.readouterr().out
    process = torchrun(place, *words)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == alone


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_shards_of_a_batch_hold_its_images_once(size: int) -> None:
    for count in range(2, 40):
        shards = [Shard(rank=rank, world_size=size) for rank in range(size)]
        parts = [shard.local_range(100, 100 + count) for shard in shards]
        own = [part for shard, part in zip(shards, parts, strict=True) if shard.local_count(count)]
        assert [place for first, last in own for place in range(first, last)] == list(range(100, 100 + count))
        assert [shard.local_count(count) for shard in shards[: len(own)]] == [last - first for first, last in own]
        assert all(last - first >= 2 for first, last in parts)
        lengths = [last - first for first, last in own]
        assert max(lengths) - min(lengths) <= 1


def test_batches_are_the_same_for_any_number_of_processes() -> None:
    for count in range(8, 60):
        assert batch_bounds(count, 8, shards=4) == batch_bounds(count, 8)
    with pytest.raises(ConfigError, match=r"two images of each batch; got batches of 8 for 5 processes"):
        batch_bounds(100, 8, shards=5)


def test_one_process_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    model = torch.nn.Linear(2, 2)
    with join_processes() as processes:
        assert processes.is_main_process
        assert processes.world_size == 1
        assert processes.shard.local_range(3, 10) == (3, 10)
        assert processes.shard.local_count(1) == 1
        assert processes.wrap_model(model, sync_bn=True) is model
        assert processes.any(True, False) == processes.any_nonblocking(True, False) == [True, False]
        assert processes.all_gather(3) == [3]
        assert processes.local_device("cuda") == "cuda"
        with pytest.raises(TrainingError, match="here"):
            processes.run_on_main(lambda: (_ for _ in ()).throw(TrainingError("here")))
    assert should_report_error()


def test_sync_bn_requires_cuda() -> None:
    with pytest.raises(TrainingError, match=r"sync_bn requires CUDA; got device cpu; .*bn_stats=frozen"):
        Processes(rank=0, world_size=2).wrap_model(torch.nn.BatchNorm2d(2), sync_bn=True)


def test_processes_that_share_a_gpu_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(rank=0, world_size=4)
    monkeypatch.setattr(processes, "all_gather", lambda gpu: ["a", "b", "c", gpu])
    require_own_gpu(processes, "d")
    with pytest.raises(TrainingError, match=r"a GPU of its own; 4 processes got 3; .*--device cpu"):
        require_own_gpu(processes, "b")


def test_cores_are_shared_on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    for size, cores in (("1", 12), ("4", 3), ("5", 2), ("16", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", size)
        assert available_cores() == cores
