"""Paths in a run folder; creating, opening and locking one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnets.errors import TrainingError

__all__ = ["RunFolder", "create_run_folder", "lock_run_folder", "open_run_folder"]


class RunFolder:
    """Paths in `runs/NAME/`."""

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

    @property
    def shell_path(self) -> str:
        """The path as one word of a shell command."""
        return shlex.quote(str(self.path))

    def describe_kept(self, epoch: int) -> str:
        """What remains of a run that ended with an error after so many epochs, for the message."""
        if not self.path.exists():
            return f"{self.path} is gone, with all that was in it"
        return f"models and checkpoint of epoch {epoch} are in {self.path}" if epoch else "no epoch was finished"


def create_run_folder(output: Path, name: str | None, default: str) -> RunFolder:
    """Create the folder `output/name`; without a name, `output/default` with the first number that is free.

    Raises:
        TrainingError: the name is taken, or the folder cannot be created.
    """
    number = 1
    while True:
        path = output / (name or (default if number == 1 else f"{default}-{number}"))
        try:
            path.mkdir(parents=True)
            run = RunFolder(path)
            run.checkpoints.mkdir()
            run.plots.mkdir()
            return run
        except FileExistsError:
            if name is not None or not path.is_dir():
                raise TrainingError(
                    f"a run folder must be new; {path} exists; choose another --name, or continue it, if it is"
                    f" unfinished, with --resume {RunFolder(path).shell_path}"
                ) from None
            number += 1
        except OSError as error:
            raise TrainingError(
                f"cannot create the run folder; {path}: {error.strerror}; choose another --output"
            ) from None


def open_run_folder(path: Path) -> RunFolder:
    """The paths of an existing run folder.

    Raises:
        TrainingError: `path` is no run folder.
    """
    run = RunFolder(path)
    if not run.args.is_file():
        raise TrainingError(f"--resume needs a run folder; {path} has no args.yaml; pass a folder such as runs/NAME")
    return run


@contextmanager
def lock_run_folder(run: RunFolder) -> Iterator[None]:
    """Hold the lock of a run folder within a `with`. The system releases it if the process is killed.

    Raises:
        TrainingError: another process has locked it.
    """
    run.checkpoints.mkdir(exist_ok=True)
    with (run.checkpoints / "lock").open("w") as lock:
        try:
            import fcntl

            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, worker processes do not inherit it
        except (BlockingIOError, PermissionError):
            raise TrainingError(
                f"only one process may train in a run folder; another one uses {run.path}; wait for it or stop it"
            ) from None
        except (ImportError, OSError):  # Windows, and file systems without locks
            pass
        yield
