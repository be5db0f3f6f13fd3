"""`resnets predict`: classify images."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.flags import MODEL, BatchSize, Device, Json
from resnets.cli.output import Column, print_json, print_table
from resnets.runtime.formatting import format_percent

if TYPE_CHECKING:
    from resnets.evaluate.predict import Prediction


def run(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")],
    model: Annotated[str, MODEL] = "starter",
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="Number of classes per image.")] = 3,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Exit with 0 although some images cannot be decoded.")
    ] = False,
    as_json: Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a row per image and class: path,rank,label,probability.")
    ] = False,
) -> int:
    """Classify images.

    Images that cannot be decoded are listed on stderr; the others are classified, and the exit code is 1.
    """
    from resnets import api
    from resnets.data.files import list_images
    from resnets.errors import ImageError
    from resnets.evaluate.predict import predict_images
    from resnets.runtime.console import Console
    from resnets.runtime.device import pick_device

    if as_json and as_csv:
        raise typer.BadParameter("choose one output format; pass --json or --csv", param_hint="--csv")
    bad: list[ImageError] = []
    paths = list_images(images)
    bundle, torch_device = api.load(model), pick_device(device)
    # The progress bar and rows of CSV would overwrite each other in one terminal.
    console = Console(quiet=as_csv and sys.stdout.isatty())

    def on_bad(error: ImageError) -> None:
        bad.append(error)
        console.warning(f"{'left out' if skip_bad else 'error'}: {error.where}: {error.reason}")
        console.advance(1)

    def predictions() -> Iterable[Prediction]:
        for prediction in predict_images(
            bundle, paths, top_k=top_k, batch_size=batch_size, device=torch_device, on_bad=on_bad
        ):
            console.advance(1)
            yield prediction

    found: list[Prediction] = []
    with console.progress("predicting", len(paths)):
        if as_csv:
            _print_csv(predictions())  # row by row, so that another program can read them early
        else:
            found = list(predictions())
    if as_json:
        print_json([prediction.to_dict() for prediction in found])
    elif found:
        titles = ["image", "prediction", *(f"#{rank}" for rank in range(2, len(found[0].top) + 1))]
        print_table(
            [Column(title, wrap=True) for title in titles],
            [(str(one.path), *(f"{label} {format_percent(p, 1)}" for label, p in one.top)) for one in found],
        )
    return 1 if bad and not skip_bad else 0


def _print_csv(predictions: Iterable[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "label", "probability"])
    for prediction in predictions:
        for rank, (label, probability) in enumerate(prediction.top, start=1):
            writer.writerow([prediction.path, rank, label, f"{probability:.6f}"])
