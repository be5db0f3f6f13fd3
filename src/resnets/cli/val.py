"""`resnets val`: evaluate a model on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.flags import MODEL, AllowNonfinite, Amp, BatchSize, Device, Json, SkipBad, Workers
from resnets.cli.output import Column, format_top1, print_json, print_table, print_text
from resnets.runtime.formatting import format_percent

COLUMNS = (
    Column("class", wrap=True),
    Column("images", right=True),
    Column("precision", right=True),
    Column("recall", right=True),
    Column("F1", right=True),
)


def run(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Data as for `resnets train` (default: the data of the run).")
    ] = None,
    model: Annotated[str | None, MODEL] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Split: train, val or test (default: val, else test, else all images)."),
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Classes of DATA to those of the model: YAML, JSON, or CSV rows."),
    ] = None,
    ignore_extra: Annotated[
        bool, typer.Option("--ignore-extra", help="Leave out images of classes that the model does not have.")
    ] = False,
    labels: Annotated[
        str,
        typer.Option(metavar="name|index", help="Match classes by name, or as numbers of the model's classes from 0."),
    ] = "name",
    batch_size: BatchSize = 128,
    device: Device = "auto",
    amp: Amp = "off",
    workers: Workers = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
    allow_nonfinite: AllowNonfinite = False,
    save_predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write path, label and prediction to .csv, .json, .jsonl or .parquet."),
    ] = None,
) -> None:
    """Evaluate a model on labelled images.

    `resnets val runs/NAME` evaluates the best model of a run on the images that the run held out. Classes of DATA are
    matched with those of the model by name, or as --class-map and --labels say. A dash stands for what cannot be
    measured: the recall of a class without images, the precision of one that is never predicted.
    """
    from resnets import api

    if model is None:  # `resnets val runs/digits`
        if data is None or not (Path(data) / "args.yaml").is_file():
            runs = [] if data is None else sorted(path.parent for path in Path(data).glob("*/args.yaml"))
            if runs:
                raise typer.BadParameter(f"{data} holds runs, such as {runs[0]}; pass one of them", param_hint="DATA")
            raise typer.BadParameter(
                "pass starter, named weights, a weights file, a model folder or a run folder", param_hint="--model"
            )
        model, data = data, None
    if labels not in ("name", "index"):
        raise typer.BadParameter(f"got {labels}; choose name or index", param_hint="--labels")
    evaluation = api.evaluate(
        model,
        data,
        split=split,
        batch_size=batch_size,
        device=device,
        amp=amp,
        workers=workers,
        skip_bad=skip_bad,
        class_map=class_map,
        ignore_extra=ignore_extra,
        labels=labels,  # type: ignore[arg-type]
        allow_nonfinite=allow_nonfinite,
        save_predictions=save_predictions,
    )
    if as_json:
        details = {"per_class": evaluation.class_table(), "confusion": evaluation.confusion.tolist()}
        print_json({"model": model, "data": data, **evaluation.summary(), **details})
        return
    rows = [
        (
            row["class"],
            f"{row['images']:,}",
            *("-" if row[key] is None else f"{row[key]:.4f}" for key in ("precision", "recall", "f1")),
        )
        for row in evaluation.class_table()
        if row["images"] or row["predicted"]
    ]
    print_table(COLUMNS, rows)
    top5 = f", top-5 {format_percent(evaluation.top5)}" if evaluation.top5 is not None else ""
    print_text(
        f"\n{format_top1(evaluation)}{top5}\n"
        f"loss {evaluation.loss:.4f}, calibration error (ECE) {format_percent(evaluation.ece)}\n"
        f"balanced accuracy {format_percent(evaluation.balanced_accuracy)},"
        f" macro F1 {format_percent(evaluation.macro_f1)}"
    )
