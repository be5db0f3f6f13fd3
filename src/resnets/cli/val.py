"""`resnets val`: evaluate a model on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.flags import MODEL, BatchSize, Device, Json, SkipBad, Workers
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
        str | None, typer.Option(metavar="NAME", help="Split: train, val or test (default: val, else test).")
    ] = None,
    batch_size: BatchSize = 128,
    device: Device = "auto",
    workers: Workers = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Evaluate a model on labelled images.

    `resnets val runs/NAME` evaluates the best model of a run on the images that the run held out. Classes of DATA are
    matched with those of the model by name.
    """
    from resnets import api

    if model is None:  # `resnets val runs/digits`
        if data is None or not (Path(data) / "args.yaml").is_file():
            raise typer.BadParameter(
                "pass starter, named weights, a weights file, a model folder or a run folder", param_hint="--model"
            )
        model, data = data, None
    evaluation = api.evaluate(
        model, data, split=split, batch_size=batch_size, device=device, workers=workers, skip_bad=skip_bad
    )
    if as_json:
        print_json({"model": model, "data": data, **evaluation.summary()})
        return
    by_class = evaluation.per_class
    scores = (by_class.precision, by_class.recall, by_class.f1)
    rows = [
        (name, f"{by_class.support[i]:,}", *(f"{score[i]:.4f}" for score in scores))
        for i, name in enumerate(evaluation.classes)
        if by_class.support[i] or by_class.predicted[i]
    ]
    print_table(COLUMNS, rows)
    top5 = f", top-5 {format_percent(evaluation.top5)}" if evaluation.top5 is not None else ""
    print_text(
        f"\n{format_top1(evaluation)}{top5}\n"
        f"loss {evaluation.loss:.4f}, calibration error (ECE) {format_percent(evaluation.ece)}\n"
        f"balanced accuracy {format_percent(evaluation.balanced_accuracy)},"
        f" macro F1 {format_percent(evaluation.macro_f1)}"
    )
