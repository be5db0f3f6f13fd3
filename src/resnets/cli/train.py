"""`resnets train`: train a network on images."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.completion import completer, network_names, pretrained_names, recipe_names
from resnets.cli.flags import Json, declared
from resnets.cli.output import format_top1, print_json, print_text
from resnets.options.grammar import parse_settings
from resnets.runtime.formatting import format_percent, plural
from resnets.train.config.train_config import grouped_options, option_names

# The groups of the help page, which fits on a screen; all other options are reached through --set.
NETWORK, RECIPE, DATA, RUN = "Network", "Recipe", "Images", "Run"
NOT_OPTIONS = ("data", "setting", "resume", "dry_run", "verify", "as_json")

_DECLARED = {one.name: one for options in grouped_options().values() for one in options}
_HIDDEN = typer.Option(hidden=True)


def _option(name: str, panel: str, metavar: str | None = None, *flags: str, **values: Any) -> Any:
    return declared(_DECLARED[name], panel, metavar, *flags, **values)


def _settings() -> list[str]:
    return [f"{name}=" for name in option_names()]


def run(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A folder train/CLASS/*, a CSV, shards, or 'digits'.")
    ] = None,
    task: Annotated[str | None, _option("task", DATA, "NAME", values=lambda: ["classify", "reid"])] = None,
    model: Annotated[str | None, _option("model", NETWORK, "NAME", values=network_names)] = None,
    pretrained: Annotated[str | None, _option("pretrained", NETWORK, "MODEL", values=pretrained_names)] = None,
    freeze: Annotated[str | None, _option("freeze", NETWORK, "PART")] = None,
    freeze_epochs: Annotated[int | None, _option("freeze_epochs", NETWORK, "N")] = None,
    recipe: Annotated[str | None, _option("recipe", RECIPE, "NAME", values=lambda: [*recipe_names(), "none"])] = None,
    epochs: Annotated[int | None, _option("epochs", RECIPE, "N")] = None,
    batch_size: Annotated[int | None, _option("batch_size", RECIPE, "N")] = None,
    lr: Annotated[float | None, _option("lr", RECIPE, "X")] = None,
    opt: Annotated[str | None, _option("opt", RECIPE, "NAME")] = None,
    sched: Annotated[str | None, _option("sched", RECIPE, "NAME")] = None,
    weight_decay: Annotated[float | None, _option("weight_decay", RECIPE, "X")] = None,
    label_smoothing: Annotated[float | None, _option("label_smoothing", RECIPE, "X")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other option: --set mixup=0.2 --set shortcut=B; see `resnets recipes --options`.",
            rich_help_panel=RECIPE,
            autocompletion=completer(_settings),
        ),
    ] = None,
    momentum: Annotated[float | None, _HIDDEN] = None,
    warmup_epochs: Annotated[float | None, _HIDDEN] = None,
    hflip: Annotated[bool | None, typer.Option("--hflip/--no-hflip", hidden=True)] = None,
    pad: Annotated[int | None, _HIDDEN] = None,
    cutout: Annotated[int | None, _HIDDEN] = None,
    img_size: Annotated[str | None, _option("img_size", DATA, "SIZE")] = None,
    val_fraction: Annotated[float | None, _option("val_fraction", DATA, "X")] = None,
    skip_bad: Annotated[bool | None, _option("skip_bad", DATA, "", "--skip-bad")] = None,
    device: Annotated[str | None, _option("device", RUN, "NAME")] = None,
    amp: Annotated[str | None, _option("amp", RUN)] = None,
    workers: Annotated[int | None, _option("workers", RUN, "N")] = None,
    seed: Annotated[int | None, _option("seed", RUN, "N")] = None,
    output: Annotated[str | None, _option("output", RUN, "FOLDER")] = None,
    name: Annotated[str | None, _option("name", RUN, "NAME")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Resume an interrupted run at its last step.", rich_help_panel=RUN),
    ] = None,
    verify: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --resume: repeat the last N steps and compare.", rich_help_panel=RUN),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print phases, frozen layers and learning rates, and exit.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Train a network on images. Unset options are inferred from the data or use the default shown."""
    from resnets import api

    # Only options of the command line; the defaults of all others live in their declarations.
    chosen = {key: value for key, value in context.params.items() if value is not None and key not in NOT_OPTIONS}
    if freeze is not None:
        chosen["freeze.freeze"] = chosen.pop("freeze")  # beside a --set of the group of the same name
    chosen |= parse_settings(setting or ())
    if verify is not None:
        if resume is None:
            raise typer.BadParameter("replays steps of a run; pass --resume RUN", param_hint="--verify")
        if chosen or data is not None:
            raise typer.BadParameter("a run keeps its data and options; pass --resume RUN alone", param_hint="--verify")
        return _print_verdict(api.verify(resume, steps=verify), as_json)
    if resume is None and data is None:
        raise typer.BadParameter("pass a folder of images, digits, or --resume RUN", param_hint="DATA")
    if dry_run:
        if resume is not None or data is None:
            raise typer.BadParameter(
                "shows a run before it starts; pass DATA instead of --resume", param_hint="--dry-run"
            )
        return _print_plan(api.plan_training(data, **chosen), as_json)
    result = api.train(data, resume=resume, **chosen)
    _print(result, as_json)
    return 0 if result.stopped is None else 128 + int(result.stopped)


def _print_plan(plan: Any, as_json: bool) -> int:
    if as_json:
        print_json({"args": plan.args, "plan": plan.rows})
    else:
        print_text("\n".join(plan.lines))
    return 0


def _print_verdict(verdict: Any, as_json: bool) -> int:
    if as_json:
        print_json(vars(verdict))
    else:
        print_text(verdict.message)
    return 0 if verdict.identical else 1


def _print(result: Any, as_json: bool) -> None:
    evaluation, folder = result.evaluation, shlex.quote(str(result.folder))
    if as_json:
        print_json({
            "folder": str(result.folder),
            "best_epoch": result.best_epoch,
            "epochs": len(result.results),
            "seconds": round(result.seconds, 3),
            "stopped": result.stopped.name if result.stopped else None,
            "val": measured.summary() if (measured := evaluation or result.reid) else None,
        })  # fmt: skip
        return
    if result.stopped:
        how = "Ctrl-C" if result.stopped == signal.SIGINT else result.stopped.name
        print_text(
            f"stopped by {how} after {plural(len(result.results), 'epoch')}; resume: resnets train --resume {folder}"
        )
    if evaluation is not None:
        print_text(f"best: epoch {result.best_epoch}, validation {format_top1(evaluation)}")
    if (reid := result.reid) is not None:
        found = reid.metrics
        print_text(
            f"best: epoch {result.best_epoch}, validation mAP {format_percent(found.map)}, rank-1 "
            f"{format_percent(float(found.cmc[0]))} ({reid.images:,} images of {reid.identities:,} other identities)"
        )
    use = "reid DATA" if result.task == "reid" else "predict IMAGE"
    print_text(
        f"run folder  {result.folder}\n"
        f"model       {result.folder}/best\n"
        f"report      {result.folder}/report.html\n"
        f"next        resnets {use} --model {folder}"
    )
