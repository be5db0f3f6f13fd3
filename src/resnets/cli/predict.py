"""`resnets predict`: classify images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.flags import MODEL, AllowNonfinite, Amp, BatchSize, Device, Json
from resnets.cli.output import Column, print_json, print_table, print_text, stdout_errors
from resnets.runtime.formatting import format_percent, plural

if TYPE_CHECKING:
    from resnets.data.inputs import NamedImage
    from resnets.errors import ResnetsError
    from resnets.evaluate.predict import Prediction

DEFAULT_MODEL = "starter"


def run(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Images, folders of images, patterns such as 'photos/*.jpg', URLs, or - for one image on stdin.",
        ),
    ],
    model: Annotated[str | None, MODEL] = None,
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="Number of classes per image.")] = 3,
    threshold: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Leave out classes less probable than P.")
    ] = 0.0,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Search the folders in folders too.")
    ] = True,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    amp: Amp = "off",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Exit with 0 although some images cannot be read.")
    ] = False,
    as_json: Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a row per image and class: path,rank,label,probability.")
    ] = False,
    allow_nonfinite: AllowNonfinite = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the predictions to a .csv, .json, .jsonl or .parquet file."),
    ] = None,
) -> int:
    """Classify images.

    Images that cannot be read are listed on stderr; the others are classified, and the exit code is 1. Without --model
    the network is `starter`, which knows the ten classes of CIFAR-10.
    """
    from resnets import api
    from resnets.evaluate.predict import predict_images
    from resnets.evaluate.predictions import check_format, save_predictions, write_csv
    from resnets.runtime.console import Console
    from resnets.runtime.device import pick_amp, pick_device

    if as_json and as_csv:
        raise typer.BadParameter("choose one output format; pass --json or --csv", param_hint="--csv")
    if save is not None:
        check_format(save)
    # The progress bar and rows of CSV would overwrite each other in one terminal.
    console, bad = Console(quiet=as_csv and sys.stdout.isatty()), 0

    def on_bad(error: ResnetsError) -> None:
        nonlocal bad
        bad += 1
        console.warning(f"{'left out' if skip_bad else 'error'}: {_describe(error)}")

    found_images = list(_find(images, recursive, on_bad))
    if not found_images:
        return 1 if not skip_bad else 0
    bundle = api.load(model or DEFAULT_MODEL, allow_nonfinite=allow_nonfinite)
    torch_device = pick_device(device)
    if model is None:
        console.info(f"note: {DEFAULT_MODEL} knows {', '.join(bundle.classes)}; for other classes pass --model")

    def on_bad_image(error: ResnetsError) -> None:
        on_bad(error)
        console.advance(1)

    def predictions() -> Iterator[Prediction]:
        for prediction in predict_images(
            bundle,
            found_images,
            top_k=top_k,
            threshold=threshold,
            batch_size=batch_size,
            device=torch_device,
            amp=pick_amp(amp, torch_device),
            on_bad=on_bad_image,
        ):
            console.advance(1)
            yield prediction

    found: list[Prediction] = []
    with console.progress("predicting", len(found_images)):
        if as_csv and save is None:
            with stdout_errors():
                write_csv(sys.stdout, predictions())  # row by row, so that another program can read them early
        else:
            found = list(predictions())
    if save is not None:
        save_predictions(save, found)
        print_text(f"{plural(len(found), 'image')} classified with {model or DEFAULT_MODEL} ({bundle.name}): {save}")
    elif as_json:
        print_json([prediction.to_dict() for prediction in found])
    elif found:
        ranks = min(top_k, len(bundle.classes))
        titles = ["image", "prediction", *(f"#{rank}" for rank in range(2, ranks + 1))]
        print_table([Column(title, wrap=True) for title in titles], [_cells(one, ranks) for one in found])
        print_text(f"\nmodel: {model or DEFAULT_MODEL} ({bundle.name}, {len(bundle.classes):,} classes)")
    return 1 if bad and not skip_bad else 0


def _cells(prediction: Prediction, ranks: int) -> list[str]:
    classes = [f"{label} {format_percent(probability, 1)}" for label, probability in prediction.top]
    return [str(prediction.path), *classes, *["-"] * (ranks - len(classes))]


def _describe(error: ResnetsError) -> str:
    from resnets.errors import ImageError

    return f"{error.where}: {error.reason}" if isinstance(error, ImageError) else str(error)


def _find(arguments: list[str], recursive: bool, on_bad: Callable[[ResnetsError], None]) -> Iterator[NamedImage]:
    """The images that the arguments name, each once; `on_bad` hears of arguments without any."""
    from resnets.data.fetch import is_url, read_stdin
    from resnets.data.files import expand_pattern, list_images
    from resnets.data.inputs import NamedImage
    from resnets.errors import DataError

    seen: set[Path | str] = set()
    for argument in arguments:
        try:
            if argument == "-":
                named = [NamedImage("-", read_stdin())]
            elif is_url(argument):
                named = [NamedImage(argument, argument)]
            elif (Path(argument) / "args.yaml").is_file() and (Path(argument) / "resolved.yaml").is_file():
                raise DataError(f"images are required; {argument} is the folder of a run; pass it as --model")
            else:
                paths = [path for one in expand_pattern(argument) for path in list_images(one, recursive=recursive)]
                named = [NamedImage(path, path) for path in paths]
        except DataError as error:  # an ImageError too
            on_bad(error)
            continue
        for image in named:
            if image.name not in seen:
                seen.add(image.name)
                yield image
