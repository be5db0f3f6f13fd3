"""A run from outside: started from a configuration, gone on with from its folder, or only shown."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resnets.data.dataset import Dataset
from resnets.data.sources import BUILT_IN
from resnets.nn.model import build_model
from resnets.train.checkpoint import State
from resnets.train.config import TrainConfig, read_args, write_args
from resnets.train.distributed import World, joined
from resnets.train.folder import RunFolder, create_run_folder, open_run_folder, working_in
from resnets.train.keeper import newest
from resnets.train.launch import launch, leave_launches, run_of
from resnets.train.loop import pick_device
from resnets.train.pictures import check_data, open_data, recall, remember
from resnets.train.plan_table import plan_lines, plan_table
from resnets.train.progress import Display
from resnets.train.session import Session, TrainResult
from resnets.train.settings import Settings, settle
from resnets.train.track import require_tensorboard
from resnets.train.verify import Verdict, check_replay, two_states
from resnets.weights.bundle import read_folder
from resnets.weights.folder import standing
from resnets.weights.reference import load_bundle

__all__ = ["TrainPlan", "TrainResult", "plan_run", "resume", "train", "verify"]


def train(config: TrainConfig, *, display: Display | None = None) -> TrainResult:
    """Train a network from a configuration, in a new run folder.

    Under `torchrun`, every process calls it. One that was started again finds its run and goes on with it.

    Raises:
        ResnetsError: anything expected: bad data, options that contradict each other, a loss that is NaN.
    """
    with joined(config.device) as world, ExitStack() as lock:
        display = _display(display, world)
        launches = world.gather(launch(config))
        if (begun := world.from_first(lambda: run_of(Path(config.output), launches))) is not None:
            world.from_first(lambda: lock.enter_context(working_in(begun)))
            return _session(begun, display, world).go()  # if all its epochs are done, the report was not
        dataset = open_data(config)
        # Everything that may be wrong with options or pictures is found before anything is written.
        settings = _settle(config, dataset)
        pick_device(world.device(settings.config.device))
        if settings.config.tensorboard:
            require_tensorboard()
        problems = check_data(dataset, settings, display, world)
        run = world.from_first(lambda: _new_folder(settings.config, dataset, launches))
        world.from_first(lambda: lock.enter_context(working_in(run)))
        world.from_first(lambda: remember(run, dataset, problems))
        return Session(run, settings, dataset.without(problems), display, world=world).go()


def resume(folder: Path, *, display: Display | None = None) -> TrainResult:
    """Go on with the run in `folder` from its last state, as if it had never stopped.

    Raises:
        TrainingError: no run there, nothing to resume from, or a run that is finished.
    """
    with joined(_device(folder)) as world, ExitStack() as lock:
        run = world.from_first(lambda: open_run_folder(folder))
        world.from_first(lambda: lock.enter_context(working_in(run)))
        session = _session(run, _display(display, world), world)
        session.check_unfinished()
        return session.go()


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


def verify(folder: Path, *, steps: int = 100, display: Display | None = None) -> Verdict:
    """Make the last steps of the run in `folder` again, from the state before them, and compare. Writes nothing.

    Raises:
        TrainingError: no run there, or one with fewer than two states.
    """
    with joined(_device(folder)) as world:
        run = world.from_first(lambda: open_run_folder(folder))
        before, last = world.from_first(lambda: two_states(run.state))
        session = _session(run, _display(display, world), world, before)
        try:
            return check_replay(session, last, steps)
        finally:
            session.display.stop()


def _device(folder: Path) -> str:
    """What the run in `folder` computes on; only the first process's machine must have the folder."""
    args = RunFolder(folder).args
    return read_args(args).device if args.is_file() else "auto"


def _session(run: RunFolder, display: Display, world: World, state: State | None = None) -> Session:
    """The run in a folder, standing at `state`, by default the last that is whole."""
    state = state or world.from_first(lambda: newest(run, display))
    config = world.from_first(lambda: read_args(run.args))
    dataset = open_data(config)
    last = world.from_first(lambda: read_folder(run.last) if standing(run.last).is_dir() else None)
    # Without a model, it was stopped in its first epoch.
    settings = settle(config, dataset, last) if last is not None else _settle(config, dataset)
    problems = world.from_first(lambda: recall(run, dataset))
    if problems is None:  # of an earlier version
        problems = check_data(dataset, settings, display, world)
    return Session(run, settings, dataset.without(problems), display, world=world, state=state)


def _settle(config: TrainConfig, dataset: Dataset) -> Settings:
    return settle(config, dataset, load_bundle(config.pretrained) if config.pretrained else None)


def _display(display: Display | None, world: World) -> Display:
    return (display or Display()) if world.first else Display(quiet=True, silent=True)


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
