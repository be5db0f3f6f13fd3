"""Counting cores."""

from __future__ import annotations

import os

import pytest

from resnets.data.cores import available_cores
from resnets.data.workers import default_workers


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert available_cores() == 12
    assert default_workers() == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == default_workers() == 1
