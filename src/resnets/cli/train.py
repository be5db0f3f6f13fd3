"""`resnets train`: a network from pictures."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.arch.parse import parse_overrides, parse_size
from resnets.cli.output import print_json, print_text

# The groups of the help page.
NETWORK, RECIPE, PICTURES, MACHINE, RUN = (
    {"rich_help_panel": title} for title in ("Network", "Recipe", "Pictures", "Machine", "Run folder")
)


def run(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A folder train/CLASS/*, Parquet shards, or 'digits'.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="See `resnets models`; by default one that fits.", **NETWORK),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start from a model: starter, a file or a folder.", **NETWORK)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A field of the network, as shortcut=B; repeatable.", **NETWORK
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the pictures; 30.", **RECIPE)] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Pictures a step; up to 128, fewer for few or large ones.", **RECIPE)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="X", help="Peak learning rate; 0.1 for 128 pictures a step.", **RECIPE)
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(metavar="X", help="Of weights, not of norms and biases; 5e-4.", **RECIPE)
    ] = None,
    momentum: Annotated[float | None, typer.Option(metavar="X", help="Nesterov's; 0.9.", **RECIPE)] = None,
    warmup_epochs: Annotated[
        float | None, typer.Option(metavar="N", help="Epochs of rising learning rate; 2.", **RECIPE)
    ] = None,
    sched: Annotated[
        str | None, typer.Option(metavar="cosine|constant", help="After the warm-up; cosine.", **RECIPE)
    ] = None,
    smoothing: Annotated[float | None, typer.Option(metavar="X", help="Label smoothing; 0.1.", **RECIPE)] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of weights, order, split and augmentation; 0.", **RECIPE)
    ] = None,
    img_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Pixels a side, or HEIGHTxWIDTH; the pictures' own, or 224.", **PICTURES),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror half of them; yes, but for digits.", **PICTURES)
    ] = None,
    pad: Annotated[
        int | None, typer.Option(metavar="N", help="Pixels of padding before a crop; an eighth of a side.", **PICTURES)
    ] = None,
    cutout: Annotated[
        int | None, typer.Option(metavar="N", help="Side of a blanked-out square; 0.", **PICTURES)
    ] = None,
    val_fraction: Annotated[
        float | None, typer.Option(metavar="X", help="Held out where there is no val split; 0.1.", **PICTURES)
    ] = None,
    skip_bad: Annotated[
        bool | None, typer.Option("--skip-bad", help="Leave out what does not decode, and list it.", **PICTURES)
    ] = None,
    amp: Annotated[
        str | None, typer.Option(metavar="auto|bf16|fp16|off", help="Mixed precision; auto.", **MACHINE)
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps; auto.", **MACHINE)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Decoding processes for large pictures; one a core.", **MACHINE)
    ] = None,
    output: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where runs go; runs.", **RUN)] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="This run's folder; after data and model.", **RUN)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Go on with this run; it remembers data and options.", **RUN),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result, for programs.")] = False,
) -> int:
    """Train a network on pictures and leave a run folder: models, results, curves, a report.

    With nothing else said, network, sizes and learning rate follow from the pictures; each line below ends with what
    its option is by default. Ctrl-C leaves the best model so far; --resume goes on after the last whole epoch.
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
        from resnets.train.progress import counted

        how = "Ctrl-C" if result.stopped == signal.SIGINT else result.stopped.name
        print_text(
            f"stopped by {how} after {counted(len(result.results), 'epoch')}; go on:"
            f" resnets train --resume {result.folder}"
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
