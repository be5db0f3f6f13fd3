"""What goes wrong around a command while it runs."""

from __future__ import annotations

from withstands_cases.case import SMALL, Group, nothing, photographs

FAULTS = Group("Faults")

TRAIN = f"resnets train images {SMALL}"


@FAULTS.case(
    "SIGKILL in mid-run, then --resume",
    f"{TRAIN} --epochs 40 & sleep 7; kill -9 $!; wait; resnets train --resume runs/r",
)
def killed() -> None:
    photographs(count=60)


@FAULTS.case(
    "a damaged results.csv, then --resume",
    f"{TRAIN} --epochs 400 & sleep 7; kill $!; wait; head -c 99 /dev/urandom > runs/r/results.csv;"
    " resnets train --resume runs/r",
    "results.csv",
)
def damaged_results() -> None:
    photographs(count=60)


@FAULTS.case(
    "--resume of a finished run whose checkpoints were deleted",
    f"{TRAIN} --epochs 2; rm runs/r/checkpoints/step*; resnets train --resume runs/r",
    "resumed from a checkpoint",
)
def no_checkpoints() -> None:
    photographs()


@FAULTS.case(
    "a damaged best model, then --resume",
    f"{TRAIN} --epochs 400 & sleep 7; kill $!; wait; echo '{{' > runs/r/best/config.json;"
    " resnets train --resume runs/r",
    "with its best model",
)
def damaged_best() -> None:
    photographs()


@FAULTS.case("a full disk under the log", f"{TRAIN} --epochs 2 2>/dev/full")
def full_log() -> None:
    photographs()


@FAULTS.case("a full disk under stdout", "resnets models >/dev/full", "standard output")
def full_stdout() -> None:
    nothing()


@FAULTS.case(
    "the run folder is deleted in mid-run",
    f"{TRAIN} --epochs 4000 & sleep 7; rm -rf runs; wait $!",
    "runs/r",
)
def deleted_run() -> None:
    photographs(count=60)


@FAULTS.case(
    "an image vanishes in mid-run",
    f"resnets train images {SMALL} --img-size 96 --epochs 400 & sleep 9; rm images/a/*; wait $!",
    "images/a|No such file|cannot be",
)
def vanished() -> None:
    photographs(count=60)


@FAULTS.case(
    "a data worker is killed in mid-run",
    "resnets train images --model resnet8_cifar --img-size 128 --epochs 8 --workers 2 --set scale=0.2,1 --amp off & "
    "sleep 8; kill -9 $(pgrep -P $! | tail -1); wait $!",
)
def killed_worker() -> None:
    photographs(count=60)


@FAULTS.case("20 open files at most", "ulimit -n 20; resnets predict images --model starter")
def few_files() -> None:
    photographs()


@FAULTS.case("stdout is closed", "resnets models >&-")
def closed_stdout() -> None:
    nothing()


@FAULTS.case("the reader of stdout goes away", "resnets models | head -1")
def broken_pipe() -> None:
    nothing()


@FAULTS.case("a disk without room for the model", f"ulimit -f 40; {TRAIN}", "runs/r|space|large|File")
def full_disk() -> None:
    photographs()
