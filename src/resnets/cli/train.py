"""`resnets train`: a network from pictures."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.arch.parse import parse_overrides, parse_size
from resnets.cli.output import print_json, print_text


def run(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A folder train/CLASS/*, Parquet shards, or 'digits'.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="A name from `resnets models`; by default one that fits the pictures.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pictures; by default 30.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step; by default up to 128.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; by default 0.1 for a batch of 128.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of weights, not of norms and biases; 5e-4.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of SGD with Nesterov momentum; 0.9.")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="Of rising learning rate; 2.")] = None,
    sched: Annotated[str | None, typer.Option(help="After the warm-up: cosine (the default) or constant.")] = None,
    smoothing: Annotated[float | None, typer.Option(help="Label smoothing; 0.1.")] = None,
    img_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Pixels a side, or HEIGHTxWIDTH; by default what the pictures have, or 224."),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror pictures; by default all but digits.")
    ] = None,
    pad: Annotated[
        int | None, typer.Option(help="Padding before a random crop; by default an eighth of a side.")
    ] = None,
    cutout: Annotated[int | None, typer.Option(help="Side of a blanked-out square; none.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="Start from a model: starter, a file, a folder.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="A model option, such as shortcut=B; repeatable.")
    ] = None,
    val_fraction: Annotated[float | None, typer.Option(help="Held out where the data has no val split; 0.1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation; 0.")] = None,
    amp: Annotated[str | None, typer.Option(help="Mixed precision: auto, bf16, fp16 or off.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Decoding processes for large pictures; by default one a core.")
    ] = None,
    skip_bad: Annotated[
        bool | None, typer.Option("--skip-bad", help="Leave out pictures that do not decode, and list them.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="The folder of runs; runs.")] = None,
    name: Annotated[str | None, typer.Option(help="This run's folder in it.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run folder; it remembers all other options.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result, for programs.")] = False,
) -> int:
    """Train a network on pictures and leave a run folder: models, results, curves, a report.

    With nothing else said, network, sizes and learning rate follow from the pictures. Ctrl-C leaves the best model so
    far; --resume goes on after the last whole epoch.
    """
    from resnets import api

    # What stands on the command line; the rest is the recipe's own, so that its defaults live in one place.
    chosen = {
        key: value
        for key, value in context.params.items()
        if value is not None and key not in ("data", "option", "resume", "as_json")
    }
    if img_size is not None:
        chosen["img_size"] = parse_size(img_size)
    if option:
        chosen["model_args"] = parse_overrides(option)
    if resume is not None:
        result = api.train(data, resume=resume, **chosen)
    elif data is None:
        raise typer.BadParameter("pass a folder of pictures, digits, or --resume RUN", param_hint="DATA")
    else:
        result = api.train(data, **chosen)
    _print(result, as_json)
    return 0 if result.stopped is None else 128 + int(result.stopped)


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
        how = "Ctrl-C" if result.stopped == signal.SIGINT else result.stopped.name
        print_text(
            f"stopped by {how} after {len(result.results)} epochs; go on: resnets train --resume {result.folder}"
        )
    if evaluation is not None:
        low, high = evaluation.interval
        print_text(
            f"best: epoch {result.best_epoch}, {100 * evaluation.top1:.2f} % of {len(evaluation):,} validation pictures"
            f" right (95 % interval {100 * low:.2f} to {100 * high:.2f})"
        )
    print_text(
        f"run folder  {result.folder}\n"
        f"model       {result.folder}/best\n"
        f"report      {result.folder}/report.html\n"
        f"next        resnets predict PICTURE --model {result.folder}"
    )
