"""`resnets predict`: what pictures show."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from resnets.cli.output import Column, Line, print_json, print_table


def run(
    pictures: Annotated[list[str], typer.Argument(metavar="IMAGE|FOLDER...", help="Pictures, or folders of them.")],
    model: Annotated[
        str, typer.Option("--model", help="starter, a weights file, a model folder or a run folder.")
    ] = "starter",
    top_k: Annotated[int, typer.Option(min=1, help="Classes to answer for each picture.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="A list, for programs.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="A line a picture and class: path,rank,label,probability.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Exit with 0 although some pictures do not decode.")
    ] = False,
) -> int:
    """Say what is in pictures.

    A picture that does not decode is named on stderr, the others are answered all the same, and the exit code is 1.
    """
    from resnets import api
    from resnets.data.files import list_images
    from resnets.errors import ImageError
    from resnets.evaluate.predict import predict_images
    from resnets.train.loop import pick_device

    bad: list[ImageError] = []

    def report(error: ImageError) -> None:
        bad.append(error)
        print(f"{'left out' if skip_bad else 'error'}: {error.where}: {error.reason}", file=sys.stderr)

    found = list_images(pictures)
    predictions = predict_images(
        api.load(model), found, top_k=top_k, batch_size=batch_size, device=pick_device(device), on_bad=report
    )
    form: Literal["json", "csv", "table"] = "json" if as_json else "csv" if as_csv else "table"
    if form == "json":
        print_json([prediction.to_dict() for prediction in predictions])
    elif form == "csv":
        import csv

        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["path", "rank", "label", "probability"])
        for prediction in predictions:
            for rank, (label, probability) in enumerate(prediction.top, start=1):
                table.writerow([prediction.path, rank, label, f"{probability:.6f}"])
    else:
        lines = [
            Line(cells=(str(one.path), *(f"{label} {100 * probability:.1f} %" for label, probability in one.top)))
            for one in predictions
        ]
        if lines:
            ranks = len(lines[0].cells) - 1
            titles = ["picture", *(["best"] if ranks else []), *(f"{rank}." for rank in range(2, ranks + 1))]
            print_table([Column(title=title, fold=True) for title in titles], lines)
    return 1 if bad and not skip_bad else 0
