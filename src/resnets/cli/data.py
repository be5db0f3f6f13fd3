"""`resnets data`: check a data set, or pack it for fast training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.flags import Json, SkipBad, Workers
from resnets.cli.help import VerbHelp, VerbListHelp
from resnets.cli.output import Column, print_json, print_table, print_text
from resnets.options.validate import parse_size
from resnets.runtime.formatting import plural

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

COLUMNS = (Column("problem"), Column("where", wrap=True), Column("reason", wrap=True))
Source = Annotated[str, typer.Argument(metavar="DATA", help="Data as for `resnets train`.")]


@app.callback()
def _data() -> None:
    """Check a data set, or pack it for fast training."""


@app.command("pack", cls=VerbHelp, short_help="Decode and resize images once, and write their pixels to a folder.")
def pack_verb(
    source: Source,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to create.")],
    size: Annotated[
        str, typer.Option(metavar="N|HxW", help="Maximum length of the shorter side in pixels, or an exact size.")
    ] = "256",
    skip_bad: SkipBad = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Decode and resize images once, and write their pixels to a folder for `resnets train`.

    Training reads the pixels from memory-mapped files and decodes nothing. An image of 256x256 takes 196 kB of disk
    space.
    """
    import time

    from resnets.data.open import open_dataset
    from resnets.data.pack import pack
    from resnets.runtime.console import Console

    pixels = parse_size(size)
    dataset, start = open_dataset(source, val_fraction=0), time.perf_counter()
    with Console().progress("packing", len(dataset)) as bar:
        packed = pack(
            dataset, dest, size=pixels, skip_bad=skip_bad, workers=workers, progress=lambda done, _: bar.update(done)
        )
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
        f"packed {plural(packed.images, 'image')}, {packed.bytes / 2**20:,.1f} MiB, in {seconds:.1f} s"
        f" ({len(dataset) / max(seconds, 1e-9):,.0f} images/s): {packed.folder}"
    )
    for where, reason in packed.left_out:
        print_text(f"left out: {where}: {reason}")


@app.command("check", cls=VerbHelp, short_help="Decode every image and list all problems.")
def check_verb(source: Source, workers: Workers = None, as_json: Json = False) -> int:
    """Decode every image and list all problems: damaged images, empty classes, splits without some class.

    Exit with 0 if there are no problems, else with 1. Files that are not images are listed but ignored.
    """
    from resnets.data.check import check
    from resnets.data.open import open_dataset
    from resnets.runtime.console import Console

    dataset = open_dataset(source, val_fraction=0)
    with Console().progress("checking", len(dataset)) as bar:
        found = check(dataset, workers=workers, progress=lambda done, _: bar.update(done))
    problems = [*dataset.problems, *found]
    count = sum(problem.kind != "ignored" for problem in problems)
    if as_json:
        print_json({
            "name": dataset.name,
            "valid": count == 0,
            "num_classes": len(dataset.classes),
            "splits": {split: len(images) for split, images in dataset.splits.items()},
            "problems": [vars(problem) for problem in problems],
        })  # fmt: skip
        return 1 if count else 0
    if problems:
        print_table(COLUMNS, [(item.kind, item.where, item.reason) for item in problems])
        print_text("")
    splits = ", ".join(f"{split} {len(images):,}" for split, images in dataset.splits.items())
    result = plural(count, "problem") if count else "no problems"
    print_text(f"{dataset.name}: {len(dataset.classes):,} classes, images: {splits}; {result}")
    return 1 if count else 0
