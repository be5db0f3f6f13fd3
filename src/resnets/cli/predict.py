"""`resnets predict`: what images show."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.output import Column, Line, print_json, print_table

if TYPE_CHECKING:
    from resnets.evaluate.predict import Prediction


def run(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, or folders of them.")],
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="starter, a weights file, a model folder or a run folder.")
    ] = "starter",
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="Classes to answer for each image.")] = 3,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images that run through the network together.")
    ] = 32,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Exit with 0 although some images do not decode.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A list, for programs.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="A line an image and class: path,rank,label,probability.")
    ] = False,
) -> int:
    """Say what is in images.

    An image that does not decode is named on stderr, the others are answered all the same, and the exit code is 1.
    """
    from resnets import api
    from resnets.data.files import list_images
    from resnets.errors import ImageError
    from resnets.evaluate.predict import predict_images
    from resnets.runtime.console import Console
    from resnets.runtime.device import pick_device

    if as_json and as_csv:
        raise typer.BadParameter("an answer has one form; pass --json or --csv", param_hint="--csv")
    bad: list[ImageError] = []
    found = list_images(images)
    bundle, where = api.load(model), pick_device(device)
    # A bar and the lines of a table that grows would write over each other in one terminal.
    console = Console(quiet=as_csv and sys.stdout.isatty())

    def report(error: ImageError) -> None:
        bad.append(error)
        console.warning(f"{'left out' if skip_bad else 'error'}: {error.where}: {error.reason}")
        console.advance(1)

    def answers() -> Iterable[Prediction]:
        for one in predict_images(bundle, found, top_k=top_k, batch_size=batch_size, device=where, on_bad=report):
            console.advance(1)
            yield one

    console.start("predicting", len(found))
    try:
        if as_csv:
            _print_csv(answers())  # line by line: others can read on while this goes on
            return 1 if bad and not skip_bad else 0
        predictions = list(answers())
    finally:
        console.stop()
    if as_json:
        print_json([prediction.to_dict() for prediction in predictions])
    elif predictions:
        _print_table(predictions)
    return 1 if bad and not skip_bad else 0


def _print_csv(predictions: Iterable[Prediction]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["path", "rank", "label", "probability"])
    for prediction in predictions:
        for rank, (label, probability) in enumerate(prediction.top, start=1):
            table.writerow([prediction.path, rank, label, f"{probability:.6f}"])


def _print_table(predictions: list[Prediction]) -> None:
    titles = ["image", "best", *(f"#{rank}" for rank in range(2, len(predictions[0].top) + 1))]
    lines = [
        Line(cells=(str(one.path), *(f"{label} {100 * probability:.1f} %" for label, probability in one.top)))
        for one in predictions
    ]
    print_table([Column(title=title, fold=True) for title in titles], lines)
