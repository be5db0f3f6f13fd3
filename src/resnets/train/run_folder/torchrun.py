"""Finds the run of a process that `torchrun` restarts, so that the process resumes it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from resnets.atomic import write_atomic
from resnets.train.config.train_config import TrainConfig
from resnets.train.run_folder.paths import RunFolder

__all__ = ["find_launched_run", "launch_id", "write_launch_ids"]

current_runs: set[Path] = set()  # runs that this process has created or resumed


def launch_id(config: TrainConfig) -> str | None:
    """Identify the `torchrun` process above this one (job, machine, process and its start time) and the request.

    Returns:
        One line, the same in a process that `torchrun` restarts; `None` without `torchrun`.
    """
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    if job is None:
        return None
    request = blake2b(repr(asdict(config)).encode(errors="surrogateescape"), digest_size=8).hexdigest()
    return f"{job} {platform.node()} {os.getppid()} {_start_time(os.getppid())} {request}"


def write_launch_ids(run: RunFolder, launch_ids: Iterable[str | None]) -> None:
    """Write the launch ids of a run, one per machine, into its folder; nothing if there are none."""
    if found := sorted({one for one in launch_ids if one is not None}):
        write_atomic(run.launch_ids, "".join(f"{one}\n" for one in found))
        current_runs.add(run.path)


def find_launched_run(output: Path, launch_ids: Iterable[str | None]) -> RunFolder | None:
    """The run in the folder `output` that an earlier process with one of these launch ids started, if any."""
    wanted = {one for one in launch_ids if one is not None}
    for folder in sorted(output.iterdir()) if wanted and output.is_dir() else ():
        run = RunFolder(folder)
        if folder in current_runs or not run.launch_ids.is_file():
            continue
        if wanted & set(run.launch_ids.read_text(encoding="utf-8").splitlines()):
            current_runs.add(folder)
            return run
    return None


def _start_time(process: int) -> str:
    """Start time of a process in clock ticks since boot, since process ids are reused; 0 if unknown."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[19]
    except (OSError, IndexError):  # not Linux
        return "0"
