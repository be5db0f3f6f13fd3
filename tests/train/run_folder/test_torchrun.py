"""Runs of processes that TorchElastic restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnets.train.config.train_config import TrainConfig
from resnets.train.run_folder import torchrun
from resnets.train.run_folder.paths import RunFolder
from resnets.train.run_folder.torchrun import find_launched_run, launch_id, write_launch_ids


def test_a_run_is_found_by_the_torchrun_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "current_runs", set())
    config = TrainConfig(data="digits")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch_id(config) is None
    assert find_launched_run(tmp_path, [None]) is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    line = launch_id(config)
    assert line == launch_id(TrainConfig(data="digits"))
    assert line != launch_id(TrainConfig(data="digits", seed=1))
    assert find_launched_run(tmp_path / "none", [line]) is None
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    write_launch_ids(run, [None])
    assert not run.launch_ids.exists()
    write_launch_ids(run, [line, "another machine's"])
    assert find_launched_run(tmp_path, [line]) is None  # its own, which a second call of `train` does not mean
    monkeypatch.setattr(torchrun, "current_runs", set())
    found = find_launched_run(tmp_path, ["nobody's", "another machine's"])
    assert found is not None
    assert found.path == run.path
    assert find_launched_run(tmp_path, [line]) is None
