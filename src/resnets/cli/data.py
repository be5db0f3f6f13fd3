"""`resnets data`: packing images so that training need not decode them, and checking that all is well with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.help import VerbHelp, VerbListHelp
from resnets.cli.output import Column, Line, print_json, print_table, print_text
from resnets.options.grammar import parse_size

if TYPE_CHECKING:
    from resnets.data.dataset import Dataset, Problem

__all__ = ["app"]

app = typer.Typer(
    cls=VerbListHelp,
    rich_markup_mode=None,
    subcommand_metavar="VERB ...",
    epilog="""
\b
Examples:
  resnets data check pets
  resnets data pack pets pets-256 --size 256
  resnets train pets-256 --model resnet50
""",
)

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Any data that `train` takes.")]
Workers = Annotated[int | None, typer.Option(metavar="N", min=1, help="Decoding threads; by default one a core.")]
AsJson = Annotated[bool, typer.Option("--json", help="The outcome, for programs.")]


@app.callback()
def _data() -> None:
    """Pack images for fast training, or check them."""


@app.command("pack", cls=VerbHelp, short_help="Write images decoded and resized, to be mapped into memory.")
def pack_verb(
    source: Source,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The folder to make; it must not exist.")],
    size: Annotated[
        str, typer.Option(metavar="N|HxW", help="Pixels that the shorter side keeps at most, or an exact size.")
    ] = "256",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that do not decode.")] = False,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Decode images once, make them smaller, and write their pixels to a folder that `train` takes.

    Training from it reads mapped memory and decodes nothing. It takes disk: 196 kB an image of 256x256.
    """
    import time

    from resnets.data.open import open_dataset
    from resnets.data.pack import pack
    from resnets.runtime.console import Console

    side = parse_size(size)
    dataset, console, done = open_dataset(source, val_fraction=0), Console(), 0

    def progress(now: int, _: int) -> None:
        nonlocal done
        console.advance(now - done)
        done = now

    start = time.perf_counter()
    console.start("packing", len(dataset))
    try:
        packed = pack(dataset, dest, size=side, skip_bad=skip_bad, workers=workers, progress=progress)
    finally:
        console.stop()
    seconds = time.perf_counter() - start
    if as_json:
        print_json({
            "folder": str(packed.folder),
            "images": packed.images,
            "bytes": packed.bytes,
            "seconds": round(seconds, 3),
            "left_out": [{"where": where, "reason": reason} for where, reason in packed.left_out],
        })  # fmt: skip
        return
    print_text(
        f"{packed.images:,} images, {packed.bytes / 2**20:,.1f} MiB, in {seconds:.1f} s"
        f" ({len(dataset) / max(seconds, 1e-9):,.0f} images/s): {packed.folder}"
    )
    for where, reason in packed.left_out:
        print_text(f"left out: {where}: {reason}")


@app.command("check", cls=VerbHelp, short_help="Decode every image and list what is wrong.")
def check_verb(source: Source, workers: Workers = None, as_json: AsJson = False) -> int:
    """Decode every image and list what is wrong: damaged images, classes without any, splits that lack a class.

    Exit 0 when the data are sound, 1 when not. Files that are no images are listed, but do no harm.
    """
    from resnets.data.check import check
    from resnets.data.open import open_dataset
    from resnets.runtime.console import Console

    dataset, console, done = open_dataset(source, val_fraction=0), Console(), 0

    def progress(now: int, _: int) -> None:
        nonlocal done
        console.advance(now - done)
        done = now

    console.start("checking", len(dataset))
    try:
        problems = [*dataset.problems, *check(dataset, workers=workers, progress=progress)]
    finally:
        console.stop()
    sound = all(problem.kind == "ignored" for problem in problems)
    if as_json:
        print_json(_summary(dataset, problems, sound))
    else:
        _print(dataset, problems, sound)
    return 0 if sound else 1


def _summary(dataset: Dataset, problems: list[Problem], sound: bool) -> dict[str, object]:
    return {
        "name": dataset.name,
        "sound": sound,
        "classes": len(dataset.classes),
        "splits": {split: len(images) for split, images in dataset.splits.items()},
        "problems": [
            {"kind": item.kind, "where": item.where, "reason": item.reason, "fatal": item.fatal} for item in problems
        ],
    }


def _print(dataset: Dataset, problems: list[Problem], sound: bool) -> None:
    if problems:
        columns = (Column(title="problem"), Column(title="where", fold=True), Column(title="what", fold=True))
        print_table(columns, [Line(cells=(item.kind, item.where, item.reason)) for item in problems])
        print_text("")
    splits = ", ".join(f"{split} {len(images):,}" for split, images in dataset.splits.items())
    verdict = "sound" if sound else f"{sum(item.kind != 'ignored' for item in problems):,} problems"
    print_text(f"{dataset.name}: {len(dataset.classes):,} classes, {splits} images: {verdict}")
