"""A run from outside: started from a configuration, or gone on with from its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resnets.data.check import check, quarantine, require_sound
from resnets.data.dataset import Dataset, Problem
from resnets.data.sources import BUILT_IN, open_dataset
from resnets.train.config import TrainConfig, read_args, write_args
from resnets.train.folder import create_run_folder, open_run_folder
from resnets.train.loop import pick_device
from resnets.train.progress import Display
from resnets.train.session import Session, TrainResult
from resnets.train.settings import settle
from resnets.weights.bundle import read_folder
from resnets.weights.reference import load_bundle

__all__ = ["TrainResult", "resume", "train"]


def train(config: TrainConfig, *, display: Display | None = None) -> TrainResult:
    """Train a network from a configuration, in a new run folder.

    Raises:
        ResnetsError: anything expected: bad data, options that contradict each other, a loss that is NaN.
    """
    display = display or Display()
    dataset = open_dataset(config.data, val_fraction=config.val_fraction, seed=config.seed)
    # Everything that may be wrong with options or pictures is found before anything is written.
    settings = settle(config, dataset, load_bundle(config.pretrained) if config.pretrained else None)
    pick_device(settings.config.device)
    problems = _check(dataset, settings.config, display)
    run = create_run_folder(Path(config.output), config.name, f"{dataset.name}-{settings.config.model}")
    if problems:
        dataset = quarantine(dataset, problems, run.quarantine)
    place = config.data if config.data in BUILT_IN else str(Path(config.data).resolve())
    write_args(run.args, replace(settings.config, data=place))  # found again from any folder
    return Session(run, settings, dataset, display).go()


def resume(folder: Path, *, display: Display | None = None) -> TrainResult:
    """Go on with the run in `folder` after its last whole epoch, as if it had never stopped.

    Raises:
        TrainingError: no run there, nothing to resume from, or a run that is finished.
    """
    display = display or Display()
    run = open_run_folder(folder)
    config = read_args(run.args)
    dataset = open_dataset(config.data, val_fraction=config.val_fraction, seed=config.seed)
    if problems := _check(dataset, config, display):
        dataset = quarantine(dataset, problems, run.quarantine)
    if not run.checkpoint.is_file():  # stopped in its first epoch
        start = load_bundle(config.pretrained) if config.pretrained else None
        return Session(run, settle(config, dataset, start), dataset, display).go()
    settings = settle(config, dataset, read_folder(run.last))
    going_on = Session(run, settings, dataset, display, fresh=False)
    going_on.restore()
    return going_on.go()


def _check(dataset: Dataset, config: TrainConfig, display: Display) -> list[Problem]:
    """Decode every picture once; answers those to leave out.

    Raises:
        DataError: the data is not sound, or has bad pictures that nobody said to leave out.
    """
    display.start("checking pictures", len(dataset))
    seen = 0

    def progress(done: int, total: int) -> None:
        nonlocal seen
        display.advance(done - seen)
        seen = done

    try:
        bad = check(dataset, workers=config.workers or None, progress=progress)
    finally:
        display.stop()
    for problem in dataset.problems:
        if not problem.fatal:
            display.say(f"note: {problem}")
    require_sound([*dataset.problems, *([] if config.skip_bad else bad)])
    for problem in bad:
        display.say(f"left out: {problem}")
    return bad
