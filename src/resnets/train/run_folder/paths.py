"""The folder of a run: what lies where in it, and how a new one gets its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnets.errors import TrainingError

__all__ = ["RunFolder", "create_run_folder", "open_run_folder", "lock_run_folder"]


class RunFolder:
    """`runs/NAME/`: the best and the last model folder, and everything about how they came to be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.args = path / "args.yaml"
        self.resolved = path / "resolved.yaml"
        self.results = path / "results.csv"
        self.best = path / "best"
        self.last = path / "last"
        self.checkpoints = path / "checkpoints"
        self.launch_ids = self.checkpoints / "launch"
        self.events = path / "events.txt"
        self.plots = path / "plots"
        self.tensorboard = path / "tensorboard"
        self.report = path / "report.html"
        self.quarantine = path / "quarantine.txt"
        self.manifest = path / "manifest.json"


def create_run_folder(output: Path, name: str | None, default: str) -> RunFolder:
    """A new folder `output/name`; without a name `output/default`, or with the first number that is free.

    Raises:
        TrainingError: the name is taken, or the folder cannot be made.
    """
    number = 1
    while True:
        path = output / (name or (default if number == 1 else f"{default}-{number}"))
        try:
            path.mkdir(parents=True)
            (path / "checkpoints").mkdir()
            (path / "plots").mkdir()
            return RunFolder(path)
        except FileExistsError:
            if name is not None or not path.is_dir():
                raise TrainingError(
                    f"a run's folder must be new; {path} is there; continue it with --resume {path} or choose --name"
                ) from None
            number += 1
        except OSError as error:
            raise TrainingError(
                f"cannot make the run's folder; {path}: {error.strerror}; choose another --output"
            ) from None


def open_run_folder(path: Path) -> RunFolder:
    """The run in `path`.

    Raises:
        TrainingError: there is none.
    """
    run = RunFolder(path)
    if not run.args.is_file():
        raise TrainingError(f"--resume needs a run folder; {path} has no args.yaml; pass a folder such as runs/NAME")
    return run


@contextmanager
def lock_run_folder(run: RunFolder) -> Iterator[None]:
    """Within it, no other process works in the run's folder; a lock goes with its process, however that ends.

    Raises:
        TrainingError: another one does.
    """
    run.checkpoints.mkdir(exist_ok=True)
    with (run.checkpoints / "lock").open("w") as lock:
        try:
            import fcntl

            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which, unlike flock's, workers do not inherit
        except (BlockingIOError, PermissionError):
            raise TrainingError(
                f"one process works in a run at a time; another one trains in {run.path}; wait for it or stop it"
            ) from None
        except (ImportError, OSError):  # Windows, and file systems without locks
            pass
        yield
