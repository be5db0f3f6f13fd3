"""`resnets train`: a network from images."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.output import print_json, print_text
from resnets.options.grammar import parse_settings

# The groups of the help page, which fits on a screen: all other options are reached through --set.
NETWORK, RECIPE, DATA, RUN = ({"rich_help_panel": title} for title in ("Network", "Recipe", "Images", "Run"))
HIDDEN: Any = {"hidden": True}
ASIDE = ("data", "setting", "recipe", "resume", "dry_run", "verify", "as_json")


def run(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A folder train/CLASS/*, a CSV, shards, or 'digits'.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="See `resnets models`; by default one that fits.", **NETWORK)
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start from a model: starter, a file or a folder.", **NETWORK)
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Freeze up to: stem, layer1.., backbone.", **NETWORK)
    ] = None,
    freeze_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Unfreeze after so many epochs; never.", **NETWORK)
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="See `resnets recipes`, or a YAML file.", **RECIPE)
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the images; 30.", **RECIPE)] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Images a step; up to 128, fewer for few or large ones.", **RECIPE)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="X", help="Peak learning rate; by --opt, 0.1 with sgd.", **RECIPE)
    ] = None,
    opt: Annotated[str | None, typer.Option(metavar="sgd|adamw|lamb|muon", help="Optimiser; sgd.", **RECIPE)] = None,
    sched: Annotated[
        str | None, typer.Option(metavar="NAME", help="cosine, linear, step, onecycle, constant; cosine.", **RECIPE)
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(metavar="X", help="Of weights; by --opt, 5e-4 with sgd.", **RECIPE)
    ] = None,
    label_smoothing: Annotated[float | None, typer.Option(metavar="X", help="Label smoothing; 0.1.", **RECIPE)] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="All that has no flag: --set mixup=0.2 --set shortcut=B. Lists: `resnets recipes NAME`, "
            "docs/training.md.",
            **RECIPE,
        ),
    ] = None,
    momentum: Annotated[float | None, typer.Option(**HIDDEN)] = None,
    warmup_epochs: Annotated[float | None, typer.Option(**HIDDEN)] = None,
    hflip: Annotated[bool | None, typer.Option("--hflip/--no-hflip", **HIDDEN)] = None,
    pad: Annotated[int | None, typer.Option(**HIDDEN)] = None,
    cutout: Annotated[int | None, typer.Option(**HIDDEN)] = None,
    img_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Pixels a side, or HxW; the images' own, or 224.", **DATA)
    ] = None,
    val_fraction: Annotated[
        float | None, typer.Option(metavar="X", help="Held out where there is no val split; 0.1.", **DATA)
    ] = None,
    skip_bad: Annotated[
        bool | None, typer.Option("--skip-bad", help="Leave out what does not decode, and list it.", **DATA)
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps; auto.", **RUN)
    ] = None,
    amp: Annotated[str | None, typer.Option(metavar="auto|bf16|fp16|off", help="Mixed precision; auto.", **RUN)] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Decoding processes for large images; one a core.", **RUN)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of weights, order, split and augmentation; 0.", **RUN)
    ] = None,
    output: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where runs go; runs.", **RUN)] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="This run's folder; after data and model.", **RUN)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped, at that step.", **RUN)
    ] = None,
    verify: Annotated[
        int | None, typer.Option(metavar="STEPS", help="With --resume: replay steps and compare.", **RUN)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would train when, at which rate.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result, for programs.")] = False,
) -> int:
    """Train a network on images and leave a run folder: models, results, curves, a report. What is not said follows
    from the images, or is the default behind the semicolon.
    """
    from resnets import api

    # What stands on the command line; the rest is the recipe's own, so that its defaults live in one place.
    chosen = {key: value for key, value in context.params.items() if value is not None and key not in ASIDE}
    if recipe is not None:
        chosen["recipe"] = recipe
    if freeze is not None:
        chosen["freeze.freeze"] = chosen.pop("freeze")  # beside a --set of the group that has the same name
    chosen |= parse_settings(setting or ())
    if verify is not None:
        if resume is None:
            raise typer.BadParameter("replays the steps of a run; pass --resume RUN", param_hint="--verify")
        if chosen or data is not None:
            raise typer.BadParameter("a run has its data and options; pass --resume RUN alone", param_hint="--verify")
        return _print_verdict(api.verify(resume, steps=verify), as_json)
    if resume is None and data is None:
        raise typer.BadParameter("pass a folder of images, digits, or --resume RUN", param_hint="DATA")
    if dry_run:
        if resume is not None or data is None:
            raise typer.BadParameter("shows a run before it starts; pass DATA, not --resume", param_hint="--dry-run")
        return _print_plan(api.plan_training(data, **chosen), as_json)
    result = api.train(data, resume=resume, **chosen)
    _print(result, as_json)
    return 0 if result.stopped is None else 128 + int(result.stopped)


def _print_plan(plan: Any, as_json: bool) -> int:
    if as_json:
        print_json({"args": plan.args, "plan": plan.rows})
        return 0
    print_text(f"{plan.args['model']}, {plan.args['epochs']} epochs, batch {plan.args['batch_size']}\n")
    print_text("\n".join(plan.lines))
    return 0


def _print_verdict(verdict: Any, as_json: bool) -> int:
    if as_json:
        print_json({"identical": verdict.identical, "steps": verdict.steps, "message": verdict.message})
    else:
        print_text(verdict.message)
    return 0 if verdict.identical else 1


def _print(result: Any, as_json: bool) -> None:
    evaluation = result.evaluation
    if as_json:
        print_json(
            {
                "folder": str(result.folder),
                "best_epoch": result.best_epoch,
                "epochs": len(result.results),
                "seconds": round(result.seconds, 3),
                "stopped": result.stopped.name if result.stopped else None,
                "val": evaluation.summary() if evaluation else None,
            }
        )
        return
    if result.stopped:
        from resnets.runtime.console import counted

        how = "Ctrl-C" if result.stopped == signal.SIGINT else result.stopped.name
        print_text(
            f"stopped by {how} after {counted(len(result.results), 'epoch')}; go on:"
            f" resnets train --resume {result.folder}"
        )
    if evaluation is not None:
        low, high = evaluation.top1_interval
        print_text(
            f"best: epoch {result.best_epoch}, {100 * evaluation.top1:.2f} % of {len(evaluation):,} validation images"
            f" right (95 % interval {100 * low:.2f} to {100 * high:.2f})"
        )
    print_text(
        f"run folder  {result.folder}\n"
        f"model       {result.folder}/best\n"
        f"report      {result.folder}/report.html\n"
        f"next        resnets predict IMAGE --model {result.folder}"
    )
