"""Training runs: start one from a configuration, resume one from its folder, plan one, verify one."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resnets.data.check import raise_on_fatal
from resnets.data.dataset import Dataset
from resnets.data.open import BUILT_IN
from resnets.errors import TrainingError
from resnets.nn.model import build_model
from resnets.runtime.console import Console
from resnets.runtime.device import pick_amp, pick_device
from resnets.runtime.formatting import plural
from resnets.runtime.processes import Processes, join_processes
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import ResolvedConfig, read_resolved, write_resolved
from resnets.train.config.train_config import TrainConfig, read_args, write_args
from resnets.train.freeze.plan_table import format_plan_table, merge_plan_rows, plan_table
from resnets.train.loop.metrics import TrainResult
from resnets.train.loop.trainer import Trainer
from resnets.train.run_folder.bundle import check_models
from resnets.train.run_folder.checkpoint import Checkpoint, RunProgress
from resnets.train.run_folder.checkpointer import latest_checkpoint
from resnets.train.run_folder.log import class_counts_line, start_lines
from resnets.train.run_folder.manifest import check_data, open_data, read_left_out, write_manifest
from resnets.train.run_folder.paths import RunFolder, create_run_folder, lock_run_folder, open_run_folder
from resnets.train.run_folder.tensorboard import summary_writer
from resnets.train.run_folder.torchrun import find_launched_run, launch_id, write_launch_ids
from resnets.train.verify import ReplayResult, last_two_checkpoints, replay_and_compare
from resnets.weights.adapt import adapt
from resnets.weights.open import load_bundle

__all__ = ["TrainPlan", "plan_run", "resume", "train", "verify"]


def train(config: TrainConfig, *, console: Console | None = None) -> TrainResult:
    """Train a network in a new run folder.

    Under `torchrun`, every process calls it. A process that TorchElastic restarts finds its run and resumes it.

    Raises:
        ResnetsError: bad data, options that contradict each other, a loss that stays NaN.
    """
    with join_processes(config.device) as processes, ExitStack() as lock:
        console = _main_console(console, processes)
        launches = processes.all_gather(launch_id(config))
        restarted = processes.run_on_main(lambda: find_launched_run(Path(config.output), launches))
        if restarted is not None:
            processes.run_on_main(lambda: lock.enter_context(lock_run_folder(restarted)))
            return _resume(restarted, console, processes).fit()  # even if only the report is missing
        # Whatever may be wrong with options or images is found before anything is written.
        dataset = open_data(config)
        request = _with_absolute_paths(config)
        resolved = _resolve(request, dataset)
        pick_device(processes.local_device(resolved.device))
        if resolved.tensorboard:
            summary_writer()  # installed?
        problems = check_data(dataset, resolved, console, processes)
        run = processes.run_on_main(lambda: _create_folder(request, resolved, dataset, launches))
        processes.run_on_main(lambda: lock.enter_context(lock_run_folder(run)))
        processes.run_on_main(lambda: write_manifest(run, dataset, problems))
        return Trainer(run, resolved, dataset.without_undecodable(problems), console, processes=processes).fit()


def resume(folder: Path, *, console: Console | None = None) -> TrainResult:
    """Continue the run in `folder` from its last checkpoint, to the same result as if it had never stopped.

    Raises:
        TrainingError: no run in the folder, no undamaged checkpoint, or a run that is finished.
    """
    with join_processes(_requested_device(folder)) as processes, ExitStack() as lock:
        run = processes.run_on_main(lambda: open_run_folder(folder))
        processes.run_on_main(lambda: lock.enter_context(lock_run_folder(run)))
        trainer = _resume(run, _main_console(console, processes), processes)
        if run.report.exists() and trainer.is_finished():  # a run that was killed at its very end lacks its report
            patience = trainer.config.save.patience
            reason, remedy = f"ended after {patience} epochs without a better validation", "more --set patience=N"
            if trainer.progress.epoch >= trainer.config.epochs:
                reason, remedy = f"has done its {plural(trainer.config.epochs, 'epoch')}", "more --epochs"
            raise TrainingError(
                f"only an unfinished run can be resumed; {run.path} {reason}; start a new run with {remedy}"
            )
        return trainer.fit()


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run would do.

    Args:
        args: all settings, resolved.
        rows: one row per parameter and phase: whether it trains, and its learning rate.
        lines: data, settings and notes, then the rows as a table of text, parameters that train alike in one line.
    """

    args: dict[str, Any]
    rows: list[dict[str, Any]]
    lines: list[str]


