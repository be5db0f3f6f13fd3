"""`resnets val`: how good a model is on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.output import Column, Line, print_json, print_table, print_text

COLUMNS = (
    Column(title="class", fold=True),
    Column(title="images", right=True),
    Column(title="precision", right=True),
    Column(title="recall", right=True),
    Column(title="F1", right=True),
)


def run(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="As for `train`; by default the run's own.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="starter, a weights file, a model folder or a run folder."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="train, val or test; by default val, or else test.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images that run through the network together.")
    ] = 128,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Decoding processes for large images; by default one a core."),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that do not decode.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The figures, for programs.")] = False,
) -> None:
    """Measure a model on labelled images.

    `resnets val runs/NAME` takes the images that the run held out. With DATA and --model, classes are matched by
    name.
    """
    from resnets import api

    if model is None:  # `resnets val runs/digits` says all there is to say
        if data is None or not (Path(data) / "args.yaml").is_file():
            raise typer.BadParameter(
                "pass starter, a run folder, a model folder or a weights file", param_hint="--model"
            )
        model, data = data, None
    evaluation = api.evaluate(
        model, data, split=split, batch_size=batch_size, device=device, workers=workers, skip_bad=skip_bad
    )
    if as_json:
        print_json({"model": model, "data": data, **evaluation.summary()})
        return
    classes = evaluation.per_class
    print_table(
        COLUMNS,
        [
            Line(
                cells=(
                    name,
                    f"{classes.support[index]:,}",
                    f"{classes.precision[index]:.4f}",
                    f"{classes.recall[index]:.4f}",
                    f"{classes.f1[index]:.4f}",
                )
            )
            for index, name in enumerate(evaluation.classes)
            if classes.support[index] or classes.predicted[index]
        ],
    )
    low, high = (100 * bound for bound in evaluation.top1_interval)
    top5 = f"; top-5 {100 * evaluation.top5:.2f} %" if evaluation.top5 is not None else ""
    print_text(
        f"\n{evaluation.correct:,} of {len(evaluation):,} images right: top-1 {100 * evaluation.top1:.2f} %"
        f" (95 % interval {low:.2f} to {high:.2f}){top5}\n"
        f"loss {evaluation.loss:.4f}, calibration error {100 * evaluation.ece:.2f} %,"
        f" balanced accuracy {100 * evaluation.balanced_accuracy:.2f} %, macro F1 {100 * evaluation.macro_f1:.2f} %"
    )
