"""A run from outside: started from a configuration, gone on with from its folder, or only shown."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resnets.data.dataset import Dataset
from resnets.data.open import BUILT_IN
from resnets.nn.model import build_model
from resnets.runtime.console import Console
from resnets.runtime.device import pick_device
from resnets.runtime.processes import World, joined
from resnets.train.config.resolve import Settings, settle
from resnets.train.config.train_config import TrainConfig, read_args, write_args
from resnets.train.freeze.plan_table import plan_lines, plan_table
from resnets.train.loop.trainer import Trainer, TrainResult
from resnets.train.run_folder.checkpoint import State
from resnets.train.run_folder.folder import RunFolder, create_run_folder, open_run_folder, working_in
from resnets.train.run_folder.keeper import newest
from resnets.train.run_folder.launch import launch, leave_launches, run_of
from resnets.train.run_folder.manifest import check_data, open_data, recall, remember
from resnets.train.run_folder.tracker import require_tensorboard
from resnets.train.verify import Verdict, check_replay, two_states
from resnets.weights.folder.model_folder import read_bundle
from resnets.weights.folder.storage import current_folder
from resnets.weights.open import load_bundle

__all__ = ["TrainPlan", "TrainResult", "plan_run", "resume", "train", "verify"]


def train(config: TrainConfig, *, console: Console | None = None) -> TrainResult:
    """Train a network from a configuration, in a new run folder.

    Under `torchrun`, every process calls it. One that was started again finds its run and goes on with it.

    Raises:
        ResnetsError: anything expected: bad data, options that contradict each other, a loss that is NaN.
    """
    with joined(config.device) as world, ExitStack() as lock:
        console = _console(console, world)
        launches = world.gather(launch(config))
        if (begun := world.from_first(lambda: run_of(Path(config.output), launches))) is not None:
            world.from_first(lambda: lock.enter_context(working_in(begun)))
            return _trainer(begun, console, world).go()  # if all its epochs are done, the report was not
        dataset = open_data(config)
        # Everything that may be wrong with options or images is found before anything is written.
        settings = _settle(config, dataset)
        pick_device(world.device(settings.config.device))
        if settings.config.tensorboard:
            require_tensorboard()
        problems = check_data(dataset, settings, console, world)
        run = world.from_first(lambda: _new_folder(settings.config, dataset, launches))
        world.from_first(lambda: lock.enter_context(working_in(run)))
        world.from_first(lambda: remember(run, dataset, problems))
        return Trainer(run, settings, dataset.without(problems), console, world=world).go()


def resume(folder: Path, *, console: Console | None = None) -> TrainResult:
    """Go on with the run in `folder` from its last state, as if it had never stopped.

    Raises:
        TrainingError: no run there, nothing to resume from, or a run that is finished.
    """
    with joined(_device(folder)) as world, ExitStack() as lock:
        run = world.from_first(lambda: open_run_folder(folder))
        world.from_first(lambda: lock.enter_context(working_in(run)))
        trainer = _trainer(run, _console(console, world), world)
        trainer.check_unfinished()
        return trainer.go()


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run would do.

    Args:
        args: every option as it was settled.
        rows: what trains when, at which rate, a row for every parameter and phase.
        lines: the same as a table for people, what trains alike in one line.
    """

    args: dict[str, Any]
    rows: list[dict[str, Any]]
    lines: list[str]


def plan_run(config: TrainConfig) -> TrainPlan:
    """What a run would do, without doing it."""
    settings = _settle(config, open_data(config))
    model, peak = build_model(settings.network, init=False), settings.config.optim.lr
    phases = settings.config.phases
    return TrainPlan(
        args=asdict(settings.config),
        rows=[asdict(row) for row in plan_table(model, phases, peak, parameters=True)],
        lines=plan_lines(plan_table(model, phases, peak)),
    )


def verify(folder: Path, *, steps: int = 100, console: Console | None = None) -> Verdict:
    """Make the last steps of the run in `folder` again, from the state before them, and compare. Writes nothing.

    Raises:
        TrainingError: no run there, or one with fewer than two states.
    """
    with joined(_device(folder)) as world:
        run = world.from_first(lambda: open_run_folder(folder))
        before, last = world.from_first(lambda: two_states(run.state))
        trainer = _trainer(run, _console(console, world), world, before)
        try:
            return check_replay(trainer, last, steps)
        finally:
            trainer.console.stop()


def _device(folder: Path) -> str:
    """What the run in `folder` computes on; only the first process's machine must have the folder."""
    args = RunFolder(folder).args
    return read_args(args).device if args.is_file() else "auto"


def _trainer(run: RunFolder, console: Console, world: World, state: State | None = None) -> Trainer:
    """The run in a folder, standing at `state`, by default the last that is whole."""
    state = state or world.from_first(lambda: newest(run, console))
    config = world.from_first(lambda: read_args(run.args))
    dataset = open_data(config)
    last = world.from_first(lambda: read_bundle(run.last) if current_folder(run.last).is_dir() else None)
    # Without a model, it was stopped in its first epoch.
    settings = settle(config, dataset, last) if last is not None else _settle(config, dataset)
    problems = world.from_first(lambda: recall(run, dataset))
    if problems is None:  # of an earlier version
        problems = check_data(dataset, settings, console, world)
    return Trainer(run, settings, dataset.without(problems), console, world=world, state=state)


def _settle(config: TrainConfig, dataset: Dataset) -> Settings:
    return settle(config, dataset, load_bundle(config.pretrained) if config.pretrained else None)


def _console(console: Console | None, world: World) -> Console:
    return (console or Console()) if world.first else Console(quiet=True, silent=True)


def _new_folder(config: TrainConfig, dataset: Dataset, launches: list[str | None]) -> RunFolder:
    run = create_run_folder(Path(config.output), config.name, f"{dataset.name}-{config.model}")
    # Found again from any folder; what is no path is a name.
    place = config.data if config.data in BUILT_IN else str(Path(config.data).resolve())
    weights = config.pretrained
    if weights is not None and Path(weights).exists():
        weights = str(Path(weights).resolve())
    write_args(run.args, replace(config, data=place, pretrained=weights))
    leave_launches(run, launches)
    return run