def plan_run(config: TrainConfig) -> TrainPlan:
    """Show what a run would do, without training."""
    dataset = open_data(config)
    resolved = _resolve(config, dataset)
    raise_on_fatal(dataset.problems)
    device = pick_device(resolved.device)
    model = build_model(resolved.network, init=False)
    rows = plan_table(model, resolved.phases)
    start = start_lines(resolved, dataset, RunProgress(), None, device, pick_amp(resolved.amp, device))
    notes = [f"note: {problem}" for problem in dataset.problems]
    lines = [*start, class_counts_line(dataset, resolved), *notes, "", *format_plan_table(merge_plan_rows(model, rows))]
    return TrainPlan(args=resolved.to_dict(), rows=[asdict(row) for row in rows], lines=lines)


def verify(folder: Path, *, steps: int = 100, console: Console | None = None) -> ReplayResult:
    """Replay up to `steps` of the last steps of a run from its last checkpoint but one. Writes nothing.

    Raises:
        TrainingError: no run in the folder, or one with fewer than two checkpoints.
    """
    with join_processes(_requested_device(folder)) as processes:
        run = processes.run_on_main(lambda: open_run_folder(folder))
        before, last = processes.run_on_main(lambda: last_two_checkpoints(run.checkpoints))
        return replay_and_compare(_load_trainer(run, _main_console(console, processes), processes, before), last, steps)


def _resume(run: RunFolder, console: Console, processes: Processes) -> Trainer:
    """The trainer of a run that this program has locked."""
    trainer = _load_trainer(run, console, processes)
    processes.run_on_main(lambda: check_models(run, trainer.progress))
    return trainer


def _load_trainer(
    run: RunFolder, console: Console, processes: Processes, checkpoint: Checkpoint | None = None
) -> Trainer:
    """The trainer of an existing run, at `checkpoint`, by default the last undamaged one."""
    checkpoint = checkpoint or processes.run_on_main(lambda: latest_checkpoint(run, console))
    request, config = processes.run_on_main(lambda: (read_args(run.args), read_resolved(run.resolved)))
    dataset = open_data(request)
    problems = processes.run_on_main(lambda: read_left_out(run, dataset))
    if problems is None:  # killed before it had written its manifest
        problems = check_data(dataset, config, console, processes)
    return Trainer(
        run, config, dataset.without_undecodable(problems), console, processes=processes, checkpoint=checkpoint
    )


def _resolve(config: TrainConfig, dataset: Dataset) -> ResolvedConfig:
    if config.pretrained is None:
        return resolve_config(config, dataset, None)
    bundle = load_bundle(config.pretrained)
    resolved = resolve_config(config, dataset, bundle)
    adapt(bundle.model, resolved.network, where=config.pretrained)  # refuses other networks before anything is written
    return resolved


def _create_folder(
    request: TrainConfig, resolved: ResolvedConfig, dataset: Dataset, launches: list[str | None]
) -> RunFolder:
    run = create_run_folder(Path(request.output), request.name, f"{dataset.name}-{resolved.model}")
    write_resolved(run.resolved, resolved)
    write_args(run.args, request)  # last: a folder with args.yaml can be resumed
    write_launch_ids(run, launches)
    return run


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """With absolute paths of data and weights; names are kept."""
    data, weights = config.data, config.pretrained
    if weights is not None and Path(weights).exists():
        weights = str(Path(weights).resolve())
    return replace(config, data=data if data in BUILT_IN else str(Path(data).resolve()), pretrained=weights)


def _requested_device(folder: Path) -> str:
    """Device option of a run; only the main process's machine needs to have the folder."""
    args = RunFolder(folder).args
    return read_args(args).device if args.is_file() else "auto"


def _main_console(console: Console | None, processes: Processes) -> Console:
    return (console or Console()) if processes.is_main_process else Console(silent=True)
