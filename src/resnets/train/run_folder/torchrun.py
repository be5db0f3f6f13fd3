"""Which start of `torchrun` a run came from, so that processes which are started again find it and go on with it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from resnets.atomic import write_atomic
from resnets.train.config.train_config import TrainConfig
from resnets.train.run_folder.paths import RunFolder

__all__ = ["launch_id", "write_launch_ids", "find_launched_run"]

_own: set[Path] = set()  # runs of this process, which is not another one started again


def launch_id(config: TrainConfig) -> str | None:
    """What names the `torchrun` over this process (job, machine, its number and when it began) and what it is to do.

    Returns:
        A line, the same in a process that is started again; `None` without `torchrun`.
    """
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    if job is None:
        return None
    task = blake2b(repr(asdict(config)).encode(errors="surrogateescape"), digest_size=8).hexdigest()
    return f"{job} {platform.node()} {os.getppid()} {_began(os.getppid())} {task}"


def write_launch_ids(run: RunFolder, launches: list[str | None]) -> None:
    """Note in a run's folder the `torchrun`s, one a machine, that it belongs to. Without any, nothing is noted."""
    if found := sorted({one for one in launches if one is not None}):
        write_atomic(run.launch_ids, "".join(f"{one}\n" for one in found))
        _own.add(run.path)


def find_launched_run(output: Path, launches: list[str | None]) -> RunFolder | None:
    """The run in the folder `output` of runs that a process before this one began; `None` if there is none."""
    wanted = {one for one in launches if one is not None}
    for folder in sorted(output.iterdir()) if wanted and output.is_dir() else ():
        run = RunFolder(folder)
        if folder in _own or not run.launch_ids.is_file():
            continue
        if wanted & set(run.launch_ids.read_text(encoding="utf-8").splitlines()):
            _own.add(folder)
            return run
    return None


def _began(process: int) -> str:
    """When a process began, in ticks since the machine did, as numbers of processes come again; 0 if nobody knows."""
    try:
        words = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return words[19]
    except (OSError, IndexError):  # not Linux
        return "0"
